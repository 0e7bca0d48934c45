//go:build !amd64 || race

package lock

import "sync/atomic"

func publishUnlock(state *atomic.Uint32, first *atomic.Uint64, a uint64, second *atomic.Uint64, b uint64, flag *atomic.Uint32) bool {
	first.Store(a)
	second.Store(b)
	return flag.Load() == 0 && state.CompareAndSwap(held, free)
}
