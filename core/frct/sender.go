package frct

import "time"

// retry is when a packet that the layer had no room for is tried again.
const retry = moment(time.Millisecond)

// sender is the state of the packets that this end sends. Without retransmission only
// the end of the stream waits for an acknowledgement.
//
//	            left             seq        right
//	acknowledged |  in flight     |  may go   |  may not
//	-------------+-#--####-x--x---+-----------+---------> sequence numbers
//
//	#: has come (acknowledged by a range)   x: lost, to go again
type sender struct {
	seq, left, right uint32
	run              bool
	sent             moment // when a packet of the stream was last sent, also again
	over             bool   // the end of the stream was sent

	out   []packet // by sequence number modulo the length, a power of two
	came  bits     // which of out have come
	lost  bits     // which of out are lost and have not gone again
	nCame int
	nLost int
	bytes int

	// RFC 8985 (RACK): a packet is lost if one that was sent later has come, and if
	// enough time has passed for a packet that is only late.
	rackSent moment // of the packets that have come, the latest time of sending
	rackSeq  uint32
	rackRTT  moment
	late     uint32 // quarters of the least round trip to wait for a late packet
	disorder bool   // packets have come in another order
	highest  uint32 // number of a packet that has come
	lossAt   moment // when the next packet may be lost

	progress moment // when a packet was last acknowledged
	waits    int    // timeouts since then

	wants    bool   // the caller has more than the window lets go
	shut     moment // since when, past if it is open
	askAt    moment // when to ask about the window
	askEvery moment
	answered moment // when a window last came
	echoed   moment // when an end of ours last said that data has just come, whether it took the data or not
}

// packet is one in flight.
type packet struct {
	b           *buf // nil when it has come
	first, last moment
	flags       flags
	again       uint8 // how often it went again
}

func (s *sender) init() {
	s.sent, s.progress, s.shut, s.answered, s.echoed = past, past, past, past, past
	s.lossAt, s.askAt = never, never
	s.rackSent = past
	s.late = 1
}

// inFlight returns how many packets the path holds, as far as is known.
func (s *sender) inFlight() int { return int(s.seq-s.left) - s.nCame - s.nLost }

func (s *sender) slot(seq uint32) *packet { return &s.out[seq&uint32(len(s.out)-1)] }

// Send sends p, which has at most 64 KiB and may be empty, and may be reused at
// once. False says that it must wait: a window is shut, or the layer has no
// room. Send may then be called again when Receive or Tick has been.
func (c *Conn) Send(now time.Time, p []byte, emit Emit) bool {
	t := c.at(now)
	if c.snd.over || c.tooLate(t) {
		return false
	}
	return c.send(t, data, p, emit)
}

// CloseWrite ends the stream: the other end reads what was sent, then the end. Only an
// end of ours is told, by a packet that is sent again until it is acknowledged. CloseWrite
// returns false as Send does. After it has returned true it does nothing more.
func (c *Conn) CloseWrite(now time.Time, emit Emit) bool {
	if c.snd.over || c.err != nil {
		return true
	}
	if c.cfg.Ours && !c.send(c.at(now), fin, nil, emit) {
		return false
	}
	c.snd.over = true
	return true
}

// Acknowledged reports whether all packets that wait for an acknowledgement have got it.
func (c *Conn) Acknowledged() bool { return c.snd.left == c.snd.seq }

// CanSend reports whether Send would send a packet of n bytes, if the layer has
// room.
func (c *Conn) CanSend(now time.Time, n int) bool {
	s := &c.snd
	if s.over || c.err != nil {
		return false
	}
	return c.freshRun(c.at(now)) || s.seq != s.right && c.mayHold(n)
}

// freshRun reports whether the next packet starts a run.
func (c *Conn) freshRun(t moment) bool {
	s := &c.snd
	return s.left == s.seq && (!s.run || t-s.sent > c.sendIdle)
}

// mayHold reports whether one more packet of n bytes may be in flight.
func (c *Conn) mayHold(n int) bool {
	s := &c.snd
	if !c.cfg.Reliable {
		return true
	}
	if s.nLost > 0 || s.inFlight() >= c.cc.window() || int(s.seq-s.left) >= maxWindow {
		return false
	}
	return s.bytes+n <= c.cfg.Buffer || s.left == s.seq
}

func (c *Conn) send(t moment, what flags, p []byte, emit Emit) bool {
	s := &c.snd
	if c.freshRun(t) {
		s.run = true
		s.seq = c.cfg.Rand()
		s.left, s.right, s.highest = s.seq, s.seq+startWindow, s.seq
		s.shut, s.askAt = past, never
		c.cc.restart()
	} else if s.left == s.seq && t-max(s.sent, s.progress) > c.rtt.wait(0, c.cfg.Ours) {
		c.cc.restart()
	}
	if s.seq == s.right {
		s.wants = true
		if s.shut == past {
			s.shut, s.askEvery = t, moment(askFirst)
			s.askAt = min(s.askAt, t+s.askEvery)
		}
		return false
	}
	if !c.mayHold(len(p)) {
		c.cc.busy = true
		return false
	}
	h := head{Flags: what, Seq: s.seq}
	if s.left == s.seq {
		h.Flags |= runs
	}
	keeps := c.cfg.Reliable || what == fin
	c.news(t, &h)
	h.put(&c.head)
	if !emit(&c.head, p) {
		return false
	}
	c.saidNews(h)
	s.wants = false
	s.sent = t
	if what == data {
		c.stats.Sent++
	}
	if keeps {
		c.keep(t, h.Flags&(data|runs|fin), p)
	} else {
		s.left++
	}
	s.seq++
	if s.right-s.seq == lowWindow && !(c.cfg.Ours && c.cfg.Reliable) {
		s.askAt, s.askEvery = t, moment(askFirst)
	}
	return true
}

