// Package lock is a mutex whose unlocking is of use to its holder.
//
// Who has shown something in shared memory, and then looks whether somebody
// sleeps who is to be woken for it, needs a full barrier between the two, and
// who holds a mutex meanwhile has one already: its unlocking. Each takes a fifth
// of what a small packet takes in all.
package lock

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"o7s/ipc/internal/release"
)

// Lock is a mutex. Its zero value is unlocked. It must not be copied.
//
// Those who wait stand in a queue. Who comes just when it is free may take it
// before them; but a front of the queue that was woken, and finds it taken again
// for a while, is next.
type Lock struct {
	state atomic.Uint32
	queue sync.Mutex    // those who wait; the front holds it
	woken chan struct{} // to the front that sleeps; made by the first
}

// The states of a Lock. Only its holder changes one of the last three, and the
// front sleeps in wanted and claimed.
const (
	free    = iota
	held    // the front, if there is one, is awake
	wanted  // held, and the front is woken when it is free
	claimed // held, and the front is next
	leaving // held, for a moment
)

// Held is what Leave returns: how the lock was held.
type Held uint32

const (
	looks = 1000                  // of the front before it sleeps, about 0.5 us
	nap   = 50 * time.Microsecond // of the front, where the holder's thread was stopped
)

// Lock locks l and waits until it can.
func (l *Lock) Lock() {
	if !l.state.CompareAndSwap(free, held) {
		l.wait()
	}
}

// TryLock locks l if it is free at the moment, and reports whether it did.
func (l *Lock) TryLock() bool { return l.state.CompareAndSwap(free, held) }

// Unlock unlocks l. It panics if l is not locked.
func (l *Lock) Unlock() { l.Left(l.Leave()) }

// Leave begins to unlock l. It is a full barrier: what the holder loads from now
// on, it loads after all others can see what it has stored. Then it calls Left,
// or Stay, soon: others may spin until then. The caller holds l.
func (l *Lock) Leave() Held { return Held(l.state.Swap(leaving)) }

// Barrier is Leave and Stay.
func (l *Lock) Barrier() { l.Stay(l.Leave()) }

// Left ends the unlocking that Leave began. It panics if l was not locked.
func (l *Lock) Left(was Held) {
	if was == held {
		release.Store32(&l.state, free)
	} else {
		l.wake(was)
	}
}

// Stay takes back what Leave began: l is locked as before.
func (l *Lock) Stay(was Held) { release.Store32(&l.state, uint32(was)) }

// wake is Left where the front sleeps.
func (l *Lock) wake(was Held) {
	switch was {
	case wanted:
		l.state.Store(free)
	case claimed:
		l.state.Store(held) // by the front
	default:
		l.state.Store(uint32(was))
		panic("lock: unlock of what is not locked")
	}
	l.woken <- struct{}{}
}

func (l *Lock) wait() {
	l.queue.Lock()
	defer l.queue.Unlock()
	if l.woken == nil {
		l.woken = make(chan struct{}, 1)
	}
	sleep := uint32(wanted)
	for n := 0; ; n++ {
		switch l.state.Load() {
		case free:
			if l.state.CompareAndSwap(free, held) {
				return
			}
		case held:
			if n >= looks && l.state.CompareAndSwap(held, sleep) {
				<-l.woken
				if sleep == claimed {
					return
				}
				sleep, n = claimed, 0
			}
		case leaving:
			if n < looks {
				runtime.Gosched()
			} else {
				time.Sleep(nap)
			}
		}
	}
}
