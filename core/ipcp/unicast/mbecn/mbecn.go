// Package mbecn avoids congestion by multi-bit ECN. Each member marks packets with how
// many bytes wait on their way. The receiver of a flow tells its sender, and the sender
// sends less. One goroutine at a time may use a value of this package.
package mbecn

import (
	"math"
	"time"
)

// burst is how many bytes may wait on a flow all the time without being congestion.
const burst = 1 << 13

// period is how long, in ns, bytes have to wait on a flow to be congestion. A member that
// does not run for some ms then takes all packets that came meanwhile at once, and these
// may fill the flow. So the bytes that wait at one moment are no sign of congestion.
const period = 1 << 24

// Queue measures how many bytes wait on a flow from a member to the next one. The zero
// Queue is ready for use.
type Queue struct {
	number int64 // of the period
	low    int   // least bytes that waited in this period
	before int   // least bytes that waited in the period before
	first  int   // bytes that waited when this period began
	put    int   // bytes added since then
	left   int   // bytes that left in the period before
	lost   int64 // number of the last period in which packets found no room
}

// Excess returns how many bytes wait too long on the flow. unread bytes wait at now, in
// ns, and put bytes were added since the call before. The bytes that wait all the time
// are the least number that waited in this period and in the one before. Half of what
// left in the period before may wait so, unless packets are lost.
func (q *Queue) Excess(now int64, unread, put int) int {
	switch n := now / period; n {
	case q.number:
		q.low = min(q.low, unread)
	case q.number + 1:
		q.left = max(q.first+q.put+put-unread, 0)
		q.number, q.before, q.low, q.first, q.put, put = n, q.low, unread, unread, 0, 0
	default: // Excess was not called for a period
		*q = Queue{number: n, low: unread, first: unread, lost: q.lost}
		put = 0
	}
	q.put += put
	soon := q.left / 2
	if q.number-q.lost <= 1 {
		soon = 0
	}
	return max(min(q.before, q.low)-max(soon, burst), 0)
}

// Lost says that a packet found no room on the flow, since the last call of Excess.
func (q *Queue) Lost() { q.lost = q.number }

// maxBest bounds what a packet counts: a flow within one system takes large ones.
const maxBest = 1 << 12

// Mark returns the mark of a packet after a flow. ecn is its mark before, excess that of
// the flow's Queue. The C prototype counts packets that wait, and this project bytes: best
// is how many bytes a packet on the flow has.
func Mark(ecn uint8, excess, best int) uint8 {
	best = min(max(best, 512), maxBest)
	return ecn | uint8(min(excess/best>>4, 255))
}

// Receiver is the congestion on the way of a flow, as its receiver knows it.
type Receiver struct {
	level uint32
	count uint32
}

// Quiet reports whether there is no congestion. Then a packet without a mark changes
// nothing.
func (r *Receiver) Quiet() bool { return r.level == 0 }

// Packet takes the mark of a packet. tell says that the sender has to be told the level
// of congestion, which is ece.
func (r *Receiver) Packet(ecn uint8) (ece uint16, tell bool) {
	switch {
	case ecn == 0 && r.level == 0:
	case ecn == 0:
		r.level >>= 2
		tell = r.level == 0
	case r.level == 0:
		r.level, r.count, tell = uint32(ecn), 0, true
	default:
		r.level = min(r.level-r.level>>5+uint32(ecn), 1<<16-1)
		tell = r.count&7 == 1
		r.count++
	}
	return uint16(r.level), tell
}

// The window of a sender.
const (
	slot       = 1 << 24 // ns: how often it changes
	firstLimit = 1 << 16 // bytes in a slot
	minLimit   = 1 << 10
	maxLimit   = 1 << 40
	memory     = 4 // slots after which an Update is forgotten
	maxWait    = time.Second
	minWait    = 500 * time.Microsecond
	minBurst   = 1 << 13
)

// Sender bounds how much a flow may send: a number of bytes in a slot, spread over it.
type Sender struct {
	number int64 // of the slot; 0: the flow has sent nothing
	at     int64 // ns, when credit was counted last
	credit int64 // bytes that may leave now
	limit  int64 // bytes in a slot
	sent   int64 // bytes sent in this slot
	last   int64 // bytes sent in the slot before
	ece    uint16
	slots  int64 // since the last Update
	told   bool  // an Update has come: limit holds
	waited bool  // the flow had to wait in this slot
}

// Update takes the level of congestion that the receiver tells.
func (s *Sender) Update(ece uint16) {
	if !s.told {
		// Begin with the rate so far.
		s.told = true
		s.limit = max(s.last, s.sent, firstLimit)
	}
	s.ece, s.slots = ece, 0
}

// Allow returns how long the flow has to wait before it may send the next packet; 0: not
// at all. now is in ns.
func (s *Sender) Allow(now int64) time.Duration {
	switch n := now / slot; {
	case s.number == 0:
		s.number, s.at = n, now
	case n != s.number:
		s.slots += n - s.number
		s.number = n
		s.turn()
	}
	// Without an Update there is no sign of congestion on the way.
	if !s.told {
		s.at = now
		return 0
	}
	// If all bytes of a slot left at its start, they would wait somewhere and be
	// marked for that. So they are spread over the slot. A flow that was late may send
	// a part of them at once.
	passed := min(max(now-s.at, 0), maxWait.Nanoseconds())
	s.at = now
	s.credit += int64(float64(s.limit) * float64(passed) / slot)
	s.credit = min(s.credit, max(s.limit/4, minBurst))
	if s.credit > 0 {
		return 0
	}
	s.waited = true
	wait := time.Duration(float64(minBurst/2-s.credit) / float64(s.limit) * slot)
	return min(max(wait, minWait), maxWait)
}

// Sent counts a packet of n bytes.
func (s *Sender) Sent(n int) {
	s.sent += int64(n)
	if s.told {
		// However large the packet was, the next one may leave in maxWait.
		s.credit = max(s.credit-int64(n), 1-s.limit*int64(maxWait/slot))
	}
}

// turn begins a new slot.
func (s *Sender) turn() {
	if s.slots > memory {
		s.ece = 0
	}
	switch {
	case !s.told:
	case s.ece != 0:
		s.limit += inc(s.limit) - min(s.limit*int64(s.ece)>>13, s.limit/8)
	case s.waited:
		// The limit grows only if the flow had to wait for it. A limit of any size
		// doubles in a second. That is slow enough for queues whose marks come late:
		// the limit does not swing.
		s.limit += inc(s.limit) + s.limit/64
	}
	s.limit = min(max(s.limit, minLimit), maxLimit)
	s.last, s.sent, s.waited = s.sent, 0, false
}

// inc returns by how many bytes a limit grows in a slot, beside a fixed part of itself.
// A small limit grows by a larger part of itself than a large one. So flows that share a
// way come to have equal parts of it.
func inc(limit int64) int64 { return int64(2 * math.Sqrt(float64(limit))) }

// Window returns how many bytes a second the flow may send; 0: there is no bound.
func (s *Sender) Window() uint64 {
	if !s.told {
		return 0
	}
	return uint64(s.limit) * uint64(time.Second) / slot
}
