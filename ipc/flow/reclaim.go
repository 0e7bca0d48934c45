package flow

import "o7s/ipc/internal/shm"

// Reclaim gives back the memory of the ring that this end writes to, where it
// lay idle: nothing was written since the last call, and the peer has read all
// and said so. A flow that sent much once keeps its pages else. It also tells the
// peer what this end has read, for the peer's Reclaim.
//
// It reports whether it gave memory back, or this end has written since the last
// call: then the next call may, and should come in a few seconds. It does not
// wait for anybody.
func (e *End) Reclaim() bool {
	e.tellRead()
	if !e.w.mu.TryLock() {
		return false
	}
	defer e.w.mu.Unlock()
	if e.w.att.Load()&attClosed != 0 || e.w.lent {
		return false
	}
	pos := e.w.ring.Pos()
	if pos != e.w.seen {
		e.w.seen = pos
		return true
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

// tellRead tells the peer what this end has read. Whoever reads says so before
// it waits for more, which may be never.
func (e *End) tellRead() {
	if !e.r.mu.TryLock() {
		return
	}
	defer e.r.mu.Unlock()
	if e.r.att.Load()&attClosed == 0 && e.r.ring.Publish() {
		e.ring()
	}
}
