package flow

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"o7s/ipc/internal/shm"
)

// wakePeer wakes the peer, or notes that it is dead. The caller holds a half.mu and
// has checked that this end is not closed.
func (e *End) wakePeer() {
	if err := e.bell.notify(); err != nil {
		e.wakeFailed(err)
	}
}

func (e *End) wakeFailed(err error) {
	if err == shm.ErrDead {
		e.raise(flagDead)
	}
	// ErrRetry: the kernel had no memory for one byte. The peer's word is
	// cleared already, so without this wake-up it would sleep until the next
	// packet. Let other goroutines run, which may free memory, and try again.
	for range 100 {
		if err != shm.ErrRetry {
			return
		}
		runtime.Gosched()
		err = e.bell.notify()
	}
}

// local reports whether the peer says that it is in this process.
func (e *End) local() bool { return e.r.ring.Process() == process }

// waitRead waits until there may be a packet, or a reason not to wait. The
// caller holds e.r.mu and checks again afterwards.
func (e *End) waitRead() error {
	word, old := e.r.ring.Watch()
	e.r.gather.delay(e.w.ring.Published(), e.r.ring.Packets)
	start, ok := e.r.spin.wait(word, old, e.local())
	e.r.gather.note(e.r.spin.quick)
	if ok {
		return nil
	}
	return e.park(&e.r.half, start, e.r.ring.Packets, e.r.ring.Bytes, dirRead)
}

// waitWrite waits until there may be room for a packet of n bytes, or a reason
// not to wait. The caller holds e.w.mu and checks again afterwards.
func (e *End) waitWrite(n int) error {
	word, old := e.w.ring.Watch()
	start, ok := e.w.spin.wait(word, old, e.local())
	if ok {
		return nil
	}
	e.w.need = n
	return e.park(&e.w.half, start, e.w.ring.Packets, e.w.ring.Bytes, dirWrite)
}

// park sleeps in the poller until the direction's poll function returns true.
func (e *End) park(h *half, start int64, packets, bytes uint64, dir int) error {
	rc, err := e.bell.conn()
	if err != nil || rc == nil {
		return err // nil if closed, which the caller checks
	}
	h.packets.Store(packets)
	h.bytes.Store(bytes)
	h.asleep.Store(true)
	if dir == dirRead {
		err = rc.Read(e.r.poll)
		e.r.ring.Awake()
	} else {
		err = rc.Write(e.w.poll)
		e.w.ring.Awake()
	}
	h.asleep.Store(false)
	h.spin.noteSleep(start)
	if err != nil {
		e.bell.rechecked(dir)
	}
	// The caller checks the deadline itself: the poller's may have been changed
	// meanwhile, or stand for an interrupt or a recheck.
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("wait for the other end: %w", err)
}

const flagEnd = flagClosed | flagPeer | flagFailed | flagDead | flagShut

// pollRead is called by the poller before the reader sleeps, and whenever the bell
// is readable. It returns true to end the wait.
//
// The order matters. A wake-up after the check of the memory is a new edge in the
// poller, so it is not lost. The word that says "I sleep" is set again each time,
// since a peer that wakes clears it.
func (e *End) pollRead(fd uintptr) bool {
	return e.armRead() || e.checkBell(fd, &e.w.half, dirWrite) && e.armRead()
}

func (e *End) armRead() bool {
	e.r.ring.Sleep()
	return e.readReady()
}

// pollWrite is pollRead for the writer.
func (e *End) pollWrite(fd uintptr) bool {
	return e.armWrite() || e.checkBell(fd, &e.r.half, dirRead) && e.armWrite()
}

func (e *End) armWrite() bool {
	e.w.ring.Sleep()
	ok, err := e.w.ring.Room(e.w.need, true)
	return ok || err != nil || e.w.ring.Gone() || e.w.flags.Load()&flagEnd != 0
}

// drainEvery is how many polls there may be between two drains of the bell. After
// each poll the peer writes at most one byte to it. The poller of the peer's socket
// goes silent when a quarter of the queue is full. That is 69 bytes by default, and
// fewer if an administrator made buffers smaller.
const drainEvery = 8

// checkBell checks the socket itself, and reports whether the memory must be checked
// again. Both directions call it: the poller tells only one of them of the peer's
// end, and while only writers wait no reader drains.
//
// other is the other direction, dir its bit. If it sleeps too, the byte that is
// drained here may have been for it. The poller looks later and then finds nothing
// to wake it for. So checkBell makes it check the memory again.
func (e *End) checkBell(fd uintptr, other *half, dir int) bool {
	if shm.Dead(int(fd)) {
		e.raise(flagDead)
		return true
	}
	if e.bell.polls.Add(1)%drainEvery != 0 || !shm.Drain(int(fd)) {
		return false
	}
	if other.asleep.Load() {
		e.bell.recheck(dir)
	}
	return true
}
