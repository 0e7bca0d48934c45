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

// local reports whether the peer is in this process, as far as it says.
func (e *End) local() bool { return e.r.ring.Who() == process }

// waitRead waits until there may be a packet, or a reason not to wait. The
// caller holds e.r.mu and looks again afterwards.
func (e *End) waitRead() error {
	word, old := e.r.ring.Watch()
	e.r.lag.hold(e.w.ring.Shown(), e.r.ring.Packets)
	start, ok := e.r.spin.wait(word, old, e.local())
	e.r.lag.waited(e.r.spin.quick)
	if ok {
		return nil
	}
	return e.park(&e.r.half, start, e.r.ring.Packets, e.r.ring.Bytes, kickRead)
}

// waitWrite waits until there may be room for a packet of n bytes, or a reason
// not to wait. The caller holds e.w.mu and looks again afterwards.
func (e *End) waitWrite(n int) error {
	word, old := e.w.ring.Watch()
	start, ok := e.w.spin.wait(word, old, e.local())
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
	if err != nil {
		e.bell.poked(dir)
	}
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
// edge in the poller, so it is not lost. The flag is raised anew each time,
// since whoever rings takes it down.
func (e *End) pollRead(fd uintptr) bool {
	return e.lookRead() || e.stirred(fd, &e.w.half, kickWrite) && e.lookRead()
}

func (e *End) lookRead() bool {
	e.r.ring.Sleep()
	return e.more()
}

// pollWrite is pollRead for the writer.
func (e *End) pollWrite(fd uintptr) bool {
	return e.lookWrite() || e.stirred(fd, &e.r.half, kickRead) && e.lookWrite()
}

func (e *End) lookWrite() bool {
	e.w.ring.Sleep()
	ok, err := e.w.ring.Room(e.w.need, true)
	return ok || err != nil || e.w.ring.Gone() || e.w.att.Load()&attEnd != 0
}

// drainEvery is how many looks there may be between two drains. Each look makes
// the peer ring at most once. Its socket, and so its writer, is told nothing
// any more when a quarter of the queue is taken, which is 69 rings by default,
// fewer where an administrator made buffers smaller.
const drainEvery = 8

// stirred looks at the bell itself, and reports whether the memory must be
// looked at again. Both directions call it: the poller tells of the peer's end
// only once, and while only writers wait nobody else drains.
//
// other is the other direction. If it sleeps too, the byte that is drained here
// may have been for it, and the poller, which looks only later, finds nothing
// to wake it for.
func (e *End) stirred(fd uintptr, other *half, dir int) bool {
	if shm.Dead(int(fd)) {
		e.raise(attDead)
		return true
	}
	if e.bell.looks.Add(1)%drainEvery != 0 || !shm.Drain(int(fd)) {
		return false
	}
	if other.asleep.Load() {
		e.bell.poke(dir)
	}
	return true
}