// keep holds the packet that was just sent until it is acknowledged.
func (c *Conn) keep(t moment, f flags, p []byte) {
	s := &c.snd
	if n := int(s.seq - s.left); n == len(s.out) {
		size := max(64, 2*n)
		out, came, lost := make([]packet, size), make(bits, size/64), make(bits, size/64)
		for seq := s.left; seq != s.seq; seq++ {
			out[seq&uint32(size-1)] = *s.slot(seq)
			if s.came.has(seq) {
				came.add(seq)
			}
			if s.lost.has(seq) {
				lost.add(seq)
			}
		}
		s.out, s.came, s.lost = out, came, lost
	}
	b := end
	if f&fin == 0 {
		b = keep(p)
	}
	s.bytes += len(p)
	*s.slot(s.seq) = packet{b: b, first: t, last: t, flags: f}
}

// drop frees the payload of seq, which is in flight.
func (c *Conn) drop(seq uint32) {
	p := c.snd.slot(seq)
	if p.b != nil {
		c.snd.bytes -= len(p.b.b)
		p.b.free()
		p.b = nil
	}
}

// windowIs takes the low 24 bits of the first sequence number that the other end
// does not take.
func (c *Conn) windowIs(t moment, low uint32) {
	s := &c.snd
	s.answered = t
	// A window that is older than the last one, or of another run, is far ahead.
	ahead := (low - s.right) & 0xffffff
	if s.right+ahead-s.left > 1<<16 {
		return
	}
	if ahead > 0 {
		s.right += ahead
		s.shut, s.askAt, s.wants = past, never, false
	}
}

// acknowledged takes the acknowledgement of all before no, and of the ranges
// after it.
func (c *Conn) acknowledged(t moment, no uint32, ranges []byte) {
	s := &c.snd
	if before(s.seq, no) {
		c.stats.Bad++
		return
	}
	if before(no, s.left) {
		return
	}
	a := arrivals{sampleSent: past, lastSent: past}
	for ; before(s.left, no) || s.left != s.seq && s.came.has(s.left); s.left++ {
		if s.came.has(s.left) {
			s.came.del(s.left)
			s.nCame--
			continue
		}
		c.arrived(t, s.left, &a)
	}
	if s.lossAt != never && s.left == s.seq {
		s.lossAt = never
	}
	for len(ranges) >= rangeLen {
		var from, to uint32
		from, to, ranges = takeRange(ranges)
		if to > s.seq-s.left {
			c.stats.Bad++
			break
		}
		for seq := s.came.next(s.left+from, s.left+to, false); seq != s.left+to; seq = s.came.next(seq+1, s.left+to, false) {
			c.arrived(t, seq, &a)
			s.came.add(seq)
			s.nCame++
		}
	}
	if a.n == 0 {
		return
	}
	s.progress, s.waits = t, 0
	// Where a gap held up the acknowledgement of packets that had come, only the
	// packet that closed the gap tells the round trip. It was sent after them.
	if a.sampleSent != past && a.sampleSent == a.lastSent {
		c.rtt.add(t, t-a.sampleSent)
		c.cc.sample(c, t-a.sampleSent)
	}
	c.cc.acked(c, t, a.n)
	c.findLost(t)
}

// arrivals is what one acknowledgement tells.
type arrivals struct {
	n          int    // packets that were not known to have come
	lastSent   moment // when the latest sent of them was sent
	sampleSent moment // when the latest sent of those whose round trip is known was sent
}

// arrived notes that the packet seq has come.
func (c *Conn) arrived(t moment, seq uint32, a *arrivals) {
	s := &c.snd
	p := s.slot(seq)
	a.n++
	a.lastSent = max(a.lastSent, p.last)
	if s.lost.has(seq) {
		s.lost.del(seq)
		s.nLost--
	}
	trip := t - p.last
	switch {
	case p.again == 0:
		a.sampleSent = max(a.sampleSent, p.last)
		if before(seq, s.highest) {
			s.disorder = true
		}
	case !c.rtt.known(): // which of the times that it went has come is not known
	case trip >= c.rtt.least():
		a.sampleSent = max(a.sampleSent, p.last)
	default:
		// The answer is too early to be one to the last time that it went:
		// it had not been lost, only late.
		c.stats.Spurious++
		s.disorder = true
		s.late = min(s.late+1, 16)
		c.cc.spurious()
		trip = -1
	}
	if before(s.highest, seq) {
		s.highest = seq
	}
	if trip >= 0 && (p.last > s.rackSent || p.last == s.rackSent && before(s.rackSeq, seq)) {
		s.rackSent, s.rackSeq, s.rackRTT = p.last, seq, trip
	}
	c.drop(seq)
}

