package measure

import (
	"math"
	"strconv"
	"time"
)

// Stats is the least, the greatest, the mean and the deviation of times, in
// fixed memory. The zero value is ready.
type Stats struct {
	N        uint64
	Min, Max time.Duration
	Mean     float64 // ns

	m2 float64 // ns^2: the squared distances from the running mean (Welford)
}

// Add adds d.
func (s *Stats) Add(d time.Duration) {
	if s.N == 0 || d < s.Min {
		s.Min = d
	}
	s.Max = max(s.Max, d)
	s.N++
	delta := float64(d) - s.Mean
	s.Mean += delta / float64(s.N)
	s.m2 += delta * (float64(d) - s.Mean)
}

// Deviation returns the sample standard deviation in ns; of fewer than two
// times it is 0.
func (s *Stats) Deviation() float64 {
	if s.N < 2 {
		return 0
	}
	return math.Sqrt(s.m2 / float64(s.N-1))
}

// Loss returns the share of sent packets that were not received, in percent,
// with up to three decimals. It is 0 only if nothing was lost, and 100 only if
// everything was.
func Loss(sent, received uint64) float64 {
	if received >= sent {
		return 0
	}
	percent := math.Round(100_000*float64(sent-received)/float64(sent)) / 1000
	if received > 0 {
		percent = min(max(percent, 0.001), 99.999)
	}
	return percent
}

// Percent returns p without needless zeros.
func Percent(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) }
