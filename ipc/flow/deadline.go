package flow

import (
	"time"

	"o7s/core"
)

// epoch is where this package's times start. They are monotonic.
var epoch = time.Now()

// now returns the time since epoch in ns.
func now() int64 { return int64(time.Since(epoch)) }

// expired reports whether the deadline of h has passed.
func (h *half) expired() bool {
	t := h.until.Load()
	return t != 0 && now() >= t
}

// SetDeadline sets both deadlines. As for a net.Conn they are absolute, the
// zero time means none, and they also concern calls that are blocked now. A
// call after its deadline returns core.ErrTimeout, be there packets or not.
// The error is core.ErrClosed after Close.
func (e *End) SetDeadline(t time.Time) error { return e.setDeadline(t, kickBoth) }

// SetReadDeadline sets the deadline of Read and its like.
func (e *End) SetReadDeadline(t time.Time) error { return e.setDeadline(t, kickRead) }

// SetWriteDeadline sets the deadline of Write and its like.
func (e *End) SetWriteDeadline(t time.Time) error { return e.setDeadline(t, kickWrite) }

func (e *End) setDeadline(t time.Time, dir int) error {
	var ns int64
	if !t.IsZero() {
		if ns = now() + int64(time.Until(t)); ns == 0 {
			ns = 1
		}
		if time.Until(t) > 0 && ns < 0 {
			ns = 1<<63 - 1 // centuries from now
		}
	}
	b := &e.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.r.att.Load()&attClosed != 0 {
		return core.ErrClosed
	}
	if dir&kickRead != 0 {
		e.r.setUntil(ns)
		b.until[0] = t
	}
	if dir&kickWrite != 0 {
		e.w.setUntil(ns)
		b.until[1] = t
	}
	return b.apply(dir)
}

// setUntil stores a deadline. The caller holds bell.mu.
func (h *half) setUntil(ns int64) {
	h.until.Store(ns)
	if ns == 0 {
		h.att.And(^uint32(attDeadline))
	} else {
		h.att.Or(attDeadline)
	}
}
