package measure

// SequenceWindow is how many numbers back a Sequence remembers.
const SequenceWindow = 1 << 16

// Sequence counts packets that are numbered from 0: those that came in order, those
// that came late and those that came twice. Its memory is of a fixed size. The zero
// value is ready. While packets come in order it does not touch the window.
type Sequence struct {
	Received uint64 // each number once
	Late     uint64 // of Received: after a higher number
	Again    uint64 // received before, or older than the window

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

// InTurn counts the packet whose number has the lower 32 bits low, if it follows the
// last packet and no packet is missing. Else, and for the first packet of all, it
// reports false: then the caller uses Extend and Take. InTurn is short because nearly
// all packets need nothing else.
func (s *Sequence) InTurn(low uint32) bool {
	if low != uint32(s.next) || s.holes != 0 || s.next == 0 {
		return false
	}
	s.next++
	s.Received++
	return true
}

// Take counts the packet n. late says that a higher number came before. ok is false
// for a packet that was counted before, or that is older than the window.
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
	s.clear(n) // the bit may still be set for the number one window before
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
