package stage

import (
	"time"

	"o7s/core"
)

// deadline is when calls of one direction stop waiting.
type deadline struct {
	at    time.Time // zero: never
	timer *time.Timer
}

// passed reports whether d has passed at now.
func (d *deadline) passed(now time.Time) bool { return !d.at.IsZero() && !now.Before(d.at) }

// set sets d to at, and makes all that wait look again then. s.mu is held.
func (d *deadline) set(s *Stage, at time.Time) {
	d.stop()
	if d.at = at; at.IsZero() {
		return
	}
	d.timer = time.AfterFunc(time.Until(at), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wake()
	})
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

// SetDeadline sets the read and the write deadline, as flow.End does.
func (s *Stage) SetDeadline(t time.Time) error { return s.setDeadlines(t, &s.readBy, &s.writeBy) }

// SetReadDeadline sets the deadline of all that reads.
func (s *Stage) SetReadDeadline(t time.Time) error { return s.setDeadlines(t, &s.readBy) }

// SetWriteDeadline sets the deadline of all that writes.
func (s *Stage) SetWriteDeadline(t time.Time) error { return s.setDeadlines(t, &s.writeBy) }

func (s *Stage) setDeadlines(t time.Time, of ...*deadline) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return core.ErrClosed
	}
	for _, d := range of {
		d.set(s, t)
	}
	s.wake()
	return nil
}
