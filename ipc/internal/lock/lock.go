// Package lock is a mutex for writers of shared memory. It publishes what its
// holder wrote and unlocks in one step.
//
// A writer publishes a packet, looks whether the reader sleeps, and unlocks. A
// full barrier must stand between the first two, and a mutex has another one in
// its unlocking: each takes a fifth of what a small packet takes in all. Here
// one serves for both.
package lock

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Lock is a mutex. Its zero value is unlocked. It must not be copied.
//
// Goroutines that wait stand in a queue. A goroutine that finds the lock free
// takes it, also while others wait. But the first of the queue is passed once
// only: if it was woken and finds the lock taken again, it gets it next.
type Lock struct {
	state atomic.Uint32
	queue sync.Mutex    // of the goroutines that wait; the first of them holds it
	woken chan struct{} // wakes the first; made by the first that waits
}

// The states of a Lock. In wanted and claimed the first of the queue sleeps. It
// sets them; all else is done by the holder.
const (
	free    = iota
	held    // the first of the queue, if there is one, is awake
	wanted  // held, and the first is woken when the lock is free
	claimed // held, and the first gets it next
	leaving // held, for a few instructions more
)

const (
	looks = 1000                  // of the first before it sleeps, about 0.5 us
	nap   = 50 * time.Microsecond // of the first, where the holder's thread was stopped while leaving
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
func (l *Lock) Unlock() {
	if !l.state.CompareAndSwap(held, free) {
		l.wake()
	}
}

// PublishUnlock stores a in *first, then b in *second, and unlocks l if *flag is
// 0 and no goroutine waits for l. It reports whether it unlocked. The caller holds l.
//
// Another core sees each of the two stores after all stores before it. *flag is
// loaded after others can see both.
func (l *Lock) PublishUnlock(first *atomic.Uint64, a uint64, second *atomic.Uint64, b uint64, flag *atomic.Uint32) bool {
	return publishUnlock(&l.state, first, a, second, b, flag)
}

// wake is Unlock where the first of the queue sleeps.
func (l *Lock) wake() {
	switch l.state.Load() {
	case wanted:
		l.state.Store(free)
	case claimed:
		l.state.Store(held) // by the one that is woken
	default:
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
