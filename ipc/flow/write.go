package flow

import (
	"runtime"

	"o7s/core"
)

// Write sends p as one packet if it has at most core.MaxPacket bytes, or what Bound
// said, and as several packets otherwise. An empty p sends nothing. Write waits for
// room until the write deadline. It returns how many bytes were sent, in whole
// packets, and an error if they are fewer than len(p). No packets of other
// goroutines come between those of one Write.
func (e *End) Write(p []byte) (int, error) {
	if uint(len(p)-1) >= uint(e.w.cut) {
		return e.writeMany(p)
	}
	if err := e.put(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeMany is Write of more or less than one packet.
func (e *End) writeMany(p []byte) (n int, err error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	for n < len(p) {
		b := p[n:min(n+e.w.cut, len(p))]
		if err := e.putHeld(b); err != nil {
			return n, err
		}
		n += len(b)
	}
	return n, nil
}

// WritePacket sends p as one packet; an empty p sends nothing. It waits for
// room until the write deadline. More than MaxPacket bytes are refused
// with an error that wraps core.ErrUsage.
func (e *End) WritePacket(p []byte) error {
	if uint(len(p)-1) >= uint(e.w.largest) {
		if len(p) == 0 {
			return nil
		}
		return e.w.tooLarge
	}
	return e.put(p)
}

// TryWritePacket is WritePacket that does not wait. If there is no room now, or
// another goroutine's Write waits for room, it returns ErrFull, which wraps
// core.ErrLimit. The reader gives room back in pieces of up to an eighth of the ring,
// so ErrFull can come a little early.
func (e *End) TryWritePacket(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if len(p) > e.w.largest {
		return e.w.tooLarge
	}
	if !e.w.enter() {
		return ErrFull
	}
	defer e.w.mu.Unlock()
	if err := e.writable(); err != nil {
		return err
	}
	ok, err := e.w.ring.Put(p)
	if err != nil {
		return e.corrupt(err)
	}
	if !ok {
		return ErrFull
	}
	e.publish()
	return nil
}

// batchBytes is how much WriteBatch writes before it publishes. It fits in a core's
// first cache.
const batchBytes = 16 << 10

// WriteBatch sends each of packets as WritePacket does, and returns how many it
// sent. An error is about the packet after those. The reader is notified once for
// many packets, which saves a few nanoseconds a packet if packets are small.
func (e *End) WriteBatch(packets [][]byte) (int, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	from := e.w.ring.Pos()
	for i, p := range packets {
		var err error
		switch {
		case len(p) == 0:
			continue
		case len(p) > e.w.largest:
			err = e.w.tooLarge
		default:
			if e.w.fast() && !e.w.ring.Gone() {
				ok, bad := e.w.ring.Put(p)
				if ok {
					if e.w.ring.Since(from) >= batchBytes {
						e.publish()
						e.yieldToReader()
						from = e.w.ring.Pos()
					}
					continue
				}
				if bad != nil {
					return i, e.corrupt(bad)
				}
			}
			// putHeld may wait for room, and the reader must not wait for us.
			e.flush(from)
			err = e.putHeld(p)
			from = e.w.ring.Pos()
		}
		if err != nil {
			e.flush(from)
			return i, err
		}
	}
	e.flush(from)
	return len(packets), nil
}

// flush publishes what was committed after from. On a closed end it does nothing.
func (e *End) flush(from uint64) {
	if e.w.ring.Since(from) > 0 {
		e.publish()
	}
}

// publish lets the reader see what is committed and notifies it.
func (e *End) publish() {
	raceRelease()
	e.w.ring.Publish()
	e.notifyReader()
}

// publishUnlock is publish, and unlocks e.w.mu.
func (e *End) publishUnlock() {
	raceRelease()
	if !e.w.ring.PublishUnlock(&e.w.mu) {
		e.notifyReader()
		e.w.mu.Unlock()
	} else if !e.w.checkDue.Load() {
		e.checkPeerLater()
	}
}

// notifyReader wakes the reader if it sleeps. If the reader does not sleep,
// notifyReader makes sure that its death will be noticed. The caller has just
// published.
func (e *End) notifyReader() {
	if e.w.ring.Wake() {
		e.wakePeer()
	} else if !e.w.checkDue.Load() {
		e.checkPeerLater()
	}
}

// yieldToReader lets a reader run that has not moved for long. If the reader shares
// this core, it then finds the packets in the core's cache, and the writer finds
// the free room there afterwards. On another core the call costs next to nothing.
// The caller holds e.w.mu and has published what it wrote.
func (e *End) yieldToReader() {
	if e.w.ring.Stalled() {
		yield(e.local())
	}
}

// put sends one packet of 1 to core.MaxPacket bytes and waits for room.
func (e *End) put(p []byte) error {
	e.w.mu.Lock()
	if e.w.fast() && !e.w.ring.Gone() && e.w.ring.PutFast(p) {
		e.publishUnlock()
		return nil
	}
	err := e.putHeld(p)
	e.w.mu.Unlock()
	return err
}

// putHeld is put for a caller that holds e.w.mu.
func (e *End) putHeld(p []byte) error {
	for {
		if err := e.writable(); err != nil {
			return err
		}
		ok, err := e.w.ring.Put(p)
		if err != nil {
			return e.corrupt(err)
		}
		if ok {
			e.publish()
			e.yieldToReader()
			return nil
		}
		if err := e.waitWrite(len(p)); err != nil {
			return err
		}
	}
}

// writable returns why no packet can be written now, or any more.
func (e *End) writable() error {
	flags := e.w.flags.Load()
	switch {
	case flags&flagClosed != 0:
		return core.ErrClosed
	case flags&flagPeer != 0:
		return e.reason()
	case flags&flagShut != 0:
		return ErrShut
	case e.w.lent:
		return ErrLent
	case flags&flagFailed != 0:
		return e.reason()
	case e.w.ring.Gone():
		return ErrPeerClosed
	case flags&flagDead != 0:
		return core.ErrFlowDown
	case flags&flagDeadline != 0 && e.w.expired():
		return core.ErrTimeout
	}
	return nil
}

// enter locks h.mu, unless its holder sleeps. It waits for a holder that is busy.
func (h *half) enter() bool {
	for {
		if h.mu.TryLock() {
			return true
		}
		if h.asleep.Load() {
			return false
		}
		runtime.Gosched()
	}
}
