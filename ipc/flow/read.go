package flow

import (
	"io"

	"o7s/core"
)

// Read reads bytes of one packet. If p is too short for it, the next Read returns
// the rest. It waits for a packet until the read deadline. It never returns
// 0 bytes without an error unless p is empty.
func (e *End) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	e.r.mu.Lock()
	n, err := e.get(p), error(nil)
	if n == 0 {
		if n, err = e.next(); err == nil {
			n = copy(p, e.r.ring.Head())
			e.take(n)
		}
	}
	e.r.mu.Unlock()
	return n, err
}

// ReadPacket reads one packet, or, after a Read that left some, the rest of
// that packet. If p is too short it returns a *ShortBufferError, which wraps
// io.ErrShortBuffer, and the packet stays. A p of core.MaxPacket bytes is
// always long enough.
func (e *End) ReadPacket(p []byte) (int, error) {
	e.r.mu.Lock()
	n, err := e.get(p), error(nil)
	if n == 0 {
		if n, err = e.next(); err == nil {
			n, err = e.takePacket(p, n)
		}
	}
	e.r.mu.Unlock()
	return n, err
}

// ReadBatch waits for one packet as ReadPacket does, then reads those that are
// there already, without waiting: one into each of bufs, its length into the
// same place of sizes. It returns how many it read: at least 1, at most the
// shorter of the two lengths. A packet too long for its buffer stays, and ends
// the batch; if it is the first the error is a *ShortBufferError.
//
// It saves a few nanoseconds a packet if packets are small. Read large packets one
// by one into the same buffer, which stays in the cache.
func (e *End) ReadBatch(bufs [][]byte, sizes []int) (int, error) {
	if len(bufs) == 0 || len(sizes) == 0 {
		return 0, nil
	}
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	for i := range min(len(bufs), len(sizes)) {
		if sizes[i] = e.get(bufs[i]); sizes[i] > 0 {
			continue
		}
		var n int
		var err error
		if i == 0 {
			if n, err = e.next(); err != nil {
				return 0, err
			}
		} else if n, err = e.r.ring.Next(); err != nil || n == 0 || len(bufs[i]) < n {
			return i, nil // the next call returns an error again
		}
		if sizes[i], err = e.takePacket(bufs[i], n); err != nil {
			return i, err
		}
	}
	return min(len(bufs), len(sizes)), nil
}

// get reads a packet that is there, as a whole, if nothing prevents it. Else it
// returns 0. The caller holds e.r.mu.
func (e *End) get(p []byte) int {
	if !e.r.fast() {
		return 0
	}
	n, wake := e.r.ring.GetFast(p)
	if wake {
		e.wakePeer()
	}
	if n > 0 {
		raceAcquire()
	}
	return n
}

// takePacket copies the n bytes at the head to p and takes them.
func (e *End) takePacket(p []byte, n int) (int, error) {
	if len(p) < n {
		return 0, &ShortBufferError{Size: n}
	}
	copy(p, e.r.ring.Head())
	e.take(n)
	return n, nil
}

// take consumes n bytes at the head, and wakes the peer's writer if it sleeps.
func (e *End) take(n int) {
	if e.r.ring.Take(n) {
		e.wakePeer()
	}
	raceAcquire()
}

// next returns how many bytes of the packet at the head are left, and waits
// for one. The caller holds e.r.mu.
func (e *End) next() (int, error) {
	if e.r.fast() {
		if n, err := e.r.ring.Next(); n > 0 && err == nil {
			return n, nil
		}
	}
	return e.nextSlow()
}

// nextSlow is next where the packet may have to be waited for.
func (e *End) nextSlow() (int, error) {
	var end error // why no packet follows; known before the last check of the ring
	for {
		if err := e.readable(); err != nil {
			return 0, err
		}
		n, err := e.r.ring.Next()
		if err != nil {
			return 0, e.corrupt(err)
		}
		if n > 0 {
			return n, nil
		}
		if end != nil {
			return 0, end
		}
		if end = e.readEnd(); end != nil {
			continue // packets from before the end are read first
		}
		if e.r.ring.Publish() {
			e.wakePeer()
		}
		if err := e.waitRead(); err != nil {
			return 0, err
		}
	}
}

// readable returns why no packet may be read now, even if there is one.
func (e *End) readable() error {
	flags := e.r.flags.Load()
	switch {
	case flags&^flagDead&^flagFailed == 0 && !e.r.lent:
		return nil
	case flags&flagClosed != 0:
		return core.ErrClosed
	case flags&flagPeer != 0:
		return e.reason()
	case e.r.lent:
		return ErrLent
	case flags&flagDeadline != 0 && e.r.expired():
		return core.ErrTimeout
	}
	return nil
}

// readEnd returns why no packet follows, nil if one may.
func (e *End) readEnd() error {
	flags := e.r.flags.Load()
	switch {
	case e.r.ring.Ended():
		return io.EOF
	case flags&flagFailed != 0:
		return e.reason()
	case flags&flagDead != 0:
		return core.ErrFlowDown
	}
	return nil
}
