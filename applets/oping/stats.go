package oping

import (
	"fmt"
	"strings"
	"time"

	"o7s/applets/internal/measure"
)

// stats counts packets and measures round trips, in fixed memory. The zero
// value is ready.
type stats struct {
	sent       uint64
	received   uint64 // first replies only
	outOfOrder uint64 // of received: after the reply to a later packet
	rtt        measure.Stats
}

// add counts a reply that took rtt.
func (s *stats) add(rtt time.Duration, outOfOrder bool) {
	s.received++
	if outOfOrder {
		s.outOfOrder++
	}
	s.rtt.Add(rtt)
}

// loss returns the share of lost packets in percent.
func (s *stats) loss() string { return measure.Percent(measure.Loss(s.sent, s.received)) }

// summary returns the lines that end a run of length total against name.
func (s *stats) summary(name string, total time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s ping statistics ---\n", name)
	fmt.Fprintf(&b, "%d packets transmitted, %d received, %d out-of-order, %s%% packet loss, time: %.3f ms\n",
		s.sent, s.received, s.outOfOrder, s.loss(), measure.MS(float64(total)))
	if s.received > 0 {
		fmt.Fprintf(&b, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n",
			measure.MS(float64(s.rtt.Min)), measure.MS(s.rtt.Mean), measure.MS(float64(s.rtt.Max)), measure.MS(s.rtt.Deviation()))
	}
	return b.String()
}
