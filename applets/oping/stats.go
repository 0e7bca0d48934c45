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
	hist       measure.Histogram
}

// add counts a reply that took rtt.
func (s *stats) add(rtt time.Duration, outOfOrder bool) {
	s.received++
	if outOfOrder {
		s.outOfOrder++
	}
	s.rtt.Add(rtt)
	s.hist.Add(rtt)
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

// percentiles are those that oping tells.
var percentiles = []float64{50, 90, 99, 99.9}

// percentile returns the round trip that p percent do not exceed.
func (s *stats) percentile(p float64) time.Duration {
	return min(max(s.hist.Percentile(p), s.rtt.Min), s.rtt.Max)
}

// histogram returns the lines that --histogram adds.
func (s *stats) histogram() string {
	if s.received == 0 {
		return ""
	}
	var names, values []string
	for _, p := range percentiles {
		names = append(names, "p"+measure.Percent(p))
		values = append(values, fmt.Sprintf("%.4f", measure.MS(float64(s.percentile(p)))))
	}
	return fmt.Sprintf("rtt %s = %s ms\n\n%s", strings.Join(names, "/"), strings.Join(values, "/"), s.hist.Text())
}

// short returns the line that Ctrl-\ prints.
func (s *stats) short() string {
	line := fmt.Sprintf("%d/%d packets, %s%% loss", s.received, s.sent, s.loss())
	if s.received > 0 {
		line += fmt.Sprintf(", min/avg/max = %.3f/%.3f/%.3f ms", measure.MS(float64(s.rtt.Min)), measure.MS(s.rtt.Mean), measure.MS(float64(s.rtt.Max)))
	}
	return line
}
