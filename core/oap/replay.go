package oap

import (
	"fmt"
	"sync"
	"time"

	"o7s/core"
)

const (
	// maxAge is how old a request may be, maxAhead how far before this system's
	// clock. Requests of ours say 5 s less than it is.
	maxAge   = 20 * time.Second
	maxAhead = 5*time.Second + 100*time.Millisecond

	// maxSeen bounds the requests that are remembered. Each has cost this end a
	// key exchange, so no one system makes so many in the time.
	maxSeen = 1 << 18
)

type seenKey struct {
	id   [idLen]byte
	time uint64
}

type seenAt struct {
	key seenKey
	at  time.Time
}

// Replay remembers requests, so that one which comes again is known. The zero
// value has seen none. It is safe for concurrent use.
type Replay struct {
	// Start is since when requests are remembered. One that was sent before it
	// and holds a secret of the client's is refused: who sent it a second time
	// could send the flow's packets a second time too. Zero: none is.
	Start time.Time

	mu    sync.Mutex // guards the fields below
	known map[seenKey]bool
	order []seenAt
}

// fresh returns core.ErrAuth if the time of m is out of bounds.
func fresh(m *message, now time.Time) error {
	age := now.Sub(time.Unix(0, int64(m.Time)))
	if m.Time > 1<<63-1 {
		age = -1 << 62
	}
	switch {
	case age > maxAge:
		return fmt.Errorf("%w: the request is %v old: either it was sent before, or the clocks of the two systems differ", core.ErrAuth, age.Round(time.Millisecond))
	case age < -maxAhead:
		return fmt.Errorf("%w: the request is of a time that is still to come: set the clocks of the two systems", core.ErrAuth)
	}
	return nil
}

// note returns core.ErrAuth if the request m has come before, and remembers it.
func (r *Replay) note(m *message, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[seenKey]bool)
	}
	old := 0
	for old < len(r.order) && now.Sub(r.order[old].at) > maxAge+maxAhead {
		delete(r.known, r.order[old].key)
		old++
	}
	r.order = r.order[old:]
	k := seenKey{m.ID, m.Time}
	if m.KexFlags&kemFlag != 0 && !r.Start.IsZero() && time.Unix(0, int64(m.Time)).Before(r.Start) {
		return fmt.Errorf("%w: the request is older than this IRMd, and may have come before: ask again", core.ErrAuth)
	}
	if r.known[k] {
		return fmt.Errorf("%w: the request has come before", core.ErrAuth)
	}
	if len(r.order) >= maxSeen {
		return fmt.Errorf("%w: %d handshakes in %v", core.ErrLimit, maxSeen, maxAge+maxAhead)
	}
	r.known[k] = true
	r.order = append(r.order, seenAt{k, now})
	return nil
}
