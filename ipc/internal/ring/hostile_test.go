package ring

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/testkit"
)

func TestConsumerRefusesEveryViolation(t *testing.T) {
	const size = MinSize
	head := func(c *Consumer, h uint64) {
		binary.NativeEndian.PutUint64(c.buf[c.pos&c.mask:], h)
	}
	// Each starts from a consumer that stands at 24 and finds a valid packet
	// of 8 bytes there, then gets one thing wrong.
	for _, tt := range []struct {
		name string
		do   func(c *Consumer)
	}{
		{"packet of one byte too many", func(c *Consumer) { head(c, core.MaxPacket+1) }},
		{"reserved bits", func(c *Consumer) { head(c, 8|1<<32) }},
		{"length with the sign bit", func(c *Consumer) { head(c, 1<<63|8) }},
		{"skip with reserved bits", func(c *Consumer) { head(c, 1<<40|skipMark) }},
		{"two skips", func(c *Consumer) {
			head(c, skipMark)
			binary.NativeEndian.PutUint64(c.buf, skipMark)
		}},
		{"written less than a ring before what was read", func(c *Consumer) { c.limit = c.pos; c.w.wpos.Store(c.pos - size) }},
		{"written more than a ring ahead", func(c *Consumer) { c.limit = c.pos; c.w.wpos.Store(c.pos + size + 8) }},
		{"written half of all numbers away", func(c *Consumer) { c.limit = c.pos; c.w.wpos.Store(1 << 63) }},
		{"packet across the end", func(c *Consumer) {
			// Walk to the last 16 bytes, then claim more than is there.
			c.pos = size - 16
			c.published = c.pos
			head(c, 9)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c, _ := link(t, size)
			put(t, p, 10, 1)
			get(t, c, 10, 1)
			put(t, p, 8, 2)
			tt.do(c)
			for range 2 { // and it does not get better
				at := c.pos
				if n, wake := c.GetFast(make([]byte, 2*core.MaxPacket)); n != 0 || wake || c.pos != at {
					t.Fatalf("GetFast: %d, %v, went on by %d", n, wake, c.pos-at)
				}
				var p [4][]byte
				if n, err := c.Look(p[:]); n != 0 || !errors.Is(err, core.ErrCorrupt) || c.pos != at {
					t.Fatalf("Look: %d, %v, went on by %d", n, err, c.pos-at)
				}
				if n, err := c.Next(); n != 0 || !errors.Is(err, core.ErrCorrupt) {
					t.Fatalf("Next: %d, %v", n, err)
				}
			}
		})
	}
}

func TestProducerRefusesEveryViolation(t *testing.T) {
	for _, tt := range []struct {
		name string
		rpos func(p *Producer) uint64
	}{
		{"ahead of what is written", func(p *Producer) uint64 { return p.pos + 8 }},
		{"behind what it was", func(p *Producer) uint64 { return p.rpos - 8 }},
		{"odd", func(p *Producer) uint64 { return p.rpos + 4 }},
		{"at the end of numbers", func(*Producer) uint64 { return ^uint64(7) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, c, _ := link(t, MinSize)
			// Stand somewhere in the middle, full.
			for i := range 100 {
				put(t, p, 1000, i)
			}
			for i := range 50 {
				get(t, c, 1000, i)
			}
			c.Publish()
			for {
				if ok, err := p.Put(testkit.Packet(1000, 1)); err != nil {
					t.Fatal(err)
				} else if !ok {
					break
				}
			}
			p.w.rpos.Store(tt.rpos(p))
			if ok, err := p.Put(testkit.Packet(1000, 1)); ok || !errors.Is(err, core.ErrCorrupt) {
				t.Errorf("Put: %v, %v", ok, err)
			}
			if ok, err := p.Room(1000, true); ok || !errors.Is(err, core.ErrCorrupt) {
				t.Errorf("Room: %v, %v", ok, err)
			}
			if b, err := p.Reserve(1000); b != nil || !errors.Is(err, core.ErrCorrupt) {
				t.Errorf("Reserve: %v, %v", b, err)
			}
		})
	}
}

// The length is loaded once: what the peer makes of it later changes nothing.
func TestHeaderIsLoadedOnce(t *testing.T) {
	p, c, _ := link(t, MinSize)
	put(t, p, 100, 1)
	if n, err := c.Next(); n != 100 || err != nil {
		t.Fatal(n, err)
	}
	for _, h := range []uint64{0, 5000, skipMark, ^uint64(0)} {
		binary.NativeEndian.PutUint64(c.buf, h)
		if n, err := c.Next(); n != 100 || err != nil || len(c.Head()) != 100 {
			t.Errorf("header %#x: %d, %v", h, n, err)
		}
	}
	c.Take(100)
	if c.pos != recordSize(100) {
		t.Errorf("stands at %d", c.pos)
	}
}

// scribbler writes into the memory of a ring what a hostile peer might: mostly
// things that are nearly right, since plain noise is refused at the first look.
type scribbler struct {
	p *Producer
	c *Consumer
}

