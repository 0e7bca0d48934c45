package frct

import (
	"math"
	"time"
)

// cubic bounds how many packets are in flight. It is CUBIC (RFC 9438) with the slow
// start of HyStart++ (RFC 9406). TCP uses CUBIC most, so the two share a bottleneck
// fairly. CUBIC needs no pacing. It also needs no measure of the bandwidth, which the
// queues of processes on the way would make worthless.
//
// CUBIC alone takes each loss for congestion. A link that loses one packet in a hundred
// by noise would be nearly idle. As in TCP Veno (Fu and Liew, 2003), a loss is taken for
// noise if there is no sign of a queue on the path. The sign is the delay: the least
// round trip of a round is longer than the least of all, by the measure of HyStart++. A
// queue that is too short for that is found by the number of losses: more than 2 in 100,
// the bound of BBR's third version.
type cubic struct {
	cwnd     float64 // packets
	ssthresh float64
	nLost    float64 // packets that were lost
	nAll     float64 // of so many, the older ones counted less and less

	// Since the window was last made smaller.
	reduced moment
	epoch   moment // when growth began, past: not yet
	wMax    float64
	k       float64 // seconds until cwnd is wMax again
	wEst    float64 // what Reno would have
	before  undo

	// A round ends when a packet sent after its start is acknowledged.
	roundEnd  uint32
	inRound   bool
	busy      bool // in this round the window has held a packet back
	wasBusy   bool // in the round before
	samples   int
	roundMin  moment // of this round
	lastMin   moment // of the round before
	slow      int    // rounds of conservative slow start left, 0: not in it
	slowAbove moment // the least round trip that led there
}

// undo is the state before a reduction. lost counts the packets that led to it and are
// still taken for lost.
type undo struct {
	cwnd, ssthresh, wMax float64
	lost                 int
}

const (
	initial = 10 // RFC 6928
	least   = 2

	cubicC    = 0.4
	cubicBeta = 0.7
	renoAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)

	noise     = 0.02
	lossOver  = 1024 // packets
	queueMin  = moment(time.Millisecond)
	queueMax  = moment(16 * time.Millisecond)
	queuePart = 8

	hyMin     = moment(4 * time.Millisecond)
	hySamples = 8
	hyRounds  = 5
	hyGrowth  = 4
)

func (u *cubic) init() {
	u.cwnd, u.ssthresh = initial, math.MaxInt32
	u.reduced, u.epoch = past, past
	u.roundMin, u.lastMin = never, never
}

// window returns how many packets may be in flight.
func (u *cubic) window() int { return int(u.cwnd) }

// restart is called before the first packet after a silence: the measures of the path
// may be old.
func (u *cubic) restart() {
	u.cwnd = min(u.cwnd, initial)
	u.epoch = past
}

// sample takes a round trip.
func (u *cubic) sample(c *Conn, trip moment) {
	u.roundMin = min(u.roundMin, trip)
	u.samples++
}

// acked notes that n packets have come.
func (u *cubic) acked(c *Conn, t moment, n int) {
	if u.nAll += float64(n); u.nAll > 2*lossOver {
		u.nAll /= 2
		u.nLost /= 2
	}
	if !u.inRound || before(u.roundEnd, c.snd.left) {
		u.endRound(c)
	}
	if !u.busy && !u.wasBusy {
		return // the window has not held the sender back
	}
	if u.cwnd < u.ssthresh {
		grow := float64(n)
		if u.slow > 0 {
			grow /= hyGrowth
		}
		u.cwnd = min(u.cwnd+grow, maxWindow)
		u.hystart(c)
		return
	}
	u.avoid(c, t, float64(n))
}

// endRound starts the next round.
func (u *cubic) endRound(c *Conn) {
	if u.inRound && u.samples > 0 {
		u.lastMin = u.roundMin
	}
	if u.slow > 0 {
		if u.slow--; u.slow == 0 {
			u.ssthresh = u.cwnd
		}
	}
	u.roundEnd, u.inRound = c.snd.seq, true
	u.wasBusy, u.busy = u.busy, false
	u.roundMin, u.samples = never, 0
}

// hystart ends slow start when the round trip grows.
func (u *cubic) hystart(c *Conn) {
	if u.samples < hySamples || u.lastMin == never {
		return
	}
	if u.slow == 0 {
		if u.roundMin >= u.lastMin+min(max(u.lastMin/queuePart, hyMin), queueMax) {
			u.slow, u.slowAbove = hyRounds, u.roundMin
		}
	} else if u.roundMin < u.slowAbove {
		u.slow = 0
	}
}

// avoid is congestion avoidance.
func (u *cubic) avoid(c *Conn, t moment, n float64) {
	if u.epoch == past {
		u.epoch = t
		u.wEst = u.cwnd
		if u.wMax < u.cwnd {
			u.wMax, u.k = u.cwnd, 0
		} else {
			u.k = math.Cbrt((u.wMax - u.cwnd) / cubicC)
		}
	}
	alpha := renoAlpha
	if u.wEst >= u.wMax {
		alpha = 1
	}
	u.wEst += alpha * n / u.cwnd
	at := time.Duration(t - u.epoch + c.rtt.smooth).Seconds()
	target := cubicC*math.Pow(at-u.k, 3) + u.wMax
	target = min(max(target, u.cwnd), 1.5*u.cwnd)
	u.cwnd += (target - u.cwnd) * n / u.cwnd
	u.cwnd = min(max(u.cwnd, u.wEst), maxWindow)
}

// queues reports whether the round trips show a queue on the path.
func (u *cubic) queues(c *Conn) bool {
	least := c.rtt.least()
	trip := u.roundMin
	if u.samples < hySamples {
		trip = min(trip, u.lastMin)
	}
	return trip != never && trip-least >= min(max(least/queuePart, queueMin), queueMax)
}

// lost notes that n packets are lost. The latest of them was sent at newest. Packets that
// were in flight when the window was last made smaller do not make it smaller again.
func (u *cubic) lost(c *Conn, t moment, n int, newest moment) {
	u.nLost += float64(n)
	if newest <= u.reduced {
		u.before.lost += n
		return
	}
	if u.nLost < noise*max(u.nAll, lossOver/2) && !u.queues(c) {
		return
	}
	u.reduce(t)
	u.before.lost = n
}

func (u *cubic) reduce(t moment) {
	u.before = undo{cwnd: u.cwnd, ssthresh: u.ssthresh, wMax: u.wMax}
	u.reduced, u.epoch, u.slow = t, past, 0
	if u.cwnd < u.wMax {
		u.wMax = u.cwnd * (1 + cubicBeta) / 2 // make room for others
	} else {
		u.wMax = u.cwnd
	}
	u.cwnd = max(least, u.cwnd*cubicBeta)
	u.ssthresh = u.cwnd
}

// collapse is called when no acknowledgement comes any more.
func (u *cubic) collapse(t moment) {
	u.reduce(t)
	u.cwnd = least
}

// spurious notes that a packet was late, not lost. If all packets that led to the last
// reduction were only late, the reduction is taken back.
func (u *cubic) spurious() {
	u.nLost = max(0, u.nLost-1)
	if u.before.lost--; u.before.lost == 0 && u.before.cwnd > u.cwnd {
		u.cwnd, u.ssthresh, u.wMax = u.before.cwnd, u.before.ssthresh, u.before.wMax
		u.reduced, u.epoch = past, past
	}
}
