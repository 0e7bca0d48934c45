package frct

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

var steps = flag.Int("steps", 0, "check the property over so many steps, of fresh seeds, in place of 300,000")

// game is two ends and a wire that input bytes move: each is one step.
type game struct {
	*wire
	cfg    Config
	sent   [2]int // packets of this end
	got    [2]int // by this end, the number of the last one plus one
	closed [2]bool
	dead   bool // an end has given up

}

// configs are what a first byte chooses.
var configs = []Config{
	{}, {Ours: true}, {Reliable: true}, {Reliable: true, Ours: true},
	{Reliable: true, Ours: true, Window: 64}, {Reliable: true, Ours: true, Window: maxWindow, Buffer: 4096},
	{Reliable: true, Buffer: 2000}, {Ours: true, Window: 64, Buffer: 1000},
}

func newGame(t testing.TB, first byte) *game {
	cfg := configs[int(first)%len(configs)]
	g := &game{cfg: cfg}
	// Numbers near where they wrap, and where their low 24 bits do.
	g.wire = newWire(t, cfg, 0xffffffff-uint32(first), 0xffffff-uint32(first)%64, 0x7fffff00+uint32(first))
	return g
}

// step takes one input byte. It returns why the flow breaks its promise.
func (g *game) step(b byte) error {
	end, arg := int(b>>4&1), int(b>>5)
	switch b & 15 {
	case 0, 1, 2:
		for range 1 + arg*arg/4 {
			if g.closed[end] || !g.send(end, numbered(g.sent[end])) {
				break
			}
			g.sent[end]++
		}
	case 3:
		g.tick(0)
		g.tick(1)
	case 4, 5, 6: // one packet comes, also out of order
		if n := len(g.way[end]); n > 0 {
			g.take(end, arg%n)
		}
	case 7: // all come
		for len(g.way[end]) > 0 {
			g.take(end, 0)
		}
		g.tick(end)
	case 8, 9: // one is lost
		if n := len(g.way[end]); n > 0 {
			g.way[end] = slices.Delete(g.way[end], arg%n, arg%n+1)
		}
	case 10: // one is doubled
		if n := len(g.way[end]); n > 0 && n < 1000 {
			g.way[end] = append(g.way[end], g.way[end][arg%n])
		}
	case 11:
		return g.readSome(end, 1+arg*8)
	case 12:
		g.pass(time.Duration(1+arg*arg*arg/8) * time.Millisecond)
	case 13: // until something is due
		if d := g.due[end]; !d.IsZero() && d.After(g.now) {
			g.pass(d.Sub(g.now))
		}
		g.tick(end)
	case 14:
		g.full[end] = arg == 0 && !g.full[end]
	case 15:
		switch arg {
		case 0:
			if !g.closed[end] && g.cfg.Ours && g.end[end].CloseWrite(g.now, g.emit(end)) {
				g.closed[end] = true
			}
		case 1:
			g.pass(132 * time.Second) // both ends forget the run
		case 2:
			g.pass(11 * time.Second)
		case 3:
			g.pass(131 * time.Second)
		default: // the wire is fair for a while, and then perhaps nobody speaks
			for range 20 {
				if err := g.turn(); err != nil || g.dead {
					return err
				}
			}
			if arg == 7 {
				g.pass(132 * time.Second)
			}
		}
	}
	g.dead = g.dead || g.err[0] != nil || g.err[1] != nil
	return nil
}

// take delivers the nth packet under way to an end.
func (g *game) take(to, n int) {
	p := g.way[to][n]
	g.way[to] = slices.Delete(g.way[to], n, n+1)
	g.end[to].Receive(g.now, p.b)
}

// pass lets time pass; packets die of age.
func (g *game) pass(d time.Duration) {
	g.now = g.now.Add(d)
	for i := range g.way {
		g.way[i] = slices.DeleteFunc(g.way[i], func(p trip) bool { return g.now.Sub(p.sent) > testMPL })
	}
}

// readSome takes up to n packets at an end and looks whether they are right.
func (g *game) readSome(end, n int) error {
	for range n {
		p, ok := g.end[end].Head()
		if !ok {
			return nil
		}
		if len(p) < 4 {
			return fmt.Errorf("end %d: a packet of %d bytes", end, len(p))
		}
		no := int(binary.BigEndian.Uint32(p))
		if g.cfg.Reliable && no != g.got[end] || no < g.got[end] || no >= g.sent[1-end] || !bytes.Equal(p, numbered(no)) {
			return fmt.Errorf("end %d: packet %d after %d of %d: % x", end, no, g.got[end], g.sent[1-end], p)
		}
		g.got[end] = no + 1
		g.end[end].Drop()
	}
	return nil
}

// finish makes the wire fair and returns what is still missing at the end.
func (g *game) finish() error {
	g.full = [2]bool{}
	if !g.cfg.Reliable { // what was lost is lost; what is sent now must come
		if err := g.turn(); err != nil {
			return err
		}
		for end := range g.end {
			for start := g.now; !g.closed[end] && !g.send(end, numbered(g.sent[end])); {
				if err := g.turn(); err != nil {
					return err
				}
				if g.now.Sub(start) > 5*time.Second {
					return fmt.Errorf("end %d: the window stays shut", end)
				}
			}
			g.sent[end]++
		}
	}
	for range 20000 {
		if err := g.turn(); err != nil || g.dead {
			return err
		}
		if len(g.way[0])+len(g.way[1]) > 0 || !g.end[0].Acknowledged() || !g.end[1].Acknowledged() {
			continue
		}
		for end := range g.end {
			if g.got[end] != g.sent[1-end] && (g.cfg.Reliable || !g.closed[1-end]) {
				return fmt.Errorf("end %d: %d of %d packets came, %+v\n%+v\n%+v", end, g.got[end], g.sent[1-end], g.cfg, g.end[0].Stats(), g.end[1].Stats())
			}
			if g.end[end].End() != g.closed[1-end] {
				return fmt.Errorf("end %d: the end %v, said %v", end, g.end[end].End(), g.closed[1-end])
			}
			if n := g.end[end].rcv.bytes + g.end[end].snd.bytes; n != 0 {
				return fmt.Errorf("end %d: %d bytes are held", end, n)
			}
		}
		return nil
	}
	return fmt.Errorf("not complete: %d of %d and %d of %d packets came\n%+v\n%+v",
		g.got[0], g.sent[1], g.got[1], g.sent[0], g.end[0].Stats(), g.end[1].Stats())
}

