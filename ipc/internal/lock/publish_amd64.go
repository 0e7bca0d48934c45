//go:build !race

package lock

import "sync/atomic"

// publishUnlock is assembly: Store of package atomic is a full barrier here. Two
// more of them make a packet of 64 bytes between two cores a third slower.
//
//go:noescape
func publishUnlock(state *atomic.Uint32, first *atomic.Uint64, a uint64, second *atomic.Uint64, b uint64, flag *atomic.Uint32) bool
