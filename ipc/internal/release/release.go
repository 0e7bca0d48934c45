//go:build !amd64 || race

package release

import "sync/atomic"

// Store64 stores v in w.
func Store64(w *atomic.Uint64, v uint64) { w.Store(v) }

// Store32 stores v in w.
func Store32(w *atomic.Uint32, v uint32) { w.Store(v) }