// turn delivers all, lets both ends read, and lets time pass until something is
// due.
func (g *game) turn() error {
	next := g.now.Add(time.Second)
	for end := range g.end {
		g.deliver(end)
		if err := g.readSome(end, 1<<30); err != nil {
			return err
		}
		g.tick(end)
		g.dead = g.dead || g.err[end] != nil
		if d := g.due[end]; !d.IsZero() && d.Before(next) {
			next = d
		}
	}
	if len(g.way[0])+len(g.way[1]) > 0 {
		next = g.now.Add(time.Millisecond)
	}
	g.pass(max(0, next.Sub(g.now)))
	return nil
}

// play plays input and returns how many steps it took, fewer than there are if
// an end has given up, and how the promise was broken.
func play(t testing.TB, input []byte) (steps int, err error) {
	if len(input) == 0 {
		return 0, nil
	}
	g := newGame(t, input[0])
	for i, b := range input[1:] {
		if err := g.step(b); err != nil || g.dead {
			return i + 1, err
		}
	}
	return len(input) - 1, g.finish()
}

// What is delivered is a prefix of what was sent, once, in order; and complete,
// if the wire is fair in the end.
func FuzzWire(f *testing.F) {
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 1<<12 {
			return
		}
		if _, err := play(t, input); err != nil {
			t.Fatal(err)
		}
	})
}

func TestProperty(t *testing.T) {
	total, seed := 300_000, uint64(1)
	if *steps > 0 {
		total, seed = *steps, uint64(time.Now().UnixNano())
	}
	if racing {
		total /= 10
	}
	games, whole := 0, 0
	for total > 0 {
		input := make([]byte, 20+seed%2000)
		rng := rand.New(rand.NewPCG(seed, 2))
		rare := uint32(1) // how rare silences are that make an end give up
		if seed%3 > 0 {
			rare += rng.Uint32N(500)
		}
		for i := range input {
			b := byte(rng.Uint32())
			if b&15 == 15 && b>>5 > 0 && b>>5 < 4 && rng.Uint32N(rare) > 0 {
				b ^= 8
			}
			input[i] = b
		}
		n, err := safely(t, input)
		if err != nil {
			t.Fatalf("seed %d, %d steps: %v", seed, len(input), err)
		}
		if games++; n == len(input)-1 {
			whole++
		}
		total -= n
		seed++
	}
	t.Logf("%d games, %d to the end", games, whole)
	if whole < games/4 {
		t.Error("most games end early: this tests little")
	}
}

// FuzzHostile gives an end that is in the middle of things whatever comes.
func FuzzHostile(f *testing.F) {
	f.Fuzz(func(t *testing.T, first byte, input []byte) {
		cfg := configs[int(first)%len(configs)]
		w := newWire(t, cfg, 100)
		for i := range 20 {
			w.send(0, numbered(i))
		}
		w.feed(0, head{Flags: data | runs, Seq: 100}, numbered(0))
		for len(input) > 0 {
			n := min(int(input[0]&31), len(input)-1)
			w.end[0].Receive(w.now, input[1:1+n])
			w.now = w.now.Add(time.Duration(input[0]>>5) * time.Millisecond)
			input = input[1+n:]
			if w.tick(0); len(w.way[1]) > 100_000 {
				t.Fatal("floods the wire")
			}
			if s := w.end[0].Stats(); s.InFlight > maxWindow || w.end[0].rcv.bytes > 8<<20 {
				t.Fatalf("%+v", s)
			}
		}
		sent := w.end[0].snd
		for d := 0; d < 300 && w.err[0] == nil; d++ { // timers end, or go on slowly
			if w.tick(0); w.due[0].IsZero() {
				break
			}
			w.now = w.due[0]
		}
		if sent.nCame < 0 || sent.nLost < 0 || sent.bytes < 0 || sent.inFlight() < 0 {
			t.Fatalf("%+v", sent)
		}
		w.end[0].Close(w.now, w.emit(0))
		if w.end[0].snd.bytes != 0 || w.end[0].rcv.bytes != 0 {
			t.Fatal("memory is held after Close")
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		h, p, err := parse(b)
		if err != nil {
			return
		}
		var again [HeadLen]byte
		h.put(&again)
		if !bytes.Equal(append(again[:], p...), b) {
			t.Fatalf("% x is written % x", b, again)
		}
		for len(p) >= rangeLen {
			from, to, rest := takeRange(p)
			if to > from && !bytes.Equal(putRange(nil, from, to), p[:rangeLen]) {
				t.Fatalf("range % x", p[:rangeLen])
			}
			p = rest
		}
	})
}

// safely is play that survives a panic, so that the seed is known.
func safely(t testing.TB, input []byte) (steps int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v\n%s", p, debug.Stack())
		}
	}()
	return play(t, input)
}
