package frct

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var long = flag.Bool("long", false, "also share links that take long to simulate")

// A flow takes what a bottleneck has, and shares it: with another of its kind
// and with TCP within a factor of two, where the queue is long enough to show.
func TestFairness(t *testing.T) {
	if racing {
		t.Skip("one goroutine, and long")
	}
	paths := []struct {
		mbit  float64
		trip  time.Duration
		queue float64 // round trips' worth of bytes
		long  bool
	}{
		{10, 10 * time.Millisecond, 1, false},
		{10, 40 * time.Millisecond, 0.25, false},
		{10, 40 * time.Millisecond, 2, true},
		{50, 10 * time.Millisecond, 0.25, false},
		{50, 10 * time.Millisecond, 2, true},
		{50, 40 * time.Millisecond, 0.25, true},
		{50, 40 * time.Millisecond, 1, true},
		{50, 40 * time.Millisecond, 2, true},
	}
	for _, p := range paths {
		if p.long && !*long {
			continue
		}
		mbit, trip, queue := p.mbit, p.trip, p.queue
		rate := mbit * 1e6 / 8
		bdp := rate * trip.Seconds()
		name := fmt.Sprintf("%v Mbit/s, %v, queue %v", mbit, trip, queue)
		path := func(s *sim) (there, back *link) {
			return &link{sim: s, rate: rate, queue: int(bdp * queue), delay: trip / 2}, &link{sim: s, delay: trip / 2}
		}
		ours := Config{Reliable: true, Ours: true, Window: maxWindow, Buffer: 16 << 20}
		const during = 120 * time.Second

		s := newSim(1)
		there, back := path(s)
		a, b := newPair(s, ours, there, back)
		a.more = -1
		a.work()
		s.run(during)
		share := func(n int) float64 { return float64(n) * 1452 / rate / during.Seconds() }
		alone := share(b.read)
		if alone < 0.85 {
			t.Errorf("%s: takes %.2f of the link, %+v", name, alone, a.c.Stats())
		}

		s = newSim(2)
		there, back = path(s)
		a, b = newPair(s, ours, there, back)
		c, d := newPair(s, ours, there, back)
		a.more, c.more = -1, -1
		a.work()
		s.after(5*time.Second, c.work)
		s.run(20 * time.Second)
		before := [2]int{b.read, d.read}
		s.run(during)
		x, y := share(b.read-before[0]), share(d.read-before[1])

		s = newSim(3)
		there, back = path(s)
		a, b = newPair(s, ours, there, back)
		a.more = -1
		tcp := newReno(s, there, back)
		s.after(time.Second, a.work)
		tcp.work()
		s.run(20 * time.Second)
		before = [2]int{b.read, tcp.acked}
		s.run(during)
		z, w := share(b.read-before[0]), share(tcp.acked-before[1])
		t.Logf("%s: alone %.2f, two %.2f %.2f, with TCP %.2f %.2f", name, alone, x, y, z, w)
		if x+y < 0.85 || x > 2*y || y > 2*x {
			t.Errorf("%s: two take %.2f and %.2f", name, x, y)
		}
		if z+w < 0.85 || z > 2*w || w > 2*z {
			t.Errorf("%s: with TCP %.2f and %.2f", name, z, w)
		}
	}
}

// One packet in a hundred lost by noise costs little.
func TestNoise(t *testing.T) {
	if racing {
		t.Skip("one goroutine, and long")
	}
	rate := func(loss float64) float64 {
		s := newSim(1)
		path := func() *link { return &link{sim: s, delay: 10 * time.Millisecond, loss: loss} }
		a, b := newPair(s, Config{Reliable: true, Ours: true, Window: 1024}, path(), path())
		a.more = -1
		a.work()
		s.run(3 * time.Second)
		was := b.read
		s.run(3 * time.Second)
		t.Logf("loss %v: %d/s, %+v", loss, (b.read-was)/3, a.c.Stats())
		return float64(b.read-was) / 3
	}
	clean, noisy := rate(0), rate(0.01)
	if noisy < 0.6*clean {
		t.Errorf("%.0f packets/s with 1 %% loss, %.0f without", noisy, clean)
	}
}
