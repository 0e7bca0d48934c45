package measure

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// However late each call comes, up to maxLag, the number over a second is
// exact, and no packet comes before its time.
func TestPace(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		rate float64
		size int
		want uint64 // in 1 s
	}{
		{1e6, 1500, 84}, {8e6, 1000, 1000}, {1e9, 1500, 83334}, {64e3, 8000, 1}, {1e3, 1500, 1}, {1e12, 64, 1953125000},
	} {
		p := NewPace(tt.rate, tt.size, time.Second)
		sent, now := uint64(0), time.Duration(0)
		for now < time.Second {
			n := p.Due(now)
			sent += n
			if at := time.Duration(float64(sent-1) * p.gap); sent > 0 && at > now {
				t.Fatalf("%.0f b/s: packet %d is due at %v, sent at %v", tt.rate, sent-1, at, now)
			}
			now = p.Next() + time.Duration(rng.Int64N(int64(30*time.Millisecond)))
		}
		sent += p.Due(now)
		if math.Abs(float64(sent)-float64(tt.want)) > 0.5 {
			t.Errorf("%.0f b/s of %d B: %d packets in 1 s, want %d", tt.rate, tt.size, sent, tt.want)
		}
	}
}

// A sender that was held up for long sends no burst of that length.
func TestPaceHeldUp(t *testing.T) {
	p := NewPace(8e6, 1000, time.Hour)
	p.Due(0)
	if n := p.Due(10 * time.Second); n != 501 {
		t.Errorf("%d packets at once, want 501", n)
	}
	if n := p.Due(11 * time.Second); n != 501 {
		t.Errorf("%d packets after one more second, want 501", n)
	}
	if n := p.Due(11*time.Second + 100*time.Millisecond); n != 100 {
		t.Errorf("%d packets after 100 ms, want 100", n)
	}
}
