package flow

import (
	"o7s/core"
	"o7s/ipc/internal/shm"
)

// Close ends the flow at this end. The peer reads what was written before, then
// io.EOF; its Write gives an error. Calls of this end that are blocked return
// core.ErrClosed, as does every later one. Close may be called again; only the
// first does anything.
//
// Memory that Peek or Reserve lent stays mapped until it is given back.
func (e *End) Close() error { return e.close(true) }

// Abort ends the flow as the death of this process would: the peer reads what
// was written before, then its calls return core.ErrFlowDown. In all else it is
// Close.
func (e *End) Abort() error { return e.close(false) }

func (e *End) close(clean bool) error {
	if e.r.flags.Or(flagClosed)&flagClosed != 0 {
		return nil
	}
	e.w.flags.Or(flagClosed)
	if m := e.member.Load(); m != nil {
		m.set.Remove(e)
	}
	e.bell.interrupt(dirBoth)
	// The holders of the locks were woken and leave: then no call is inside.
	e.r.mu.Lock()
	e.w.mu.Lock()
	if clean {
		// What a batch or a reservation left unpublished stays unpublished.
		e.w.ring.End()
		wake := e.w.ring.Wake()
		if e.r.ring.Leave() || wake {
			// Closing the bell wakes the peer too, but only if no copy of it is
			// open elsewhere.
			e.bell.notify()
		}
	}
	e.bell.close()
	e.w.mu.Unlock()
	e.r.mu.Unlock()
	e.unmap()
	return nil
}

// CloseWrite says that no packet follows: the peer reads what was written before,
// then io.EOF. Reading goes on. A blocked Write, and every later one,
// returns an error that wraps core.ErrClosed. Memory that Reserve lent can no
// longer be sent.
func (e *End) CloseWrite() error {
	was := e.w.flags.Or(flagShut)
	if was&flagClosed != 0 {
		return core.ErrClosed
	}
	if was&flagShut != 0 {
		return nil
	}
	e.bell.interrupt(dirWrite)
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.flags.Load()&flagClosed != 0 {
		return core.ErrClosed
	}
	e.w.ring.End()
	if e.w.ring.Wake() {
		e.wakePeer()
	}
	return nil
}

// Fail ends both directions, since the IRMd says that the flow is down for the
// reason err; nil stands for core.ErrFlowDown. Write returns err from now on. Read
// returns the packets that are there, and then err, or io.EOF if the other end had
// closed the flow properly. Only the first Fail counts. The peer is not notified.
// The end must still be closed.
func (e *End) Fail(err error) {
	if err == nil {
		err = core.ErrFlowDown
	}
	if !e.fail.CompareAndSwap(nil, &err) {
		return
	}
	e.raise(flagFailed)
	e.bell.interrupt(dirBoth)
}

// corrupt stops both directions of this end, since the peer broke the rules. It
// returns err.
func (e *End) corrupt(err error) error {
	e.bell.mu.Lock()
	if e.bell.broken == nil {
		e.bell.broken = err
	}
	e.bell.mu.Unlock()
	e.raise(flagPeer)
	e.bell.interrupt(dirBoth)
	return err
}

// reason returns the error given to corrupt or Fail.
func (e *End) reason() error {
	e.bell.mu.Lock()
	err := e.bell.broken
	e.bell.mu.Unlock()
	if err != nil {
		return err
	}
	if p := e.fail.Load(); p != nil {
		return *p
	}
	return core.ErrFlowDown
}

// raise sets a flag in both halves.
func (e *End) raise(flag uint32) {
	e.r.flags.Or(flag)
	e.w.flags.Or(flag)
	if m := e.member.Load(); m != nil {
		m.markChanged()
	}
}

// unmap gives the memory back once the end is closed and none of it is lent.
func (e *End) unmap() {
	e.r.mu.Lock()
	e.w.mu.Lock()
	if !e.r.lent && !e.w.lent && e.bell.closed() && e.mem != nil {
		shm.Unmap(e.mem)
		e.mem = nil
	}
	e.w.mu.Unlock()
	e.r.mu.Unlock()
}
