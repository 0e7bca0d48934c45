package logs

import (
	"testing"
	"time"
)

// TestLimiter: strangers write so many lines a second, and the next one says how many are missing.
func TestLimiter(t *testing.T) {
	var l Limiter
	now := time.Now()
	lines := 0
	for range 1000 {
		if ok, _ := l.Take(now); ok {
			lines++
		}
	}
	if lines != MaxLines {
		t.Errorf("%d lines", lines)
	}
	if ok, left := l.Take(now.Add(time.Second)); !ok || left != 1000-MaxLines {
		t.Errorf("a second later: %v, %d are missing", ok, left)
	}
	if ok, left := l.Take(now.Add(time.Second)); !ok || left != 0 {
		t.Errorf("and again: %v, %d are missing", ok, left)
	}
}
