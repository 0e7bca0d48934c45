package frct

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// epoch is when each test begins.
var epoch = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// testMPL is that of the layers on Ethernet.
const testMPL = 100 * time.Millisecond

// trip is a packet under way.
type trip struct {
	b    []byte
	sent time.Time
}

// wire joins two ends under a clock that the test moves. It loses nothing by
// itself: a test takes packets from way.
type wire struct {
	t    testing.TB
	now  time.Time
	end  [2]*Conn
	due  [2]time.Time
	way  [2][]trip // to end 0, to end 1
	full [2]bool   // the layer of this end takes nothing
	cut  [2]bool   // what this end sends is lost
	err  [2]error
}

// newWire returns two ends. first gives the sequence numbers of their runs.
func newWire(t testing.TB, cfg Config, first ...uint32) *wire {
	w := &wire{t: t, now: epoch}
	if cfg.MPL == 0 {
		cfg.MPL = testMPL
	}
	for i := range w.end {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		mine := first
		cfg.Rand = func() uint32 {
			if len(mine) > 0 {
				n := mine[0]
				mine = mine[1:]
				return n
			}
			return rng.Uint32()
		}
		w.end[i] = New(w.now, cfg)
	}
	return w
}

// emit returns the Emit of an end.
func (w *wire) emit(from int) Emit {
	return func(head *[HeadLen]byte, payload []byte) bool {
		if w.full[from] {
			return false
		}
		if w.cut[from] {
			return true
		}
		w.way[1-from] = append(w.way[1-from], trip{append(bytes.Clone(head[:]), payload...), w.now})
		return true
	}
}

func (w *wire) send(from int, p []byte) bool { return w.end[from].Send(w.now, p, w.emit(from)) }

func (w *wire) tick(at int) {
	w.due[at], w.err[at] = w.end[at].Tick(w.now, w.emit(at))
}

// next takes the oldest packet to an end off the wire.
func (w *wire) next(to int) (head, []byte) {
	w.t.Helper()
	if len(w.way[to]) == 0 {
		w.t.Fatal("nothing was sent")
	}
	b := w.way[to][0].b
	w.way[to] = w.way[to][1:]
	h, p, err := parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return h, p
}

// deliver delivers all that is under way to an end.
func (w *wire) deliver(to int) {
	for _, p := range w.way[to] {
		w.end[to].Receive(w.now, p.b)
	}
	w.way[to] = nil
	w.tick(to)
}

// run delivers everything, in order, 1 ms later, for d.
func (w *wire) run(d time.Duration) {
	w.tick(0)
	w.tick(1)
	for end := w.now.Add(d); ; {
		next := end.Add(1)
		if len(w.way[0])+len(w.way[1]) > 0 {
			next = w.now.Add(time.Millisecond)
		}
		for i := range w.due {
			if d := w.due[i]; !d.IsZero() && d.Before(next) {
				next = d
			}
		}
		if next.Before(w.now) {
			next = w.now
		}
		if next.After(end) {
			w.now = end
			return
		}
		w.now = next
		w.deliver(0)
		w.deliver(1)
	}
}

// read takes all that is ready at an end.
func (w *wire) read(at int) [][]byte {
	var all [][]byte
	for {
		p, ok := w.end[at].Head()
		if !ok {
			return all
		}
		all = append(all, bytes.Clone(p))
		w.end[at].Drop()
	}
}

// packet is the nth that a test sends.
func numbered(n int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(n)), make([]byte, n%50)...)
}

// wantNumbered fails unless got is numbered from on.
func wantNumbered(t testing.TB, got [][]byte, from, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d packets came, want %d", len(got), n)
	}
	for i, p := range got {
		if !bytes.Equal(p, numbered(from+i)) {
			t.Fatalf("packet %d is % x", from+i, p)
		}
	}
}

// feed gives a packet to an end.
func (w *wire) feed(to int, h head, payload []byte) {
	var b [HeadLen]byte
	h.put(&b)
	w.end[to].Receive(w.now, append(b[:], payload...))
}
