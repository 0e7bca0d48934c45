//go:build !race

// Package release stores words for another core to load: whoever loads such a
// word, by package atomic, sees all that was stored before it. That, and no
// more, is what handing over needs, and package atomic has no word for it: its
// Store also keeps this core from loading anything until the others have seen
// the word, which costs more than the rest of a small packet.
package release

import (
	"sync/atomic"
	"unsafe"
)

// Every store of an amd64 processor is seen after those before it, and Go's
// compiler keeps stores in their order.

// Store64 stores v in w.
func Store64(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }

// Store32 stores v in w.
func Store32(w *atomic.Uint32, v uint32) { *(*uint32)(unsafe.Pointer(w)) = v }
