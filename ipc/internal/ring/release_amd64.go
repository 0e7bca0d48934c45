//go:build !race

package ring

// release64 stores the word at a multiple of 8; whoever loads it sees all that
// was stored before. On amd64 each store does that. The one of package atomic
// also waits for all of them, which costs more than the rest of a small packet.
func release64(b []byte, at, v uint64) { putWord(b, at, v) }
