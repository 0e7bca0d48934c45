package frct

import (
	"testing"
	"time"
)

// direct are two ends without a wire between them: what one sends the other has.
type direct struct {
	now  time.Time
	a, b *Conn
	way  [2][]byte // heads and payloads to each, one after the other
	lens [2][]int
	emit [2]Emit
}

func newDirect(cfg Config) *direct {
	d := &direct{now: epoch}
	cfg.MPL, cfg.Rand = testMPL, func() uint32 { return 1 }
	d.a, d.b = New(d.now, cfg), New(d.now, cfg)
	for from := range d.emit {
		to := 1 - from
		d.emit[from] = func(head *[HeadLen]byte, payload []byte) bool {
			d.way[to] = append(append(d.way[to], head[:]...), payload...)
			d.lens[to] = append(d.lens[to], HeadLen+len(payload))
			return true
		}
	}
	return d
}

func (d *direct) deliver(c *Conn, to int) {
	b := d.way[to]
	for _, n := range d.lens[to] {
		c.Receive(d.now, b[:n])
		b = b[n:]
	}
	d.way[to], d.lens[to] = d.way[to][:0], d.lens[to][:0]
}

// batch sends up to 32 packets and lets all of them be read and acknowledged.
func (d *direct) batch(p []byte) int {
	n := 0
	for n < 32 && d.a.Send(d.now, p, d.emit[0]) {
		n++
	}
	d.deliver(d.b, 1)
	for {
		if _, ok := d.b.Head(); !ok {
			break
		}
		d.b.Drop()
	}
	d.b.Tick(d.now, d.emit[1])
	d.now = d.now.Add(10 * time.Microsecond)
	d.deliver(d.a, 0)
	d.a.Tick(d.now, d.emit[0])
	return n
}

var kinds = []struct {
	name string
	cfg  Config
}{
	{"reliable", Config{Reliable: true, Ours: true, Window: 4096}},
	{"reliable to C", Config{Reliable: true}},
	{"in order", Config{Ours: true, Window: 4096}},
}

func BenchmarkOneWay(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			d, p := newDirect(k.cfg), make([]byte, 1400)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for n := 0; n < b.N; {
				n += d.batch(p)
			}
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	d, p := newDirect(kinds[0].cfg), make([]byte, 64)
	b.ReportAllocs()
	for range b.N {
		d.a.Send(d.now, p, d.emit[0])
		d.deliver(d.b, 1)
		d.b.Tick(d.now, d.emit[1])
		d.b.Head()
		d.b.Drop()
		d.b.Send(d.now, p, d.emit[1])
		d.deliver(d.a, 0)
		d.a.Tick(d.now, d.emit[0])
		d.a.Head()
		d.a.Drop()
		d.now = d.now.Add(10 * time.Microsecond)
	}
}

// A busy flow takes no memory for each packet.
func TestNoAllocation(t *testing.T) {
	if racing {
		t.Skip("the race detector takes memory of its own")
	}
	for _, k := range kinds {
		d, p := newDirect(k.cfg), make([]byte, 1400)
		for range 1000 {
			d.batch(p)
		}
		if n := testing.AllocsPerRun(1000, func() { d.batch(p) }); n > 0 {
			t.Errorf("%s: %.0f allocations for 32 packets", k.name, n)
		}
	}
}
