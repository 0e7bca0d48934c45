package measure

import (
	"math/rand/v2"
	"testing"
)

// Against a set that remembers everything, whatever the order.
func TestSequence(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var s Sequence
		seen := make(map[uint64]bool)
		var next, received, late, again uint64
		for range 20_000 {
			n := next
			switch rng.IntN(10) {
			case 0:
				n += rng.Uint64N(20)
			case 1:
				n -= min(n, rng.Uint64N(200))
			case 2:
				if rng.IntN(100) == 0 {
					n += rng.Uint64N(3 * SequenceWindow)
				}
			case 3:
				n -= min(n, rng.Uint64N(2*SequenceWindow))
			}
			got, err := s.Extend(uint32(n))
			if !err || got != n {
				t.Fatalf("Extend(%d) after %d = %d, %v", uint32(n), next, got, err)
			}
			inTurn := s.InTurn(uint32(n))
			if follows := n == next && next > 0; inTurn && !follows || !inTurn && follows && next == received {
				t.Fatalf("InTurn(%d) after %d of %d = %v", n, received, next, inTurn)
			}
			if inTurn {
				seen[n] = true
				next++
				received++
				continue
			}
			isLate, ok := s.Take(n)
			wantOK := !seen[n] && (n >= next || next-n <= SequenceWindow)
			if ok != wantOK || isLate != (ok && n < next) {
				t.Fatalf("Take(%d) after %d = %v, %v, want ok %v", n, next, isLate, ok, wantOK)
			}
			switch {
			case !ok:
				again++
			case n < next:
				late++
				received++
			default:
				received++
			}
			seen[n] = true
			next = max(next, n+1)
		}
		if s.Received != received || s.Late != late || s.Again != again || s.Next() != next || s.Lost() != next-received {
			t.Errorf("%d received, %d late, %d again, next %d; want %d, %d, %d, %d", s.Received, s.Late, s.Again, s.Next(), received, late, again, next)
		}
	}
}

// Numbers go on where their 32 bits wrap around, and there is none before 0.
func TestSequenceExtend(t *testing.T) {
	s := Sequence{next: 1 << 32}
	for low, want := range map[uint32]uint64{0: 1 << 32, 5: 1<<32 + 5, 1<<32 - 1: 1<<32 - 1} {
		if n, ok := s.Extend(low); n != want || !ok {
			t.Errorf("Extend(%d) = %d, %v, want %d", low, n, ok, want)
		}
	}
	if _, ok := new(Sequence).Extend(1<<32 - 1); ok {
		t.Error("a number before the first is taken")
	}
}

func BenchmarkSequence(b *testing.B) {
	var s Sequence
	for n := uint64(0); b.Loop(); n++ {
		s.Take(n)
	}
}
