package frct

import "time"

const (
	leastOver = moment(10 * time.Second)

	// A packet that is not acknowledged goes again after the round trip, four
	// times its variation and the delay of acknowledgements, as RFC 9002 has it;
	// before there is a round trip, after startC, or startOurs between ours:
	// the head of a run holds up all others, and the round trip of the flow's
	// allocation has been short.
	startC    = moment(time.Second)
	startOurs = moment(250 * time.Millisecond)
	varMin    = moment(time.Millisecond)
	waitMax   = moment(4 * time.Second)
)

// rtt is what is known of the round trip.
type rtt struct {
	smooth, vary moment // RFC 6298; 0: nothing known

	was, is  moment // the least of the last whole span of leastOver, and since
	isSince  moment
	smoothed bool
}

func (r *rtt) init() { r.was, r.is = never, never }

func (r *rtt) known() bool { return r.smoothed }

// add takes a sample at t.
func (r *rtt) add(t, sample moment) {
	sample = max(sample, 1)
	if !r.smoothed {
		r.smooth, r.vary, r.smoothed = sample, sample/2, true
		r.isSince = t
	} else {
		d := r.smooth - sample
		if d < 0 {
			d = -d
		}
		r.vary += (d - r.vary) / 4
		r.smooth += (sample - r.smooth) / 8
	}
	if t-r.isSince > leastOver {
		r.was, r.is, r.isSince = r.is, never, t
	}
	r.is = min(r.is, sample)
}

// least returns the least round trip of the last 10 to 20 s in which there were
// samples.
func (r *rtt) least() moment { return min(r.was, r.is) }

// wait returns for how long nothing may be acknowledged before a packet goes
// again the nth time, from 0.
func (r *rtt) wait(n int, ours bool) moment {
	w := startC
	switch {
	case r.smoothed:
		w = r.smooth + max(4*r.vary, varMin) + moment(ackDelay)
	case ours:
		w = startOurs
	}
	return min(w<<min(n, 12), waitMax)
}
