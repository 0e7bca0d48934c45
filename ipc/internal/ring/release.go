//go:build !amd64 || race

package ring

// release64 stores the word at a multiple of 8; whoever loads it sees all that
// was stored before.
func release64(b []byte, at, v uint64) { word64(b, int(at)).Store(v) }
