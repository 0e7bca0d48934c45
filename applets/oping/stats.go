package oping

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// stats counts packets and measures round trips, in fixed memory. The zero
// value is ready.
type stats struct {
	sent       uint64
	received   uint64 // first replies only
	outOfOrder uint64 // of received: after the reply to a later packet

	min, max time.Duration
	mean, m2 float64 // ns, ns^2: Welford's running mean and squared distances
}

// add counts a reply that took rtt.
func (s *stats) add(rtt time.Duration, outOfOrder bool) {
	if s.received == 0 || rtt < s.min {
		s.min = rtt
	}
	s.max = max(s.max, rtt)
	s.received++
	if outOfOrder {
		s.outOfOrder++
	}
	delta := float64(rtt) - s.mean
	s.mean += delta / float64(s.received)
	s.m2 += delta * (float64(rtt) - s.mean)
}

// mdev returns the sample standard deviation of the round trips in ns; of
// fewer than two it is 0.
func (s *stats) mdev() float64 {
	if s.received < 2 {
		return 0
	}
	return math.Sqrt(s.m2 / float64(s.received-1))
}

// loss returns the share of lost packets in percent, with up to three
// decimals. It is 0 only if nothing was lost, and 100 only if everything was.
func (s *stats) loss() string {
	if s.received >= s.sent {
		return "0"
	}
	percent := 100 * float64(s.sent-s.received) / float64(s.sent)
	percent = math.Round(percent*1000) / 1000
	if s.received > 0 {
		percent = min(max(percent, 0.001), 99.999)
	}
	return strconv.FormatFloat(percent, 'f', -1, 64)
}

// summary returns the lines that end a run of length total against name.
func (s *stats) summary(name string, total time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s ping statistics ---\n", name)
	fmt.Fprintf(&b, "%d packets transmitted, %d received, %d out-of-order, %s%% packet loss, time: %.3f ms\n",
		s.sent, s.received, s.outOfOrder, s.loss(), ms(float64(total)))
	if s.received > 0 {
		fmt.Fprintf(&b, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n",
			ms(float64(s.min)), ms(s.mean), ms(float64(s.max)), ms(s.mdev()))
	}
	return b.String()
}

// ms returns ns nanoseconds in milliseconds.
func ms(ns float64) float64 { return ns / float64(time.Millisecond) }
