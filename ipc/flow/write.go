package flow

import (
	"runtime"

	"o7s/core"
)

// Write sends p as one packet if it has at most core.MaxPacket bytes, or what
// Bound said, as several otherwise; an empty p sends nothing. It waits for room until the
// write deadline. It returns how many bytes were sent, in whole packets, and an
// error if they are fewer than len(p). Packets of other goroutines are not
// mixed into those of one Write.
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

// TryWritePacket is WritePacket, but it returns ErrFull, which wraps
// core.ErrLimit, rather than wait: also while another goroutine's Write waits
// for room. The reader gives room back in pieces of up to an eighth of the
// ring, so ErrFull can come a little early.
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

// batchBytes is how much WriteBatch writes before the reader may see it: one
// core's first cache holds it.
const batchBytes = 16 << 10

// WriteBatch sends each of packets as WritePacket does, and returns how many it
// sent; an error belongs to the one after those. The reader is told once for
// many, which saves a few nanoseconds a packet where packets are small.
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
			if e.w.usual() && !e.w.ring.Gone() {
				ok, bad := e.w.ring.Put(p)
				if ok {
					if e.w.ring.Unpublished(from) >= batchBytes {
						e.publish()
						e.pace()
						from = e.w.ring.Pos()
					}
					continue
				}
				if bad != nil {
					return i, e.corrupt(bad)
				}
			}
			// Whoever waits for room must show first what is there.
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

// flush publishes what was committed after from. It does nothing on an end
// that is closed: a Close waits for the lock, so the memory is still there, but
// nobody is to hear of what a failed call left.
func (e *End) flush(from uint64) {
	if e.w.ring.Unpublished(from) > 0 {
		e.publish()
	}
}

// publish lets the reader see what is committed and notifies it.
func (e *End) publish() {
	raceRelease()
	e.w.ring.Publish()
	e.notify()
}

// publishUnlock is publish, and unlocks e.w.mu.
func (e *End) publishUnlock() {
	raceRelease()
	if !e.w.ring.PublishUnlock(&e.w.mu) {
		e.notify()
		e.w.mu.Unlock()
	} else if !e.w.doubted.Load() {
		e.doubt()
	}
}

// notify wakes the reader if it sleeps. If it does not, notify makes sure that
// its death will be noticed. The caller has just published.
func (e *End) notify() {
	if e.w.ring.Wake() {
		e.ring()
	} else if !e.w.doubted.Load() {
		e.doubt()
	}
}

// pace lets a reader run that has stood still for long, in case that it shares
// this core: it finds what was written in the core's cache then, and this writer
// finds the same room there afterwards. Elsewhere that costs next to nothing.
// The caller holds e.w.mu and has shown what it wrote.
func (e *End) pace() {
	if e.w.ring.Still() {
		yield(e.local())
	}
}

// put sends one packet of 1 to core.MaxPacket bytes and waits for room.
func (e *End) put(p []byte) error {
	e.w.mu.Lock()
	if e.w.usual() && !e.w.ring.Gone() && e.w.ring.PutFast(p) {
		e.publishUnlock()
		return nil
	}
	err := e.putHeld(p)
	e.w.mu.Unlock()
	return err
}

// putHeld is put for who holds e.w.mu.
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
			e.pace()
			return nil
		}
		if err := e.waitWrite(len(p)); err != nil {
			return err
		}
	}
}

// writable returns why nothing can be written any more, or now.
func (e *End) writable() error {
	att := e.w.att.Load()
	switch {
	case att&attClosed != 0:
		return core.ErrClosed
	case att&attPeer != 0:
		return e.reason()
	case att&attShut != 0:
		return errShut
	case e.w.lent:
		return errLent
	case att&attFailed != 0:
		return e.reason()
	case e.w.ring.Gone():
		return errPeerClosed
	case att&attDead != 0:
		return core.ErrFlowDown
	case att&attDeadline != 0 && e.w.expired():
		return core.ErrTimeout
	}
	return nil
}

// enter locks h.mu unless its holder sleeps. It waits for those who are only
// busy.
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
