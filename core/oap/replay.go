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

	// maxSeen bounds the requests that are kept. Each was signed with a certificate
	// that this end trusts.
	maxSeen = 1 << 18
)

type seenKey struct {
	id   [idLen]byte
	time uint64
}

// Replay keeps requests with a certificate, to find those that come again. A request
// without a certificate proves nothing, and its answer makes a new key each time, so an
// attacker gains nothing by sending it again. The zero value is ready for use. It is safe
// for concurrent use.
type Replay struct {
	// Start is the time since which requests are kept. An older request may have come
	// before. It is refused if it is not of an o7s system and holds a secret of the
	// client: an attacker that sends it again could send the flow's packets again too.
	// Zero: no request is refused for that.
	Start time.Time

	mu    sync.Mutex // guards the fields below
	known map[seenKey]bool
	order []seenKey // as they came
	// forgotten is the latest time of a request that was forgotten. Should the
	// system's clock be set back, requests of that time are in time once more.
	forgotten uint64
}

// inTime returns core.ErrAuth if the time of m is out of bounds.
func inTime(m *message, now time.Time) error {
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

// check returns core.ErrAuth if the request m has come before, or may have.
func (r *Replay) check(m *message) error {
	if m.KexFlags&kemFlag != 0 && !m.ours() && !r.Start.IsZero() && time.Unix(0, int64(m.Time)).Before(r.Start) {
		return fmt.Errorf("%w: the request is older than this IRMd, and may have come before: ask again", core.ErrAuth)
	}
	if len(m.Crt) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[seenKey{m.ID, m.Time}] || m.Time <= r.forgotten {
		return fmt.Errorf("%w: the request has come before", core.ErrAuth)
	}
	return nil
}

// note keeps the request m, which is in time. It returns core.ErrAuth if m has come
// before.
func (r *Replay) note(m *message, now time.Time) error {
	if err := r.check(m); err != nil || len(m.Crt) == 0 {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := 0
	for old < len(r.order) && now.Sub(time.Unix(0, int64(r.order[old].time))) > maxAge {
		delete(r.known, r.order[old])
		r.forgotten = max(r.forgotten, r.order[old].time)
		old++
	}
	r.order = r.order[old:]
	k := seenKey{m.ID, m.Time}
	if r.known[k] {
		return fmt.Errorf("%w: the request has come before", core.ErrAuth)
	}
	if len(r.order) >= maxSeen {
		return fmt.Errorf("%w: %d handshakes with certificates in %v", core.ErrLimit, maxSeen, maxAge+maxAhead)
	}
	if r.known == nil {
		r.known = make(map[seenKey]bool)
	}
	r.known[k] = true
	r.order = append(r.order, k)
	return nil
}
