package eth

import (
	"context"
	"fmt"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp/port"
)

const (
	// lookUpTime bounds the search for a name on the Ethernet.
	lookUpTime = 2 * time.Second
	// askAgain is the time between two queries for the same name.
	askAgain = 250 * time.Millisecond
	// entryTime is how long an answer counts. A station that moves, or a
	// name that another station takes over, is found after that.
	entryTime = 30 * time.Second
	// maxEntries bounds the answers that are kept.
	maxEntries = 4096
	// maxLookUps bounds the look-ups under way.
	maxLookUps = 1024
)

// directory knows at which station a name is. It learns that by queries: an
// answer counts only while a query for that name is under way, and the first one
// counts until it expires. So a station can pretend to have a name that somebody
// looks for, but it can neither replace a known entry nor fill the memory.
type directory struct {
	clock   clock.Clock
	ask     func(core.Hash) // broadcasts a query
	hashLen int             // bytes of a hash in the layer

	mu      sync.Mutex // guards the fields below; never held across ask
	entries map[core.Hash]entry
	lookUps map[core.Hash]*lookUp
}

type entry struct {
	mac   port.MAC
	until time.Time
}

// lookUp is a search that one or more callers wait for.
type lookUp struct {
	over  chan struct{} // closed when it has ended
	found bool          // valid once over is closed
	timer clock.Timer
	until time.Time
}

func newDirectory(c clock.Clock, ask func(core.Hash)) *directory {
	return &directory{
		clock: c, ask: ask,
		entries: make(map[core.Hash]entry),
		lookUps: make(map[core.Hash]*lookUp),
	}
}

// station returns the station of h, if an answer that counts is there.
func (d *directory) station(h core.Hash) (port.MAC, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.entries[h]
	return e.mac, ok && d.clock.Now().Before(e.until)
}

// len returns how many names are known.
func (d *directory) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.entries)
}

// query waits until a station has answered for h. The error is
// core.ErrTimeout where none has in time, which on an Ethernet is all that
// there is to say of a name that nobody has.
func (d *directory) query(ctx context.Context, h core.Hash) error {
	d.mu.Lock()
	if e, ok := d.entries[h]; ok && d.clock.Now().Before(e.until) {
		d.mu.Unlock()
		return nil
	}
	l, first := d.lookUpLocked(h)
	d.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%w: %d look-ups are under way", core.ErrLimit, maxLookUps)
	}
	if first {
		d.ask(h)
	}
	select {
	case <-l.over:
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
	if !l.found {
		return fmt.Errorf("%w: no station answered for %v in %v", core.ErrTimeout, h, lookUpTime)
	}
	return nil
}

// lookUpLocked returns the look-up of h that is under way, or a first one; nil
// where there are too many.
func (d *directory) lookUpLocked(h core.Hash) (l *lookUp, first bool) {
	if l := d.lookUps[h]; l != nil || len(d.lookUps) >= maxLookUps {
		return l, false
	}
	l = &lookUp{over: make(chan struct{}), until: d.clock.Now().Add(lookUpTime)}
	l.timer = d.clock.AfterFunc(askAgain, func() { d.again(h, l) })
	d.lookUps[h] = l
	return l, true
}

// refresh asks for the station of h although an answer is there, which counts
// until there is another.
func (d *directory) refresh(h core.Hash) {
	d.mu.Lock()
	_, first := d.lookUpLocked(h)
	d.mu.Unlock()
	if first {
		d.ask(h)
	}
}

// again repeats the query of l, or ends l.
func (d *directory) again(h core.Hash, l *lookUp) {
	d.mu.Lock()
	if d.lookUps[h] != l {
		d.mu.Unlock()
		return
	}
	if !d.clock.Now().Before(l.until) {
		delete(d.lookUps, h)
		close(l.over)
		d.mu.Unlock()
		return
	}
	l.timer.Reset(askAgain)
	d.mu.Unlock()
	d.ask(h)
}

// answered takes a station's word that it has h.
func (d *directory) answered(h core.Hash, from port.MAC) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lookUps[h]
	if l == nil {
		return // nobody asked
	}
	l.timer.Stop()
	delete(d.lookUps, h)
	if len(d.entries) >= maxEntries {
		d.dropLocked()
	}
	d.entries[h] = entry{from, d.clock.Now().Add(entryTime)}
	l.found = true
	close(l.over)
}

// dropLocked removes the entries that count no more, or else the oldest.
func (d *directory) dropLocked() {
	now := d.clock.Now()
	var oldest core.Hash
	var until time.Time
	for h, e := range d.entries {
		if !now.Before(e.until) {
			delete(d.entries, h)
		} else if until.IsZero() || e.until.Before(until) {
			oldest, until = h, e.until
		}
	}
	if len(d.entries) >= maxEntries {
		delete(d.entries, oldest)
	}
}

// close ends all look-ups.
func (d *directory) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for h, l := range d.lookUps {
		l.timer.Stop()
		close(l.over)
		delete(d.lookUps, h)
	}
}