// patience returns for how long a packet is only late when one that was sent
// later has come.
func (c *Conn) patience() moment {
	s := &c.snd
	if !s.disorder && s.nCame >= 3 {
		return 0
	}
	if !c.rtt.known() {
		return s.rackRTT
	}
	return min(c.rtt.least()/4*moment(s.late), c.rtt.smooth)
}

// findLost looks which packets are lost.
func (c *Conn) findLost(t moment) {
	s := &c.snd
	s.lossAt = never
	if s.rackSent == past {
		return
	}
	limit := s.rackRTT + c.patience()
	found := 0
	var newest moment = past
	for seq := s.came.next(s.left, s.seq, false); seq != s.seq; seq = s.came.next(seq+1, s.seq, false) {
		if s.lost.has(seq) {
			continue
		}
		p := s.slot(seq)
		if p.again > 0 && p.last == s.rackSent {
			continue // which of the two was first is not known
		}
		if p.last > s.rackSent || p.last == s.rackSent && !before(seq, s.rackSeq) {
			if p.again == 0 {
				break // and all after it were sent later
			}
			continue
		}
		if at := p.last + limit; at > t {
			s.lossAt = min(s.lossAt, at)
			continue
		}
		s.lost.add(seq)
		s.nLost++
		found++
		newest = max(newest, p.last)
	}
	if found > 0 {
		c.cc.lost(c, t, found, newest)
	}
}

// tickSender sends again what is lost and asks about the window, and returns
// when something will be due.
func (c *Conn) tickSender(t moment, emit Emit) moment {
	s := &c.snd
	if t >= s.lossAt {
		c.findLost(t)
	}
	due := s.lossAt
	for s.nLost > 0 && s.inFlight() < c.cc.window() {
		if !c.again(t, s.lost.next(s.left, s.seq, true), emit) {
			due = t + retry
			break
		}
	}
	if s.left != s.seq {
		due = min(due, c.timeout(t, emit))
	}
	return min(due, c.askWindow(t, emit))
}

// tooLate gives up when the oldest packet was sent more than r ago, before the
// other end may have forgotten its run.
func (c *Conn) tooLate(t moment) bool {
	s := &c.snd
	if c.err == nil && s.left != s.seq && t-max(s.slot(s.left).first, s.echoed) > moment(maxRetrans) {
		c.err = errSilent
	}
	return c.err != nil
}

// timeout sends the oldest packet again if nothing was acknowledged for long.
// That alone shrinks no window, since the answer may only be late; what the
// answer shows to be lost does, and a second timeout.
func (c *Conn) timeout(t moment, emit Emit) moment {
	s := &c.snd
	p := s.slot(s.left)
	at := max(p.last, s.progress) + c.rtt.wait(s.waits, c.cfg.Ours)
	if t < at {
		return at
	}
	if c.tooLate(t) {
		return never
	}
	if !c.again(t, s.left, emit) {
		return t + retry
	}
	c.stats.Timeouts++
	if s.waits++; s.waits == 2 {
		c.cc.collapse(t)
	}
	return t + c.rtt.wait(s.waits, c.cfg.Ours)
}

// again sends the packet seq again.
func (c *Conn) again(t moment, seq uint32, emit Emit) bool {
	s := &c.snd
	p := s.slot(seq)
	h := head{Flags: p.flags, Seq: seq}
	c.news(t, &h)
	h.put(&c.head)
	if !emit(&c.head, p.b.b) {
		return false
	}
	c.saidNews(h)
	c.stats.Retransmitted++
	if s.lost.has(seq) {
		s.lost.del(seq)
		s.nLost--
	}
	p.last = t
	p.again = min(p.again, 254) + 1
	s.sent = t
	return true
}

// askWindow asks the other end how the window stands, when it is nearly shut and
// again and again while it is shut and the caller has more.
func (c *Conn) askWindow(t moment, emit Emit) moment {
	s := &c.snd
	if s.shut != past && s.wants && !c.cfg.Reliable && t-s.shut > moment(forceAt) {
		// C's receiver does not open its window for packets that were lost,
		// and takes what is beyond it.
		s.right = s.seq + startWindow
		s.shut, s.askAt, s.wants = past, never, false
	}
	if t < s.askAt {
		return s.askAt
	}
	if c.cfg.Reliable && s.shut != past && t-max(s.shut, s.answered) > moment(maxRetrans) {
		c.err = errSilent
		return never
	}
	head{Flags: ask}.put(&c.head)
	if !emit(&c.head, nil) {
		return t + retry
	}
	c.stats.Asked++
	if c.cfg.Ours {
		s.sent = t // the run goes on at both ends
	}
	s.askAt = never
	if s.shut != past {
		s.askAt = t + s.askEvery
		s.askEvery = min(2*s.askEvery, moment(askMax))
	}
	return s.askAt
}
