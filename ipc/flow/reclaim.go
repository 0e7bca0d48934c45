package flow

import "o7s/ipc/internal/shm"

// Reclaim gives back the memory of the ring that this end writes to, where it
// lay idle: nothing was written since the last call, and the peer has read all.
// It reports whether it did. A flow that sent much once keeps its pages else.
// Call it every few seconds; it does not wait for anybody.
func (e *End) Reclaim() bool {
	if !e.w.mu.TryLock() {
		return false
	}
	defer e.w.mu.Unlock()
	if e.w.att.Load()&(attClosed|attLent) != 0 {
		return false
	}
	pos := e.w.ring.Pos()
	if pos != e.w.seen {
		e.w.seen = pos
		return false
	}
	if pos == e.w.forgot {
		return false
	}
	mem := e.w.ring.Idle()
	if mem == nil {
		return false
	}
	e.w.forgot = pos
	return shm.Forget(mem) == nil
}
