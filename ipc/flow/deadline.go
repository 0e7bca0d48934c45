package flow

import (
	"time"

	"o7s/core"
)

// epoch is the zero of this package's times. They are monotonic.
var epoch = time.Now()

// now returns the time since epoch in ns.
func now() int64 { return int64(time.Since(epoch)) }

// expired reports whether the deadline of h has passed.
func (h *half) expired() bool {
	t := h.deadline.Load()
	return t != 0 && now() >= t
}

// SetDeadline sets both deadlines. As for a net.Conn they are absolute, the zero
// time means none, and they hold for calls that are blocked now too. A call after
// its deadline returns core.ErrTimeout, whether or not there are packets. The error
// is core.ErrClosed after Close.
func (e *End) SetDeadline(t time.Time) error { return e.setDeadline(t, dirBoth) }

// SetReadDeadline sets the deadline of all calls that read.
func (e *End) SetReadDeadline(t time.Time) error { return e.setDeadline(t, dirRead) }

// SetWriteDeadline sets the deadline of all calls that write.
func (e *End) SetWriteDeadline(t time.Time) error { return e.setDeadline(t, dirWrite) }

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
	if e.r.flags.Load()&flagClosed != 0 {
		return core.ErrClosed
	}
	if dir&dirRead != 0 {
		e.r.storeDeadline(ns)
		b.deadline[0] = t
	}
	if dir&dirWrite != 0 {
		e.w.storeDeadline(ns)
		b.deadline[1] = t
	}
	return b.setDeadlines(dir)
}

// storeDeadline stores a deadline. The caller holds bell.mu.
func (h *half) storeDeadline(ns int64) {
	h.deadline.Store(ns)
	if ns == 0 {
		h.flags.And(^uint32(flagDeadline))
	} else {
		h.flags.Or(flagDeadline)
	}
}
