package ring

import (
	"sync/atomic"
	"unsafe"
)

// All unsafe code of the package is here: it turns places in a []byte into
// atomic words. Each checks its bounds; callers pass multiples of 8.

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

// load64 loads the word at a multiple of 8 once.
func load64(b []byte, at uint64) uint64 {
	return (*atomic.Uint64)(unsafe.Pointer((*[8]byte)(b[at:]))).Load()
}

// putWord stores the word at a multiple of 8. The other side does not look at it
// before the next Publish.
func putWord(b []byte, at, v uint64) {
	*(*uint64)(unsafe.Pointer((*[8]byte)(b[at:]))) = v
}
