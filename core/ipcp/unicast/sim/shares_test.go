package sim

import (
	"strings"
	"testing"
	"time"
)

// funnel is a layer in which some members, up to three hops apart, reach the last one
// by one wire.
func funnel(seed uint64, fault string) (*Layer, []*member, *member) {
	l := New(Config{Members: 1, Seed: seed, Fault: fault})
	hub := l.members[0]
	to := l.start()
	l.connect(hub, to)
	var from []*member
	for i := range 2 + int(seed%4) {
		at := hub
		for range 1 + (i+int(seed))%3 {
			m := l.start()
			l.connect(at, m)
			at = m
		}
		from = append(from, at)
	}
	l.Run(10 * time.Second)
	return l, from, to
}

// TestShares: flows through one bottleneck come to have parts of it of which none is
// more than twice another, wherever they come from and whenever they came.
func TestShares(t *testing.T) {
	notRaced(t)
	n := uint64(6)
	if testing.Short() {
		n = 2
	}
	seeds(t, 1, n, func(t *testing.T, s uint64) []string {
		l, from, to := funnel(s, "")
		defer l.Stop()
		return l.Share(from, to, 20*time.Second)
	})
}

// What makes the parts unequal, and what makes the wire overflow, is found.
func TestUnequalShares(t *testing.T) {
	notRaced(t)
	t.Parallel()
	found := ""
	for s := uint64(1); s < 5 && !strings.Contains(found, "and another"); s++ {
		l, from, to := funnel(s, "some marks are lost")
		found += strings.Join(l.Share(from, to, 20*time.Second), "\n")
		l.Stop()
	}
	if !strings.Contains(found, "and another") {
		t.Errorf("nobody finds that some senders never hear of marks: %s", found)
	}
}
