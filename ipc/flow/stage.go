package flow

// Above is a stage above an end, as a Set sees it. Not every packet in the end's ring
// is for the program, so the Set asks the stage. The methods must not wait and must not
// call the Set. Several goroutines may call them at once.
type Above interface {
	// Ready takes what is in the ring and reports whether there is something to
	// read, or the end.
	Ready() bool
	// Watch is Ready. watch reports whether the Set should call it again when more
	// packets come. If not, the stage looks for them itself and calls End.Changed.
	Watch() (ready, watch bool)
	// Room reports whether the stage lets a packet of n bytes be written now. If it
	// does not, the stage calls End.Changed when it does. held is how many bytes of
	// the ring the packet takes.
	Room(n int) (may bool, held int)
}

// The methods in this file are for a stage: code between a program and its end of
// a flow that puts a protocol of its own into the packets. It reads with Look and
// Drop and writes with Put and Publish, which do not wait, and waits with these. At
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

// Changed tells the set that watches e that the stage above e has something to read.
// The caller may hold any lock.
func (e *End) Changed() {
	if m := e.member.Load(); m != nil {
		m.markChanged()
	}
}

// WatchRead asks the layer to wake the set that watches e when a packet comes. If a
// packet is there already, WatchRead asks for nothing and returns true.
func (e *End) WatchRead() bool { return e.watchRead() }

// Unwatch takes e out of the set that watches it, if any.
func (e *End) Unwatch() {
	if m := e.member.Load(); m != nil {
		m.set.Remove(e)
	}
}

// Watched reports whether e is in a Set.
func (e *End) Watched() bool { return e.member.Load() != nil }
