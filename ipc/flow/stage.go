package flow

// The methods in this file are for a stage: code between a program and its end of
// a flow that puts a protocol of its own into the packets. It reads with Look and
// Drop and writes with Put and Show, which do not wait, and waits with these. At
// most one goroutine at a time waits in each. Deadlines do not concern them.

// AwaitRead waits until there is something to read, or no more will come, or
// KickRead is called. It may return too early.
func (e *End) AwaitRead() {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	if e.readReady() {
		return
	}
	if e.r.ring.Publish() {
		e.wakePeer()
	}
	_ = e.waitRead()
}

// AwaitRoom waits until a packet of n bytes fits, or none can be written any more,
// or KickWrite is called. It may return too early. Meanwhile Put finds no room.
func (e *End) AwaitRoom(n int) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.flags.Load()&flagEnd != 0 || e.w.ring.Gone() {
		return
	}
	_ = e.waitWrite(n)
}

// KickRead ends an AwaitRead, the next one if there is none now.
func (e *End) KickRead() { e.bell.recheck(dirRead) }

// KickWrite ends an AwaitRoom, the next one if there is none now.
func (e *End) KickWrite() { e.bell.recheck(dirWrite) }

// Changed says to the set that watches e that there is something to read above the
// ring. The caller may hold any lock.
func (e *End) Changed() {
	if m := e.member.Load(); m != nil {
		m.markChanged()
	}
}

// Watched reports whether e is in a Set.
func (e *End) Watched() bool { return e.member.Load() != nil }
