package ring

import (
	"sync/atomic"
	"unsafe"
)

// All unsafe code of the package is in this file. It turns offsets in a []byte
// into atomic words. Each function checks the bounds; the offsets that callers
// pass are multiples of 8.

// aligned reports whether 64-bit atomics work at multiples of 8 in b.
func aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0
}

func word32(b []byte, at int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer((*[4]byte)(b[at:])))
}

func word64(b []byte, at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer((*[8]byte)(b[at:])))
}

// load64 loads a word, once.
func load64(b []byte, at uint64) uint64 {
	return (*atomic.Uint64)(unsafe.Pointer((*[8]byte)(b[at:]))).Load()
}

// putWord stores a word that the other side does not load before Publish.
func putWord(b []byte, at, v uint64) {
	*(*uint64)(unsafe.Pointer((*[8]byte)(b[at:]))) = v
}
