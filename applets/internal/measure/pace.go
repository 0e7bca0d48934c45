package measure

import (
	"math"
	"time"
)

// maxLag is how far a sender may fall behind its pace and still catch up. It
// makes the rate right over a second, also where others hold the processor; a
// sender that was held up for longer sends no burst of that length.
const maxLag = 500 * time.Millisecond

// Pace says how many packets are due by a schedule that is absolute, so that
// the time of sending and sleeping does not add up. Times are since the
// schedule's start.
type Pace struct {
	gap  float64       // ns between two packets
	end  time.Duration // no packet is due at it or later
	skip float64       // packets that were given up for having been due too long ago
	sent uint64
}

// NewPace returns the pace of packets of size bytes at rate bit/s, above 0,
// up to end. The first is due at 0.
func NewPace(rate float64, size int, end time.Duration) *Pace {
	return &Pace{gap: float64(size) * 8e9 / rate, end: end}
}

// Gap returns the time between two packets.
func (p *Pace) Gap() time.Duration { return time.Duration(min(p.gap, math.MaxInt64/4)) }

// Due returns how many packets are to be sent at t, which never goes back, and
// counts them as sent.
func (p *Pace) Due(t time.Duration) uint64 {
	due := math.Floor(float64(t)/p.gap) + 1
	if t >= p.end {
		due = math.Ceil(float64(p.end) / p.gap)
	}
	if lag := math.Floor(float64(maxLag) / p.gap); due-p.skip-float64(p.sent) > lag+1 {
		p.skip = due - float64(p.sent) - lag - 1
	}
	n := uint64(max(0, due-p.skip-float64(p.sent)))
	p.sent += n
	return n
}

// Next returns when the next packet is due.
func (p *Pace) Next() time.Duration {
	return min(p.end, time.Duration(min((float64(p.sent)+p.skip)*p.gap, math.MaxInt64/4)))
}
