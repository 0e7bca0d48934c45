package measure

// SequenceWindow is how many numbers back a Sequence remembers.
const SequenceWindow = 1 << 16

// Sequence tells of numbered packets, from 0, which come in order, late or
// twice, in fixed memory. The zero value is ready. While all come in order, as
// most do, it touches none of that memory.
type Sequence struct {
	Received uint64 // each number once
	Late     uint64 // of Received: after a higher number
	Again    uint64 // received before, or so old that nobody remembers

	next    uint64                      // one more than the highest number
	holes   int                         // bits in missing
	missing [SequenceWindow / 64]uint64 // of the numbers below next
}

// Next returns one more than the highest number so far.
func (s *Sequence) Next() uint64 { return s.next }

// Lost returns how many numbers below next have not come.
func (s *Sequence) Lost() uint64 { return s.next - s.Received }

// Extend returns the number whose lower 32 bits are low and that is nearest to
// those that came last. It reports false for one before the first.
func (s *Sequence) Extend(low uint32) (uint64, bool) {
	n := int64(s.next) + int64(int32(low-uint32(s.next)))
	return uint64(n), n >= 0
}

// InTurn counts the packet whose number's lower 32 bits are low, if it is the one
// that follows the last and none is missing; else, and for the first of all, it
// reports false, and Extend and Take are to be asked. It is small, for what
// happens to nearly all packets.
func (s *Sequence) InTurn(low uint32) bool {
	if low != uint32(s.next) || s.holes != 0 || s.next == 0 {
		return false
	}
	s.next++
	s.Received++
	return true
}

// Take counts the packet n. late says that a higher number came before; ok is
// false for one that came before itself, or is too old to know.
func (s *Sequence) Take(n uint64) (late, ok bool) {
	if n == s.next && s.holes == 0 {
		s.next++
		s.Received++
		return false, true
	}
	return s.take(n)
}

func (s *Sequence) take(n uint64) (late, ok bool) {
	if n < s.next {
		if s.next-n > SequenceWindow || !s.clear(n) {
			s.Again++
			return false, false
		}
		s.Received++
		s.Late++
		return true, true
	}
	if n-s.next >= SequenceWindow {
		for i := range s.missing {
			s.missing[i] = ^uint64(0)
		}
		s.holes = SequenceWindow
	} else {
		for i := s.next; i < n; i++ {
			s.set(i)
		}
	}
	s.clear(n) // what is left of the number a window before
	s.next = n + 1
	s.Received++
	return false, true
}

func (s *Sequence) set(n uint64) {
	word, bit := &s.missing[n%SequenceWindow/64], uint64(1)<<(n%64)
	if *word&bit == 0 {
		*word |= bit
		s.holes++
	}
}

// clear reports whether n was missing.
func (s *Sequence) clear(n uint64) bool {
	word, bit := &s.missing[n%SequenceWindow/64], uint64(1)<<(n%64)
	if *word&bit == 0 {
		return false
	}
	*word &^= bit
	s.holes--
	return true
}
