package irm

import "time"

// maxLines is how many lines a second strangers can have written to the log.
const maxLines = 20

// limiter bounds lines about what strangers do. The zero value is ready. It is not
// safe for concurrent use.
type limiter struct {
	since   time.Time
	written int
	left    int // lines that were not written
}

// take reports whether a line may be written at now, and how many were not since
// the last one that was.
func (l *limiter) take(now time.Time) (ok bool, left int) {
	if now.Sub(l.since) >= time.Second {
		l.since, l.written = now, 0
	}
	if l.written >= maxLines {
		l.left++
		return false, 0
	}
	l.written++
	left, l.left = l.left, 0
	return true, left
}
