package flow

import (
	"fmt"

	"o7s/core"
)

// Reserve and Commit, Peek and Release save a copy: a program that makes its
// packets piece by piece, or needs a part of them only, works in the ring itself.
// They are for one goroutine in each direction. While memory is lent, every other
// call of that direction returns an error that wraps core.ErrState.

// Reserve lends n bytes of the ring, 1 to core.MaxPacket, to be filled with a
// packet and sent by Commit. It waits for room as Write does. The slice may
// hold old bytes, and must not be used after Commit. After a Close the memory stays
// mapped until Commit.
func (e *End) Reserve(n int) ([]byte, error) {
	if n < 1 || n > e.w.largest {
		return nil, e.w.tooLarge
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	for {
		if err := e.writable(); err != nil {
			return nil, err
		}
		b, err := e.w.ring.Reserve(n)
		if err != nil {
			return nil, e.corrupt(err)
		}
		if b != nil {
			e.w.need = n
			e.w.lent = true
			return b, nil
		}
		if err := e.waitWrite(n); err != nil {
			return nil, err
		}
	}
}

// Commit sends the first n bytes that Reserve lent as one packet; 0 sends
// nothing and gives the memory back. More than was lent is refused with an
// error that wraps core.ErrUsage, and the memory stays lent. Without a Reserve
// before, the error wraps core.ErrState. If the end was closed meanwhile
// nothing is sent and the error is core.ErrClosed.
func (e *End) Commit(n int) error {
	e.w.mu.Lock()
	closed := e.w.flags.Load()&flagClosed != 0
	if !e.w.lent {
		e.w.mu.Unlock()
		if closed {
			return core.ErrClosed
		}
		return ErrNotLent
	}
	if n < 0 || n > e.w.need {
		e.w.mu.Unlock()
		return fmt.Errorf("%w: commit %d bytes of %d", core.ErrUsage, n, e.w.need)
	}
	e.w.lent = false
	if closed {
		e.w.mu.Unlock()
		e.unmap()
		return core.ErrClosed
	}
	if n == 0 {
		e.w.mu.Unlock()
		return nil
	}
	if err := e.writable(); err != nil && err != core.ErrTimeout {
		e.w.mu.Unlock()
		return err
	}
	e.w.ring.Commit(n)
	e.publishUnlock()
	return nil
}

// Peek lends the packet at the head, or what Read left of it. It waits for one
// as Read does. The slice is the ring itself: do not change it, and do not use
// it after Release. A hostile peer can change it at any time, so copy what you
// check before you check it. After a Close the memory stays mapped until Release.
func (e *End) Peek() ([]byte, error) {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	if _, err := e.next(); err != nil {
		return nil, err
	}
	e.r.lent = true
	raceAcquire()
	return e.r.ring.Head(), nil
}

// Release takes the packet that Peek lent off the flow. Without a Peek before,
// the error wraps core.ErrState.
func (e *End) Release() error {
	e.r.mu.Lock()
	closed := e.r.flags.Load()&flagClosed != 0
	if !e.r.lent {
		e.r.mu.Unlock()
		if closed {
			return core.ErrClosed
		}
		return ErrNotLent
	}
	e.r.lent = false
	if closed {
		e.r.mu.Unlock()
		e.unmap()
		return nil
	}
	e.take(len(e.r.ring.Head()))
	e.r.mu.Unlock()
	return nil
}
