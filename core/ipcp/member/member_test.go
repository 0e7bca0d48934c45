package member

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/wiretest"
)

const root = "../../.."

// first returns the packets of a capture with which flows between members begin.
func first(t testing.TB) (hellos, oep [][]byte) {
	for _, f := range wiretest.DixFrames(t, root, "unicast-over-dix.pcap") {
		switch {
		case f.EID == 0 || len(f.Payload) < 2:
		case f.Payload[0] == 0x0a && f.Payload[1] > 8:
			hellos = append(hellos, f.Payload)
		case f.Payload[0] == 0x0a && f.Payload[1] == 8:
			oep = append(oep, f.Payload)
		}
	}
	for _, d := range wiretest.Datagrams(t, root, "broadcast-udp4.pcap") {
		if len(d.Payload) < 6 || d.Payload[4] != 0x0a {
			continue
		}
		switch p := d.Payload[4:]; {
		case p[1] > 8:
			hellos = append(hellos, p)
		case p[1] == 8:
			oep = append(oep, p)
		}
	}
	return hellos, oep
}

func TestCapturedHellos(t *testing.T) {
	hellos, _ := first(t)
	seen := make(map[Component]int)
	for _, b := range hellos {
		h, err := ParseHello(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		seen[h.Component]++
		if got := h.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%x is encoded as\n%x", b, got)
		}
	}
	for _, c := range []Component{Enrollment, Management, DataTransfer, {Name: "Data Transfer"}} {
		if seen[c] < 2 {
			t.Errorf("%+v was seen %d times", c, seen[c])
		}
	}
	if h, _ := ParseHello(hellos[2]); h.Component != Management || h.Address != 0xa0ce5d4e {
		t.Errorf("the third is %+v", h)
	}
}

func TestCapturedEnrollments(t *testing.T) {
	_, oep := first(t)
	if len(oep) != 6 {
		t.Fatalf("%d messages, want those of two enrollments", len(oep))
	}
	for i, b := range oep {
		var got []byte
		var err error
		switch i % 3 {
		case 0:
			var r Request
			r, err = ParseRequest(b)
			got = r.Append(nil)
		case 1:
			var r Response
			r, err = ParseResponse(b)
			got = r.Append(nil)
			if i == 1 && (r.Code != 0 || r.Config.Layer != "net1" || r.Config.Hash != hash.SHA3_256.Wire() || r.Config.Type != 1 || r.Config.Parts == nil) {
				t.Errorf("the response is %+v, %+v", r, r.Config)
			}
			if i == 4 && (r.Config.Layer != "bc1" || r.Config.Type != 2 || r.Config.Parts != nil) {
				t.Errorf("the response of the broadcast layer is %+v", r.Config)
			}
		case 2:
			var a Ack
			a, err = ParseAck(b)
			got = a.Append(nil)
		}
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("message %d: %v\n%x, is encoded as\n%x", i, err, b, got)
		}
	}
}

func TestRefusalHasNoConfig(t *testing.T) {
	want := Response{ID: ID{1}, Time: time.Unix(7, 8), Code: -1004}
	got, err := ParseResponse(want.Append(nil))
	if err != nil || got.Code != -1004 || got.Config != nil || !got.Time.Equal(want.Time) {
		t.Errorf("%+v, %v", got, err)
	}
}

// full is a flow whose other end says that there is no room.
type full struct {
	ipcp.Lower
	closed chan struct{}
	once   sync.Once
}

func (f *full) WritePacket([]byte) error { <-f.closed; return core.ErrClosed }
func (f *full) Close() error             { f.once.Do(func() { close(f.closed) }); return nil }

