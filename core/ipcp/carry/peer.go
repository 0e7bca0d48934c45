package carry

import (
	"time"

	"o7s/core"
)

// An IPCP that is killed sends no message. Some wires tell that nobody receives at an
// address any more. Anybody can forge that, so it is a hint only. Two o7s systems with
// flows between them send each other a Hello every helloTime. A hint counts only if
// nothing came from that system for aliveTime.
const (
	helloTime = 400 * time.Millisecond
	aliveTime = 700 * time.Millisecond
	// peerSweep is the time between two checks of these systems. The end of a system
	// is noticed after aliveTime and peerSweep at most. helloTime is a multiple of
	// it, so that no Hello is late.
	peerSweep = 200 * time.Millisecond
)

// Greeter is an Out whose wire tells when nobody receives at an address.
type Greeter[P comparable] interface {
	// Hello tells the o7s system at to that this system lives.
	Hello(to P)
}

// peer is an o7s system that flows go to.
type peer struct {
	heard   int64 // ns of the clock, when a Hello came
	greeted int64 // the same, when the last Hello was sent
	refused bool  // the wire says that nobody receives there
}

// maxHints bounds how many peers are kept.
const maxHints = 4096

// peerLocked returns the peer at p; nil: there are too many already.
func (f *Flows[P]) peerLocked(p P) *peer {
	known := f.peers[p]
	if known == nil && len(f.peers) < maxHints {
		known = &peer{}
		f.peers[p] = known
	}
	return known
}

// Greeted is called by the reader: a Hello of from has come.
func (f *Flows[P]) Greeted(from P) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.peers[from]; known != nil {
		known.heard, known.refused = f.now(), false
	}
}

// Refused is called by the reader: the wire says that nobody receives at p.
func (f *Flows[P]) Refused(p P) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.peers[p]; known != nil {
		known.refused = true
	}
}

// sweepPeersLocked greets the o7s systems that flows go to, and ends the flows to
// those that have gone. all is every flow, now is in ns. It reports whether there
// are such systems.
func (f *Flows[P]) sweepPeersLocked(all []*flow[P], now int64) bool {
	heard := make(map[P]int64)
	for _, fl := range all {
		if fl.ours && (fl.state == up || fl.state == draining) {
			heard[fl.peer] = max(heard[fl.peer], fl.heard.Load())
		}
	}
	for p := range f.peers {
		if _, used := heard[p]; !used {
			delete(f.peers, p)
		}
	}
	gone := make(map[P]bool)
	for p, last := range heard {
		known := f.peerLocked(p)
		if known == nil {
			continue
		}
		last = max(last, known.heard)
		switch {
		case known.refused && now-last > int64(aliveTime):
			gone[p] = true
		case now-known.greeted >= int64(helloTime):
			known.greeted = now
			f.then(func() { f.greeter.Hello(p) })
		}
	}
	for _, fl := range all {
		if gone[fl.peer] && fl.ours && fl.state == up {
			f.lostLocked(fl, core.ErrFlowDown, "nobody receives there")
		}
	}
	return len(f.peers) > 0
}
