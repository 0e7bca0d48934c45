package flow

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"o7s/ipc/internal/shm"
)

// ring wakes the peer, and notes it if there is none any more. The caller holds
// a half.mu and has seen that the end is not closed.
func (e *End) ring() {
	if err := e.bell.ring(); err != nil {
		e.noRing(err)
	}
}

func (e *End) noRing(err error) {
	if err == shm.ErrDead {
		e.raise(attDead)
	}
	// ErrRetry: no memory for one byte. The peer's flag is down, so it would
	// sleep until the next one. Nothing better is left than to let others
	// run and give memory back.
	for range 100 {
		if err != shm.ErrRetry {
			return
		}
		runtime.Gosched()
		err = e.bell.ring()
	}
}

// waitRead waits until there may be a packet, or a reason not to wait. The
// caller holds e.r.mu and looks again afterwards.
func (e *End) waitRead() error {
	word, old := e.r.ring.Watch()
	start, ok := e.r.spin.wait(word, old, e.r.ring.Who() == process)
	if ok {
		return nil
	}
	return e.park(&e.r.half, start, e.r.ring.Packets, e.r.ring.Bytes, kickRead)
}

// waitWrite waits until there may be room for a packet of n bytes, or a reason
// not to wait. The caller holds e.w.mu and looks again afterwards.
func (e *End) waitWrite(n int) error {
	word, old := e.w.ring.Watch()
	start, ok := e.w.spin.wait(word, old, e.r.ring.Who() == process)
	if ok {
		return nil
	}
	e.w.need = n
	return e.park(&e.w.half, start, e.w.ring.Packets, e.w.ring.Bytes, kickWrite)
}

// park sleeps in the poller until the direction's poll function returns true.
func (e *End) park(h *half, start int64, packets, bytes uint64, dir int) error {
	rc, err := e.bell.conn()
	if err != nil || rc == nil {
		return err // nil: closed, which the caller sees
	}
	h.packets.Store(packets)
	h.bytes.Store(bytes)
	h.asleep.Store(true)
	if dir == kickRead {
		err = rc.Read(e.r.poll)
		e.r.ring.Awake()
	} else {
		err = rc.Write(e.w.poll)
		e.w.ring.Awake()
	}
	h.asleep.Store(false)
	h.spin.slept(start)
	// A deadline is judged by the caller, by our own clock: it may have been
	// moved, or be a kick.
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("wait for the other end: %w", err)
}

const attEnd = attClosed | attPeer | attFailed | attDead | attShut

// pollRead is called by the poller before the reader sleeps and whenever the
// bell stirs; true ends the wait.
//
// The order matters. A ring of the bell after the look at the memory is a new
// edge in the poller, so it is not lost; one before it is drained here. The
// flag is raised anew each time, since whoever rings takes it down.
func (e *End) pollRead(fd uintptr) bool {
	e.r.ring.Sleep()
	if !e.r.ring.Empty() || e.r.ring.Ended() || e.r.att.Load()&attEnd != 0 {
		return true
	}
	return e.stirred(fd)
}

// pollWrite is pollRead for the writer. It drains the bell as well: while only
// writers wait nobody else would, and once the queue is full the peer's rings
// make no new edge.
func (e *End) pollWrite(fd uintptr) bool {
	e.w.ring.Sleep()
	ok, err := e.w.ring.Room(e.w.need, true)
	if ok || err != nil || e.w.ring.Gone() || e.w.att.Load()&attEnd != 0 {
		return true
	}
	return e.stirred(fd)
}

// stirred empties the bell and reports whether the wait must end. It is called
// by both directions, since the poller tells of the peer's end only once.
func (e *End) stirred(fd uintptr) bool {
	switch shm.Drain(int(fd)) {
	case shm.Dead:
		e.raise(attDead)
		return true
	case shm.Busy:
		// A hostile peer rings without end. Sleeping now could miss its
		// death, so go round, but let others run.
		runtime.Gosched()
		return true
	}
	return false
}
