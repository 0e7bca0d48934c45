package oap

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/wiretest"
)

const root = "../.."

// handshakes returns the messages in a capture over UDP: what follows the fixed
// part of 47 bytes, and in a request the hash of 16.
func handshakes(t testing.TB, file string) (requests, replies [][]byte) {
	t.Helper()
	for _, d := range wiretest.Datagrams(t, root, file) {
		p := d.Payload
		if len(p) < 47 || !bytes.Equal(p[:4], make([]byte, 4)) {
			continue
		}
		switch {
		case p[44] == 1:
			requests = append(requests, p[63:])
		case p[44] == 2 && len(p) > 47:
			replies = append(replies, p[47:])
		}
	}
	return requests, replies
}

var now = time.Unix(1700000000, 123456789)

func TestCaptures(t *testing.T) {
	n := 0
	for _, file := range []string{"udp4-oping.pcap", "udp6-oping.pcap", "udp4-keepalive.pcap", "tools-udp4.pcap", "oap-auth-udp4.pcap"} {
		requests, replies := handshakes(t, file)
		for _, b := range append(requests, replies...) {
			m, err := parse(b)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			n++
			if got := m.append(nil); !bytes.Equal(got, b) {
				t.Errorf("%s:\n%x, is encoded as\n%x", file, b, got)
			}
		}
	}
	if n < 15 {
		t.Errorf("saw %d messages only", n)
	}
}

// The reply to a request of the C prototype is what the C prototype answered,
// but for the time.
func TestAnswerAsTheCPrototype(t *testing.T) {
	requests, replies := handshakes(t, "udp4-oping.pcap")
	got, s, err := Answer(requests[0], now)
	if err != nil || s.Ours {
		t.Fatalf("%v, %+v", err, s)
	}
	want := bytes.Clone(replies[0])
	copy(want[16:24], got[16:24])
	if !bytes.Equal(got, want) {
		t.Errorf("the reply is\n%x, want\n%x", got, want)
	}
	if Ours(requests[0]) || Ours(replies[0]) {
		t.Error("the C prototype is taken for an o7s system")
	}
}

func TestHandshake(t *testing.T) {
	a, first, err := Ask(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if !Ours(first) {
		t.Error("the request does not show an o7s system")
	}
	second := a.Again(now.Add(time.Second))
	if bytes.Equal(first, second) || !bytes.Equal(first[:16], second[:16]) {
		t.Error("the second request must have the id of the first and another time")
	}
	for _, request := range [][]byte{first, second} {
		reply, s, err := Answer(request, now)
		if err != nil || !s.Ours {
			t.Fatalf("%v, %+v", err, s)
		}
		if s, err := a.Finish(reply); err != nil || !s.Ours {
			t.Errorf("%v, %+v", err, s)
		}
	}
	other, request, _ := Ask(now, rand.Reader)
	reply, _, _ := Answer(request, now)
	if _, err := a.Finish(reply); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("the reply to another request gives %v", err)
	}
	reply[len(reply)-1] ^= 1
	if _, err := other.Finish(reply); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("a reply with another hash gives %v", err)
	}
}

// What is not plain is refused by name.
func TestMoreThanPlain(t *testing.T) {
	requests, replies := handshakes(t, "oap-auth-udp4.pcap")
	refused := 0
	for _, r := range requests {
		if _, _, err := Answer(r, now); err != nil {
			refused++
			if !errors.Is(err, core.ErrCrypt) {
				t.Error(err)
			}
		}
	}
	if refused == 0 {
		t.Error("no request with a key or a certificate is refused")
	}
	a, _, _ := Ask(now, rand.Reader)
	for _, r := range replies {
		m, _ := parse(r)
		a.id = m.ID
		if _, err := a.Finish(r); !errors.Is(err, core.ErrCrypt) {
			t.Errorf("a reply with a certificate gives %v", err)
		}
	}
}

func TestBadMessages(t *testing.T) {
	_, request, _ := Ask(now, rand.Reader)
	for n := range request {
		if _, _, err := Answer(request[:n], now); !errors.Is(err, core.ErrCrypt) {
			t.Errorf("%d bytes of a request give %v", n, err)
		}
	}
	if _, _, err := Answer(append(request, 0), now); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("a byte too many gives %v", err)
	}
	for _, at := range []int{30, 32, 34} {
		b := bytes.Clone(request)
		b[at], b[at+1] = 0x3f, 0xff
		if _, _, err := Answer(b, now); !errors.Is(err, core.ErrCrypt) {
			t.Errorf("a length past the end at %d gives %v", at, err)
		}
	}
	b := bytes.Clone(request)
	b[29] = 1
	if _, _, err := Answer(b, now); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("an unknown digest gives %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, file := range []string{"udp4-oping.pcap", "oap-auth-udp4.pcap"} {
		requests, replies := handshakes(f, file)
		for _, b := range append(requests, replies...) {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parse(b); err == nil && !bytes.Equal(m.append(nil), b) {
			t.Fatalf("%x is encoded as %x", b, m.append(nil))
		}
		a, _, _ := Ask(now, bytes.NewReader(make([]byte, idLen)))
		if _, err := a.Finish(b); err == nil {
			t.Fatal("chance found the hash of a request")
		}
		reply, s, err := Answer(b, now)
		if err != nil {
			return
		}
		if m, err := parse(reply); err != nil || m.ours() != s.Ours {
			t.Fatalf("the reply is %+v, %v", m, err)
		}
	})
}
