package flow

import "o7s/ipc/internal/shm"

// Reclaim gives the memory of the ring that this end writes to back to the system,
// if the ring is idle: nothing was written since the last call, and the peer has
// read all and said so. Otherwise a flow that once sent much would keep its pages.
// Reclaim also publishes what this end has read, for the peer's Reclaim.
//
// It returns true if it gave memory back. It also returns true if this end has
// written since the last call; then call again in a few seconds. It does not wait.
func (e *End) Reclaim() bool {
	e.publishRead()
	if !e.w.mu.TryLock() {
		return false
	}
	defer e.w.mu.Unlock()
	if e.w.flags.Load()&flagClosed != 0 || e.w.lent {
		return false
	}
	pos := e.w.ring.Pos()
	if pos != e.w.lastPos {
		e.w.lastPos = pos
		return true
	}
	if pos == e.w.reclaimedAt {
		return false
	}
	mem := e.w.ring.Idle()
	if mem == nil {
		return false
	}
	e.w.reclaimedAt = pos
	return shm.Discard(mem) == nil
}

// publishRead publishes what this end has read. A reader does so before it waits
// for more packets, which may be never.
func (e *End) publishRead() {
	if !e.r.mu.TryLock() {
		return
	}
	defer e.r.mu.Unlock()
	if e.r.flags.Load()&flagClosed == 0 && e.r.ring.Publish() {
		e.wakePeer()
	}
}
