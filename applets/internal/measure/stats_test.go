package measure

import (
	"math"
	"testing"
	"time"
)

// The running deviation does not drown in a large mean.
func TestStatsDeviation(t *testing.T) {
	var s Stats
	for i := range 1_000_000 {
		s.Add(time.Hour + time.Duration(i%2)*2)
	}
	if got := s.Deviation(); math.Abs(got-1) > 0.001 {
		t.Errorf("deviation %v ns, want 1", got)
	}
}

// A loss, however small, is never called none; nor a packet that came.
func TestLoss(t *testing.T) {
	tests := []struct {
		sent, received uint64
		want           string
	}{
		{0, 0, "0"}, {1, 1, "0"}, {4, 3, "25"}, {3, 2, "33.333"}, {3, 1, "66.667"}, {1, 0, "100"},
		{1e9, 1e9 - 1, "0.001"}, {1e9, 1, "99.999"}, {1, 2, "0"},
	}
	for _, tt := range tests {
		if got := Percent(Loss(tt.sent, tt.received)); got != tt.want {
			t.Errorf("%d of %d received: loss %s%%, want %s%%", tt.received, tt.sent, got, tt.want)
		}
	}
}
