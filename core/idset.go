package core

import "math/bits"

// IDSet gives out small integers, the lowest free one first. The zero value
// is empty and starts at 0. It is not safe for concurrent use.
type IDSet struct {
	words []uint64 // bit set: in use
	first int      // no word below it has a free bit
	n     int
}

// Take returns the lowest integer that is not in use and marks it.
func (s *IDSet) Take() int {
	for i := s.first; ; i++ {
		if i == len(s.words) {
			s.words = append(s.words, 0)
		}
		if w := s.words[i]; w != ^uint64(0) {
			b := bits.TrailingZeros64(^w)
			s.words[i] |= 1 << b
			s.first = i
			s.n++
			return i*64 + b
		}
	}
}

// Release gives id back. It reports whether id was in use.
func (s *IDSet) Release(id int) bool {
	if id < 0 || id/64 >= len(s.words) {
		return false
	}
	i, bit := id/64, uint64(1)<<(id%64)
	if s.words[i]&bit == 0 {
		return false
	}
	s.words[i] &^= bit
	s.first = min(s.first, i)
	s.n--
	return true
}

// Len returns how many are in use.
func (s *IDSet) Len() int { return s.n }
