//go:build !race

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
