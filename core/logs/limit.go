package logs

import "time"

// MaxLines is how many lines a second a Limiter lets through.
const MaxLines = 20

// Limiter bounds lines about what strangers do. The zero value is ready. It is not
// safe for concurrent use.
type Limiter struct {
	since   time.Time
	written int
	left    int // lines that were not written
}

// Take reports whether a line may be written at now, and how many were not since
// the last one that was.
func (l *Limiter) Take(now time.Time) (ok bool, left int) {
	if now.Sub(l.since) >= time.Second {
		l.since, l.written = now, 0
	}
	if l.written >= MaxLines {
		l.left++
		return false, 0
	}
	l.written++
	left, l.left = l.left, 0
	return true, left
}