// Nobody waits long for a flow that takes nothing.
func TestNoRoom(t *testing.T) {
	ctx := context.Background()
	for what, say := range map[string]func(ipcp.Lower) error{
		"accept": func(f ipcp.Lower) error { return Accept(ctx, clock.Real, f, Management, 1) },
		"refuse": func(f ipcp.Lower) error { Refuse(ctx, clock.Real, f); return core.ErrTimeout },
		"greet":  func(f ipcp.Lower) error { _, err := Greet(ctx, clock.Real, f, Hello{}); return err },
		"ask": func(f ipcp.Lower) error {
			_, err := Ask(ctx, clock.Real, nil, f, ID{}, func(Config) error { return nil })
			return err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			if err := say(&full{closed: make(chan struct{})}); !errors.Is(err, core.ErrTimeout) {
				t.Errorf("%s: %v", what, err)
			}
			if took := time.Since(start); took != sendTime {
				t.Errorf("%s takes %v", what, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // and not at all when the member ends
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if err := Accept(ctx, clock.Real, &full{closed: make(chan struct{})}, Management, 1); !errors.Is(err, core.ErrCanceled) {
			t.Errorf("when the member ends: %v", err)
		}
	})
}

func TestBadMessages(t *testing.T) {
	hellos, oep := first(t)
	long := func(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n-len(b))...) }
	hello := func(b []byte) error { _, err := ParseHello(b); return err }
	request := func(b []byte) error { _, err := ParseRequest(b); return err }
	response := func(b []byte) error { _, err := ParseResponse(b); return err }
	ack := func(b []byte) error { _, err := ParseAck(b); return err }
	for what, c := range map[string]struct {
		parse func([]byte) error
		b     []byte
	}{
		"a hello of 129 bytes":                {hello, long(hellos[0], 129)},
		"a hello one byte short":              {hello, hellos[0][:len(hellos[0])-1]},
		"a hello without an address":          {hello, hellos[0][:len(hellos[0])-2]},
		"no hello":                            {hello, nil},
		"a request with an id of 7 bytes":     {request, []byte("\x0a\x071234567")},
		"a request with an id of 9 bytes":     {request, []byte("\x0a\x09123456789")},
		"a request one byte short":            {request, oep[0][:len(oep[0])-1]},
		"a hello one byte long":               {hello, append(bytes.Clone(hellos[0]), 0)},
		"a request one byte long":             {request, append(bytes.Clone(oep[0]), 0)},
		"an acknowledgement one byte short":   {ack, oep[2][:len(oep[2])-1]},
		"an acknowledgement one byte long":    {ack, append(bytes.Clone(oep[2]), 0)},
		"a response one byte short":           {response, oep[1][:len(oep[1])-1]},
		"a response one byte long":            {response, append(bytes.Clone(oep[1]), 0)},
		"a response of 1,025 bytes":           {response, long(oep[1], 1025)},
		"a response without a configuration":  {response, Response{}.Append(nil)},
		"a response without a layer's name":   {response, Response{Config: &Config{}}.Append(nil)},
		"a response with a name of 256 bytes": {response, Response{Config: &Config{Layer: string(make([]byte, 256))}}.Append(nil)},
		"an answer without a result":          {ack, oep[0]},
	} {
		if err := c.parse(c.b); !errors.Is(err, core.ErrMessage) && !errors.Is(err, core.ErrUsage) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	hellos, oep := first(f)
	for _, b := range append(hellos, oep...) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHello(b); err == nil {
			if again, err := ParseHello(h.Append(nil)); err == nil && again != h {
				t.Errorf("%+v is encoded and decoded as %+v", h, again)
			}
		}
		if r, err := ParseRequest(b); err == nil && !bytes.Equal(r.Append(nil)[:10], append([]byte{0x0a, 8}, r.ID[:]...)) {
			t.Errorf("%+v is encoded as %x", r, r.Append(nil))
		}
		if r, err := ParseResponse(b); err == nil {
			again, err := ParseResponse(r.Append(nil))
			if err != nil && len(r.Append(nil)) <= maxOEP || err == nil && again.Code != r.Code {
				t.Errorf("%+v is encoded and decoded as %+v, %v", r, again, err)
			}
		}
		_, _ = ParseAck(b)
	})
}
