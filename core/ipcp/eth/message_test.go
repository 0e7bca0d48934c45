package eth

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"o7s/core"
	"o7s/core/ipcp/port"
	"o7s/core/wiretest"
)

const root = "../../.."

type frame struct {
	to, from port.MAC
	body     []byte // without the Ethernet header, and of LLC without padding
}

// frames returns the frames of a protocol in a capture.
func frames(t testing.TB, file string, proto port.Proto) []frame {
	t.Helper()
	var all []frame
	for _, b := range wiretest.Frames(t, root, file) {
		typ := binary.BigEndian.Uint16(b[12:])
		f := frame{port.MAC(b[:6]), port.MAC(b[6:12]), b[14:]}
		switch {
		case proto == port.LLC && typ < 0x0600:
			f.body = f.body[:typ]
		case proto == port.LLC || typ != uint16(proto):
			continue
		}
		all = append(all, f)
	}
	return all
}

var captures = []struct {
	file  string
	f     *format
	proto port.Proto
	mgmt  int // messages, at least
}{
	{"eth-dix-oping.pcap", dix, 0xa000, 4},
	{"eth-dix-eids.pcap", dix, 0xa000, 8},
	{"oap-encrypted-dix.pcap", dix, 0xa000, 8},
	{"unicast-over-dix.pcap", dix, 0xa000, 8},
	{"frct-loss-dix.pcap", dix, 0xa000, 2},
	{"eth-llc-oping.pcap", llc, port.LLC, 4},
}

// Each frame of the C prototype is decoded, and encoded again byte for byte.
func TestCaptures(t *testing.T) {
	for _, c := range captures {
		mgmt := 0
		for i, f := range frames(t, c.file, c.proto) {
			dst, src, payload, err := c.f.parse(f.body)
			if err != nil {
				t.Errorf("%s, frame %d: %v", c.file, i+1, err)
				continue
			}
			got := make([]byte, c.f.head)
			c.f.put(got, dst, src, len(payload))
			if c.f.isMgmt(dst, src) {
				m, err := c.f.message(payload)
				if err != nil {
					t.Errorf("%s, frame %d: %v", c.file, i+1, err)
					continue
				}
				mgmt++
				got = c.f.append(got, &m)
			} else {
				got = append(got, payload...)
			}
			if !bytes.Equal(got, f.body[:len(got)]) {
				t.Errorf("%s, frame %d:\n%x, is encoded as\n%x", c.file, i+1, f.body, got)
			}
		}
		if mgmt < c.mgmt {
			t.Errorf("%s: %d management messages, want %d", c.file, mgmt, c.mgmt)
		}
	}
}

func TestMessages(t *testing.T) {
	h, _ := hex.DecodeString("75ff1adbaa63f40a72536a9a7cb62326f38f63534b37dabc665f27bc9a69867e")
	var got []message
	for _, f := range frames(t, "eth-dix-oping.pcap", 0xa000)[:4] {
		_, _, payload, _ := dix.parse(f.body)
		m, err := dix.message(payload)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	for i, want := range []code{nameQuery, nameReply, flowRequest, flowReply} {
		if got[i].Code != want {
			t.Errorf("message %d has code %d, want %d", i+1, got[i].Code, want)
		}
	}
	if !bytes.Equal(got[0].Rest, h) || !bytes.Equal(got[1].Rest, h) {
		t.Error("the query or its reply has another hash")
	}
	if r := got[2]; r.SEID != 0x40 || r.QoS != core.QoSRaw || !bytes.Equal(r.Rest[:32], h) || len(r.Rest) != 32+36 {
		t.Errorf("the request is %+v", r)
	}
	if r := got[3]; r.SEID != 0x40 || r.DEID != 0x40 || r.Response != 0 || len(r.Rest) != 84 {
		t.Errorf("the reply is %+v", r)
	}
	// Where the ids differ: the responder's comes first in a reply.
	n := 0
	for _, f := range frames(t, "eth-dix-eids.pcap", 0xa000) {
		dst, src, payload, _ := dix.parse(f.body)
		if m, err := dix.message(payload); err == nil && dix.isMgmt(dst, src) && m.Response != 0 {
			n++
			if m.Response != -1008 || m.DEID != 0x41 || m.SEID != 0x40 {
				t.Errorf("the refusal is %+v", m)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d refusals, want 1", n)
	}
}

func TestBadFrames(t *testing.T) {
	for _, tt := range []struct {
		f    *format
		b    []byte
		what string
	}{
		{dix, []byte{0, 0, 0}, "a runt"},
		{dix, []byte{0, 1, 0, 9, 1, 2, 3}, "a length beyond the frame"},
		{dix, []byte{0xff, 0xff, 0xff, 0xff}, "a length of 65535"},
		{llc, []byte{0x80, 0x80}, "a runt"},
		{llc, []byte{0x80, 0x80, 0x7f, 1}, "another control field"},
	} {
		if dst, src, p, err := tt.f.parse(tt.b); err == nil {
			t.Errorf("%s is taken for %d, %d, %x", tt.what, dst, src, p)
		}
	}
	for _, f := range []*format{dix, llc} {
		whole := f.append(nil, &message{Code: nameQuery})
		for n := range whole {
			if _, err := f.message(whole[:n]); err == nil {
				t.Errorf("%d of %d bytes are taken for a message", n, len(whole))
			}
		}
		if _, err := f.message(f.append(nil, &message{Code: flowBye + 1})); err == nil {
			t.Error("an unknown code is taken")
		}
	}
	// The id that is never given, and SAPs above those that are.
	if dst, _, _, err := llc.parse([]byte{0xff, 0xff, 3}); err != nil || dst != 255 {
		t.Errorf("SAP 255 is %d, %v", dst, err)
	}
}

func TestMaxPayload(t *testing.T) {
	for _, tt := range []struct {
		f         *format
		mtu, want int
	}{{dix, 1500, 1496}, {dix, 9000, 8996}, {dix, 3, 0}, {llc, 1500, 1497}, {llc, 9000, 1497}, {llc, 100, 97}} {
		if got := tt.f.maxPayload(tt.mtu); got != tt.want {
			t.Errorf("MTU %d: %d, want %d", tt.mtu, got, tt.want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, c := range captures[:3] {
		for _, fr := range frames(f, c.file, c.proto) {
			f.Add(fr.body, false)
		}
	}
	for _, fr := range frames(f, "eth-llc-oping.pcap", port.LLC) {
		f.Add(fr.body, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, isLLC bool) {
		form := dix
		if isLLC {
			form = llc
		}
		dst, src, payload, err := form.parse(b)
		if err != nil {
			return
		}
		if !form.isMgmt(dst, src) {
			return
		}
		m, err := form.message(payload)
		if err != nil {
			return
		}
		again, err := form.message(form.append(nil, &m))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Fatalf("%+v is encoded and decoded as %+v, %v", m, again, err)
		}
	})
}