func (s scribbler) do(what, at byte, v uint64) {
	near := func(x uint64) uint64 { return x + (v%64)*8 - 128 }
	buf := s.c.buf
	here := (uint64(at)*8 + s.c.w.rpos.Load()) & s.c.mask &^ 7
	switch what % 10 {
	case 0:
		s.c.w.wpos.Store(near(s.c.w.wpos.Load()))
	case 1:
		s.p.w.rpos.Store(near(s.p.w.rpos.Load()))
	case 2:
		s.c.w.wpos.Store(s.p.w.rpos.Load() + v%(2*MinSize)&^7)
	case 3:
		s.p.w.rpos.Store(s.c.w.wpos.Load() - v%(2*MinSize)&^7)
	case 4:
		binary.NativeEndian.PutUint64(buf[here:], v%(core.MaxPacket+2))
	case 5:
		binary.NativeEndian.PutUint64(buf[here:], skipMark)
	case 6:
		binary.NativeEndian.PutUint64(buf[here:], v)
	case 7:
		s.c.w.wpos.Store(v)
	case 8:
		s.p.w.rpos.Store(v)
	case 9:
		s.c.w.rwait.Store(uint32(v))
		s.p.w.wwait.Store(uint32(v >> 8))
		s.p.w.eof.Store(uint32(v >> 16))
		s.p.w.gone.Store(uint32(v >> 24))
	}
}

// use makes both sides do something, and fails if a bound is broken. It returns
// false when a side refused.
func (s scribbler) use(t testing.TB, what byte, n int) bool {
	n = 1 + n%core.MaxPacket
	switch what % 6 {
	case 0:
		ok, err := s.p.Put(make([]byte, n))
		if ok {
			s.p.Publish()
		}
		return check(t, err)
	case 1:
		b, err := s.p.Reserve(n)
		if b != nil {
			if len(b) != n {
				t.Fatalf("Reserve(%d): %d bytes", n, len(b))
			}
			clear(b)
			s.p.Commit(1 + n/2)
			s.p.Publish()
		}
		return check(t, err)
	case 2:
		_, err := s.p.Room(n, n%2 == 0)
		if u := s.p.Unread(); u < 0 || u > MinSize {
			t.Fatalf("%d bytes unread in a ring of %d", u, MinSize)
		}
		return check(t, err)
	case 4:
		var p [8][]byte
		got, err := s.c.Look(p[:1+n%8])
		for _, b := range p[:got] {
			if len(b) < 1 || len(b) > core.MaxPacket {
				t.Fatalf("Look: a packet of %d bytes", len(b))
			}
			_ = append([]byte(nil), b...)
		}
		s.c.Drop(n % (got + 1))
		return check(t, err)
	}
	if n%2 == 0 {
		b := make([]byte, n)
		if m, _ := s.c.GetFast(b); m < 0 || m > n {
			t.Fatalf("GetFast: %d bytes into %d", m, n)
		}
	}
	m, err := s.c.Next()
	if m < 0 || m > core.MaxPacket || m > 0 && len(s.c.Head()) != m {
		t.Fatalf("Next: %d bytes, head of %d", m, len(s.c.Head()))
	}
	if m > 0 {
		_ = append([]byte(nil), s.c.Head()...)
		s.c.Take(1 + n%m)
	} else {
		s.c.Publish()
	}
	return check(t, err)
}

func check(t testing.TB, err error) bool {
	if err != nil && !errors.Is(err, core.ErrCorrupt) {
		t.Fatalf("error %v", err)
	}
	return err == nil
}

// FuzzHostilePeer runs a program of uses and scribbles: 4 bytes each.
func FuzzHostilePeer(f *testing.F) {
	f.Add([]byte{0, 0, 10, 0, 3, 0, 10, 0})
	f.Add([]byte{0, 0, 10, 0, 20, 0, 0, 1, 3, 0, 10, 0})
	f.Add([]byte{0, 0, 10, 0, 0, 0, 20, 0, 20, 2, 0, 1, 4, 0, 7, 0, 4, 0, 7, 0})
	f.Fuzz(func(t *testing.T, prog []byte) {
		p, c, _ := link(t, MinSize)
		s := scribbler{p, c}
		for ; len(prog) >= 4; prog = prog[4:] {
			v := uint64(prog[2]) | uint64(prog[3])<<8
			if prog[0] < 16 {
				if !s.use(t, prog[0], int(v)) {
					return // poisoned: the caller stops here
				}
				continue
			}
			if prog[0]&1 != 0 {
				v *= 0x9e3779b97f4a7c15
			}
			s.do(prog[0]>>1, prog[1], v)
		}
	})
}

// The same while the other side writes and reads, in memory that the race
// detector does not watch.
func TestScribblingWhileBothSidesWork(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	mem, err := unix.Mmap(-1, 0, Bytes(MinSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	for round := range rounds {
		clear(mem[:page])
		p, _ := NewProducer(mem, MinSize, 0)
		c, _ := NewConsumer(mem, MinSize, 0)
		// The scribbler has its own view: it may not look into ours.
		hp, _ := NewProducer(mem, MinSize, 0)
		hc, _ := NewConsumer(mem, MinSize, 0)
		var wg sync.WaitGroup
		wg.Go(func() {
			s := scribbler{p: &p, c: &c}
			rnd := rand.New(rand.NewPCG(uint64(round), 1))
			for range 3000 {
				if !s.use(t, byte(rnd.IntN(3)), rnd.IntN(3000)) {
					return
				}
			}
		})
		wg.Go(func() {
			s := scribbler{p: &p, c: &c}
			rnd := rand.New(rand.NewPCG(uint64(round), 2))
			for range 3000 {
				if !s.use(t, byte(3+rnd.IntN(2)), rnd.IntN(3000)) {
					return
				}
			}
		})
		wg.Go(func() {
			s := scribbler{p: &hp, c: &hc}
			rnd := rand.New(rand.NewPCG(uint64(round), 3))
			for range 2000 {
				// Mostly headers: a wrong position ends the round.
				what := byte(4 + rnd.IntN(2))
				if rnd.IntN(100) == 0 {
					what = byte(rnd.IntN(10))
				}
				s.do(what, byte(rnd.IntN(256)), rnd.Uint64())
			}
		})
		wg.Wait()
	}
}
