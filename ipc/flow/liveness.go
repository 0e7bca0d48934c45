package flow

import (
	"sync"
	"time"

	"o7s/ipc/internal/shm"
)

// A writer learns of the death of its peer when it wakes the peer by the bell. A
// peer that does not sleep needs no wake-up. If it dies while it reads, the
// writer would not know before the ring is full. So after a packet that woke
// nobody, the end asks the bell, once, whether the peer lives.
const checkAfter = 40 * time.Millisecond

// peerChecks are the ends whose peer is to be checked when the timer fires.
var peerChecks struct {
	mu    sync.Mutex // guards the fields below; innermost
	ends  []*End
	spare []*End // empty, for the next ends
	timer *time.Timer
}

// checkPeerLater has the peer checked within checkAfter, unless that is planned.
func (e *End) checkPeerLater() {
	if !e.w.checkDue.CompareAndSwap(false, true) {
		return
	}
	peerChecks.mu.Lock()
	defer peerChecks.mu.Unlock()
	peerChecks.ends = append(peerChecks.ends, e)
	switch {
	case len(peerChecks.ends) > 1: // the timer runs
	case peerChecks.timer == nil:
		peerChecks.timer = time.AfterFunc(checkAfter, checkPeers)
	default:
		peerChecks.timer.Reset(checkAfter)
	}
}

func checkPeers() {
	peerChecks.mu.Lock()
	ends := peerChecks.ends
	peerChecks.ends, peerChecks.spare = peerChecks.spare, nil
	peerChecks.mu.Unlock()
	for i, e := range ends {
		e.checkPeer()
		ends[i] = nil
	}
	peerChecks.mu.Lock()
	peerChecks.spare = ends[:0]
	peerChecks.mu.Unlock()
}

func (e *End) checkPeer() {
	e.w.checkDue.Store(false)
	if !e.w.mu.TryLock() {
		// The bell tells a writer that sleeps. A writer at work may have loaded
		// checkDue just before it became false, so check again later.
		if !e.w.asleep.Load() {
			e.checkPeerLater()
		}
		return
	}
	defer e.w.mu.Unlock()
	if e.w.flags.Load()&flagClosed == 0 && shm.Dead(e.bell.fd) {
		e.raise(flagDead)
	}
}
