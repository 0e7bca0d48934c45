package flow

import (
	"sync"
	"time"

	"o7s/ipc/internal/shm"
)

// Who writes to a reader that sleeps rings its bell, and so learns that it has
// died. A reader that does not sleep is at work, or has died at work, and then
// nobody would say so before the ring is full. So an end that has written
// without a ring is asked about once, doubtTime later.
const doubtTime = 40 * time.Millisecond

// doubts are the ends that have written without a ring since the last look.
var doubts struct {
	mu    sync.Mutex // guards the fields below; innermost
	ends  []*End
	spare []*End // empty, for the next ends
	timer *time.Timer
}

// doubt has settleDoubts look whether the peer lives, unless it is about to.
func (e *End) doubt() {
	if !e.w.doubted.CompareAndSwap(false, true) {
		return
	}
	doubts.mu.Lock()
	defer doubts.mu.Unlock()
	doubts.ends = append(doubts.ends, e)
	switch {
	case len(doubts.ends) > 1: // the timer runs
	case doubts.timer == nil:
		doubts.timer = time.AfterFunc(doubtTime, settleDoubts)
	default:
		doubts.timer.Reset(doubtTime)
	}
}

func settleDoubts() {
	doubts.mu.Lock()
	ends := doubts.ends
	doubts.ends, doubts.spare = doubts.spare, nil
	doubts.mu.Unlock()
	for i, e := range ends {
		e.settle()
		ends[i] = nil
	}
	doubts.mu.Lock()
	doubts.spare = ends[:0]
	doubts.mu.Unlock()
}

func (e *End) settle() {
	e.w.doubted.Store(false)
	if !e.w.mu.TryLock() {
		// A writer that sleeps is told by its bell. One at work may just have
		// looked at doubted for the last time.
		if !e.w.asleep.Load() {
			e.doubt()
		}
		return
	}
	defer e.w.mu.Unlock()
	if e.w.att.Load()&attClosed == 0 && shm.Dead(e.bell.fd) {
		e.raise(attDead)
	}
}
