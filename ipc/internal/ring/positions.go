package ring

import "encoding/binary"

// PositionsSize is how many bytes from the start of the memory Positions needs.
const PositionsSize = dirWords + rposAt + 8

// Positions returns how many bytes were written and how many were read in
// direction dir, 0 or 1, from a copy of the start of the memory. Both sides of
// the ring may lie.
func Positions(start []byte, dir int) (written, read uint64) {
	words := start[dir*dirWords:]
	read = binary.NativeEndian.Uint64(words[rposAt:])
	return max(binary.NativeEndian.Uint64(words[wposAt:]), read), read
}
