// Package mbecn avoids congestion as multi-bit ECN says: each member marks packets
// with how much waits on their way, the receiver of a flow tells its sender, and
// the sender sends less. Its values belong to one goroutine at a time, or to a lock
// of the caller's.
package mbecn

import "time"

// burst is how many bytes may wait on a flow without being congestion: members write
// and read that much at a time.
const burst = 1 << 16

// maxBest bounds what a packet counts: a flow within one system takes large ones.
const maxBest = 1 << 12

// Mark returns the congestion that a flow on which unread bytes wait adds to a
// packet, given what the packet says already. The C prototype counts packets that
// wait, and this project bytes: best is how many a packet has on the flow.
func Mark(ecn uint8, unread, best int) uint8 {
	best = min(max(best, 512), maxBest)
	return ecn | uint8(min(max(unread-burst, 0)/best>>4, 255))
}

// Receiver is what the receiver of a flow knows of the congestion on its way.
type Receiver struct {
	level uint32
	count uint32
}

// Quiet reports that there is none: Packet of a packet without a mark does nothing.
func (r *Receiver) Quiet() bool { return r.level == 0 }

// Packet takes the mark of a packet. It reports whether the sender is to be told,
// and what.
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

// The bounds on a sender's window.
const (
	firstShift  = 24      // a slot of 2^24 ns, 16.8 ms
	minShift    = 20      // 1 ms
	maxShift    = 25      // 34 ms
	firstLimit  = 1 << 16 // bytes in a slot
	firstInc    = 1 << 13 // bytes by which the window grows in a slot of firstShift
	minInc      = 1 << 6
	minLimit    = 1 << 12
	maxLimit    = 1 << 40
	fewPackets  = 8  // in a slot: it becomes longer
	manyPackets = 64 // in a slot: it becomes shorter
	memory      = 32 // packets after which an Update is forgotten
	maxWait     = time.Second
	minWait     = 500 * time.Microsecond
	minBurst    = 1 << 13
)

// Sender is how much a flow may send.
type Sender struct {
	slot    int64 // number of the slot
	shift   uint  // its length is 2^shift ns
	limit   uint64
	sent    uint64 // bytes in the slot
	packets int
	ece     uint16
	since   int    // packets since the last Update
	told    bool   // an Update has come: the window has a bound
	last    uint64 // bytes in the slot before
	waited  bool   // it had to wait in the slot
}

// Update takes what the receiver says.
func (s *Sender) Update(ece uint16) {
	if !s.told {
		// What was sent so far is where it begins.
		s.told = true
		s.limit = max(s.last, s.sent, minLimit)
	}
	s.ece, s.since = ece, 0
}

// Allow reports how long the flow has to wait before it may send a packet more;
// 0: it may now. now is in ns.
func (s *Sender) Allow(now int64) time.Duration {
	if s.shift == 0 {
		s.shift, s.limit = firstShift, firstLimit
		s.slot = now >> s.shift
	}
	if slot := now >> s.shift; slot != s.slot {
		s.turn()
		s.slot = now >> s.shift
	}
	// Without an Update there is no sign that anything waits on the way.
	if !s.told {
		return 0
	}
	// A window that left at the start of its slot would wait somewhere and be
	// marked for that, so it is spread over the slot.
	length := int64(1) << s.shift
	passed := now - s.slot<<s.shift
	burst := min(max(s.limit/8, minBurst), s.limit)
	due := burst + uint64(float64(s.limit-burst)*float64(passed)/float64(length))
	if s.sent < due {
		return 0
	}
	s.waited = true
	wait := time.Duration(length - passed)
	if s.sent < s.limit {
		later := time.Duration(float64(s.sent-due+minBurst) / float64(s.limit) * float64(length))
		wait = min(wait, max(later, minWait))
	}
	return min(wait, maxWait)
}

// Sent counts a packet of n bytes.
func (s *Sender) Sent(n int) {
	s.sent += uint64(n)
	s.packets++
	if s.since++; s.since > memory {
		s.ece = 0
	}
}

// inc returns by how much the window grows in a slot. Whatever the length of their
// slots, all flows send faster by the same amount in the same time: so they come to
// have equal parts.
func (s *Sender) inc() uint64 {
	if s.shift >= firstShift {
		return uint64(firstInc) << (2 * (s.shift - firstShift))
	}
	return max(uint64(firstInc)>>(2*(firstShift-s.shift)), minInc)
}

// turn begins a new slot.
func (s *Sender) turn() {
	switch {
	case !s.told:
	case s.ece != 0:
		s.limit -= min(s.limit*uint64(s.ece)>>13, s.limit/4)
		s.limit += s.inc()
	case s.waited:
		// Only one that sends less than it would like to may send more: what is
		// free is taken soon, whatever the window is.
		s.limit += s.inc() + s.limit/32
	}
	switch {
	case s.packets > 0 && s.packets < fewPackets && s.shift < maxShift:
		s.shift++
		s.limit *= 2
	case s.packets > manyPackets && s.shift > minShift:
		s.shift--
		s.limit /= 2
	}
	s.limit = min(max(s.limit, minLimit), maxLimit)
	s.last, s.sent, s.packets, s.waited = s.sent, 0, 0, false
}

// Window returns how many bytes a second the flow may send, 0 where there is no
// bound.
func (s *Sender) Window() uint64 {
	if !s.told {
		return 0
	}
	return s.limit * uint64(time.Second) >> s.shift
}
