package frct

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"o7s/core/wiretest"
)

// captured is a packet of a flow in a capture.
type captured struct {
	fromA bool // the end whose MAC address ends with 0a
	p     []byte
}

// framesOf returns what an eth-dix layer carries for one endpoint id, without
// the head of that many bytes that a layer above puts before it.
func framesOf(t *testing.T, file string, eid uint16, above int) []captured {
	t.Helper()
	var all []captured
	for _, f := range wiretest.Frames(t, "../..", file) {
		if len(f) < 18 || binary.BigEndian.Uint16(f[12:]) != 0xa000 || binary.BigEndian.Uint16(f[14:]) != eid {
			continue
		}
		p := f[18 : 18+int(binary.BigEndian.Uint16(f[16:]))]
		all = append(all, captured{f[11] == 0x0a, p[min(above, len(p)):]})
	}
	if len(all) == 0 {
		t.Fatalf("%s has nothing for %d", file, eid)
	}
	return all
}

// The heads in C's packets are read and written byte for byte.
func TestHeadsOfC(t *testing.T) {
	tests := []struct {
		file string
		eid  uint16
		at   int
		want head
		n    int // bytes behind it
	}{
		{"frct-data-over-dix.pcap", 66, 0, head{data | runs, 0, 0x66539c79, 0}, 10},
		{"frct-data-over-dix.pcap", 66, 1, head{data | runs | ack | fc, 0x539d7a, 0xca3bd715, 0x66539c7a}, 10},
		{"frct-data-over-dix.pcap", 66, 2, head{ack | fc, 0x3bd816, 0, 0xca3bd716}, 0},
		{"frct-loss-dix.pcap", 64, 1, head{data, 0, 0xb1ec2977, 0}, 10},
		{"frct-best-oneway.pcap", 64, 0, head{ack, 0, 0, 0x741fd24e}, 0},
	}
	for _, tt := range tests {
		p := framesOf(t, tt.file, tt.eid, 0)[tt.at].p
		h, rest, err := parse(p)
		if err != nil || h != tt.want || len(rest) != tt.n {
			t.Errorf("%s: %+v, %d bytes behind it, %v; want %+v, %d", tt.file, h, len(rest), err, tt.want, tt.n)
		}
		var b [HeadLen]byte
		h.put(&b)
		if !bytes.Equal(b[:], p[:HeadLen]) {
			t.Errorf("%s: % x is written % x", tt.file, p[:HeadLen], b)
		}
	}
}

// line shows a packet as one line.
func line(p []byte) string {
	h, rest, err := parse(p)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%02x %06x %08x %08x %s", uint8(h.Flags), h.Window, h.Seq, h.Ack, rest)
}

// An end that is given what one side of a capture got, and sends what that side
// sent, sends the other bytes too.
func TestReplay(t *testing.T) {
	tests := []struct {
		name, file string
		eid        uint16
		above      int // bytes of the layer above the frames
		from, to   int // of the packets of that endpoint id
		reliable   bool
		asA        bool
	}{
		{"data, the client", "frct-data-over-dix.pcap", 66, 0, 0, 9, true, true},
		{"data, the server", "frct-data-over-dix.pcap", 66, 0, 0, 9, true, false},
		{"video, the client", "unicast-dix-misc.pcap", 65, 15, 3, 7, false, false},
		{"video, the server", "unicast-dix-misc.pcap", 65, 15, 3, 7, false, true},
		{"best one way, the client", "frct-best-oneway.pcap", 65, 0, 0, 64, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packets := framesOf(t, tt.file, tt.eid, tt.above)[tt.from:tt.to]
			var first uint32
			for _, p := range packets {
				if h, _, err := parse(p.p); err == nil && p.fromA == tt.asA && h.Flags&data != 0 {
					first = h.Seq
					break
				}
			}
			w := newWire(t, Config{Reliable: tt.reliable}, first)
			for i, p := range packets {
				if p.fromA != tt.asA {
					w.end[0].Receive(w.now, p.p)
					w.read(0)
					w.tick(0)
					if len(w.way[1]) > 0 {
						h, _ := w.next(1)
						t.Errorf("packet %d: sent %+v at once", i, h)
					}
					continue
				}
				if h, rest, _ := parse(p.p); h.Flags&data != 0 {
					w.send(0, rest)
				} else { // an acknowledgement that was due
					if w.due[0].IsZero() {
						t.Fatalf("packet %d: %s: nothing is due", i, line(p.p))
					}
					w.now = w.due[0]
					w.tick(0)
				}
				if len(w.way[1]) == 0 {
					t.Fatalf("packet %d: nothing is sent, C sent %s", i, line(p.p))
				}
				got := w.way[1][0].b
				w.way[1] = w.way[1][1:]
				if !bytes.Equal(got, p.p) {
					t.Errorf("packet %d: sent %s, C sent %s", i, line(got), line(p.p))
				}
			}
		})
	}
}

// The sender of the capture with loss: what C acknowledges is acknowledged, and
// what it has lost goes again, with the same head.
func TestReplayLoss(t *testing.T) {
	packets := framesOf(t, "frct-loss-dix.pcap", 64, 0)
	first, _, _ := parse(packets[0].p)
	w := newWire(t, Config{Reliable: true}, first.Seq)
	n := 0
	for _, p := range packets[:initial] { // congestion control, which C has not, lets no more go
		_, rest, _ := parse(p.p)
		if !w.send(0, rest) {
			t.Fatalf("packet %d must wait", n)
		}
		n++
		if got := w.way[1][len(w.way[1])-1].b; !bytes.Equal(got, p.p) {
			t.Errorf("sent %s, C sent %s", line(got), line(p.p))
		}
		w.now = w.now.Add(20 * time.Millisecond)
	}
	w.way[1] = nil
	w.now = epoch.Add(time.Second)
	w.tick(0)
	if h, rest := w.next(1); h != first || string(rest) != "AAAAAAAAAA" {
		t.Errorf("again: %+v %q", h, rest)
	}
	for _, p := range packets[initial:] {
		if h, _, _ := parse(p.p); !p.fromA {
			w.end[0].Receive(w.now, p.p)
			if s := w.end[0].Stats(); s.Bad > 0 || s.InFlight != int(first.Seq+uint32(n)-h.Ack) {
				t.Fatalf("after %s: %+v, %d sent", line(p.p), s, n)
			}
			return
		}
	}
	t.Error("C acknowledges nothing in this capture")
}
