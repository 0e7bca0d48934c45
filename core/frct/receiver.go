package frct

import "time"

// receiver is the state of what comes in.
//
//	      left           right
//	  taken |  came early  |  not taken
//	--------+--#-###----#--+-----------> sequence numbers
type receiver struct {
	run   bool   // there is one
	heard moment // when a packet was last taken
	data  moment // when a packet with data last came, also again

	left  uint32 // the next expected
	right uint32 // the first that is not taken
	acked uint32 // left, when the other end was last told
	told  uint32 // right, when the other end was last told

	ready   queue  // in order, for the process
	early   []*buf // by sequence number modulo the length, a power of two
	have    bits   // which of early are there
	nEarly  int
	bytes   int  // held in ready and early
	largest int  // payload that came so far
	over    bool // the end of the stream was reached

	ackAt  moment // when an acknowledgement is due
	ackNow bool
	asked  bool // an answer to a rendez-vous is due
}

func (r *receiver) init() { r.heard, r.data, r.ackAt = past, past, never }

// Receive takes a packet that the layer brought. The caller may reuse p. It
// sends nothing: Tick does, once for all packets that came together. A packet
// against the rules is counted and dropped.
func (c *Conn) Receive(now time.Time, p []byte) {
	h, payload, err := parse(p)
	if err != nil || len(payload) > classes[len(classes)-1] {
		c.stats.Bad++
		return
	}
	t := c.at(now)
	if c.tooLate(t) {
		return
	}
	if h.Flags&ask != 0 {
		c.rcv.asked = true
		if c.cfg.Ours && c.hearing(t) {
			c.rcv.heard = t
		}
		return
	}
	if h.Flags&ack != 0 {
		var ranges []byte
		if c.cfg.Ours && h.Flags&data == 0 {
			ranges = payload
			c.snd.echoed = t
		}
		c.acknowledged(t, h.Ack, ranges)
	}
	if h.Flags&fc != 0 {
		c.windowIs(t, h.Window)
	}
	switch {
	case h.Flags&data != 0:
		c.data(t, h, payload)
	case h.Flags&fin != 0 && c.cfg.Ours:
		c.data(t, h, nil)
	}
}

// hearing reports whether the other end's run goes on.
func (c *Conn) hearing(t moment) bool { return c.rcv.run && t-c.rcv.heard <= c.recvIdle }

// data takes a packet of the stream, or its end.
func (c *Conn) data(t moment, h head, payload []byte) {
	r := &c.rcv
	if !c.hearing(t) {
		if h.Flags&runs == 0 || r.over {
			c.stats.NoRun++
			return
		}
		c.forgetEarly()
		r.run = true
		r.left, r.acked = h.Seq, h.Seq
		r.right = h.Seq + uint32(max(1, c.cfg.Window-r.ready.n))
		r.told = r.right
		if c.cfg.Ours {
			r.told = r.left // a wide window is news at once
		}
	}
	r.data = t
	if c.cfg.Ours {
		r.heard = t // a sender of ours counts what it sends again, too
	}
	switch {
	case before(h.Seq, r.left):
		c.stats.Duplicates++
		r.ackNow = true
		return
	case r.over:
		c.stats.Bad++
		return
	case c.cfg.Reliable:
		c.store(t, h, payload)
	default:
		c.skip(t, h, payload)
	}
}

// store takes a packet of a flow with retransmission.
func (c *Conn) store(t moment, h head, payload []byte) {
	r := &c.rcv
	ahead := h.Seq - r.left
	full := r.bytes+len(payload) > c.cfg.Buffer && (ahead != 0 || r.ready.n > 0)
	if !before(h.Seq, r.right) || full {
		c.stats.NoRoom++
		r.ackNow = true
		return
	}
	if r.nEarly > 0 && r.have.has(h.Seq) && ahead < uint32(len(r.early)) {
		c.stats.Duplicates++
		r.ackNow = true
		return
	}
	r.heard = t
	if ahead > 0 {
		c.stats.Disordered++
		c.reserveEarly(ahead + 1)
		r.early[h.Seq&uint32(len(r.early)-1)] = c.hold(h, payload)
		r.have.add(h.Seq)
		r.nEarly++
		r.ackNow = true
		c.widen()
		return
	}
	r.ackNow = r.ackNow || r.nEarly > 0 // a gap is closed
	c.pass(c.hold(h, payload))
	for !r.over && r.nEarly > 0 && r.have.has(r.left) {
		slot := &r.early[r.left&uint32(len(r.early)-1)]
		b := *slot
		*slot = nil
		r.have.del(r.left)
		r.nEarly--
		c.pass(b)
	}
	if r.over {
		c.forgetEarly()
	}
	r.ackAt = min(r.ackAt, t+moment(ackDelay))
}

// skip takes a packet of a flow without retransmission: those that are missing
// before it are given up.
func (c *Conn) skip(t moment, h head, payload []byte) {
	r := &c.rcv
	const insane = 1 << 20
	ahead := h.Seq - r.left
	if ahead > insane {
		c.stats.Bad++
		return
	}
	c.stats.Skipped += uint64(ahead)
	r.heard = t
	r.left = h.Seq
	if r.bytes+len(payload) > c.cfg.Buffer && r.ready.n > 0 || r.ready.n >= c.cfg.Window {
		c.stats.NoRoom++
		r.left++
	} else {
		c.pass(c.hold(h, payload))
	}
	c.widen()
	r.ackNow = r.over
}

// hold returns a copy of payload, or the buffer that stands for the end of the stream.
func (c *Conn) hold(h head, payload []byte) *buf {
	if h.Flags&data == 0 {
		return end
	}
	c.rcv.bytes += len(payload)
	c.rcv.largest = max(c.rcv.largest, len(payload))
	return keep(payload)
}

// pass gives the next packet in order to the process.
func (c *Conn) pass(b *buf) {
	c.rcv.left++
	if b == end {
		c.rcv.over = true
		return
	}
	c.stats.Received++
	c.rcv.ready.push(b)
}

// reserveEarly makes room for n packets from left on.
func (c *Conn) reserveEarly(n uint32) {
	r := &c.rcv
	if int(n) <= len(r.early) {
		return
	}
	size := max(64, len(r.early))
	for size < int(n) {
		size *= 2
	}
	early, have := make([]*buf, size), make(bits, size/64)
	for i := range uint32(len(r.early)) {
		if seq := r.left + i; r.have.has(seq) {
			early[seq&uint32(size-1)] = r.early[seq&uint32(len(r.early)-1)]
			have.add(seq)
		}
	}
	r.early, r.have = early, have
}

// forgetEarly drops the packets that came before one that was sent earlier.
func (c *Conn) forgetEarly() {
	r := &c.rcv
	for i, b := range r.early {
		if b != nil {
			r.bytes -= len(b.b)
			b.free()
			r.early[i] = nil
		}
	}
	clear(r.have)
	r.nEarly = 0
}

// Head returns the next packet for the process, in order, and whether there is
// one. It is valid until Drop.
func (c *Conn) Head() ([]byte, bool) {
	if c.rcv.ready.n == 0 {
		return nil, false
	}
	return c.rcv.ready.first().b, true
}

// Drop takes the packet that Head returned off the flow. The window opens: Tick
// tells the other end.
func (c *Conn) Drop() {
	b := c.rcv.ready.pop()
	c.rcv.bytes -= len(b.b)
	b.free()
	c.widen()
}

// End reports that the other end has ended the stream and the process has taken
// all of it.
func (c *Conn) End() bool { return c.rcv.over && c.rcv.ready.n == 0 }

// NewsDue reports whether the process has taken so much that the other end must be told
// of the room. If it returns true, Tick sends the window now.
func (c *Conn) NewsDue() bool {
	r := &c.rcv
	return r.run && int32(r.right-r.told) >= int32(min(fcEvery, c.cfg.Window/4))
}

// widen moves the right edge of the window as the process takes packets. While Buffer
// has room, packets that came early take no room from others. Otherwise a gap, which is
// closed two round trips after it was sent, would halve the rate of a full window. If
// packets are larger than Window counts on, fewer fit. The edge never moves back.
func (c *Conn) widen() {
	r := &c.rcv
	if !r.run {
		return
	}
	room, fit := c.cfg.Window, c.cfg.Window
	if r.largest > 0 {
		fit = max(1, c.cfg.Buffer/r.largest)
		room = min(room, fit)
	}
	if c.cfg.Ours {
		room += min(r.nEarly, room, fit-room)
	}
	if right := r.left + uint32(max(0, room-r.ready.n)); before(r.right, right) {
		r.right = right
	}
}

// news adds to h what the other end has to know. If there is a run, that is the window. On
// a flow with retransmission it is also the acknowledgement, until maxAckDelay after the
// last packet.
func (c *Conn) news(t moment, h *head) {
	r := &c.rcv
	if !c.hearing(t) {
		return
	}
	h.Flags |= fc
	h.Window = r.right & 0xffffff
	if c.cfg.Reliable && t-r.data <= moment(maxAckDelay) {
		h.Flags |= ack
		h.Ack = r.left
	}
}

// saidNews notes that the other end was told what h says.
func (c *Conn) saidNews(h head) {
	r := &c.rcv
	if h.Flags&fc != 0 {
		r.told = r.right
	}
	if h.Flags&ack != 0 {
		r.acked, r.ackAt = r.left, never
		r.ackNow = r.ackNow && r.nEarly > 0 && h.Flags&data != 0 // ranges are still to be said
	}
}

// tickReceiver sends the acknowledgements and windows that are due and returns
// when the next are.
func (c *Conn) tickReceiver(t moment, emit Emit) moment {
	r := &c.rcv
	if !c.hearing(t) {
		r.asked, r.ackNow, r.ackAt = false, false, never
		return never
	}
	c.widen()
	acks := r.ackNow || t >= r.ackAt || c.cfg.Ours && r.left-r.acked >= 2
	acks = acks && (c.cfg.Reliable || r.over)
	windows := r.asked || c.NewsDue()
	if !acks && !windows {
		r.ackNow = false
		return r.ackAt
	}
	h := head{Flags: fc, Window: r.right & 0xffffff}
	var ranges []byte
	if acks {
		h.Flags |= ack
		h.Ack = r.left
		ranges = c.ranges()
	}
	h.put(&c.head)
	if !emit(&c.head, ranges) {
		return t + retry
	}
	c.saidNews(h)
	r.asked = false
	return r.ackAt
}

// ranges returns the ranges of packets that came beyond left, for a peer of ours.
func (c *Conn) ranges() []byte {
	r := &c.rcv
	if !c.cfg.Ours || r.nEarly == 0 {
		return nil
	}
	c.sack = c.sack[:0]
	to := r.left + uint32(len(r.early))
	for n, seq := 0, r.left; n < maxRanges; n++ {
		if seq = r.have.next(seq, to, true); seq == to {
			break
		}
		last := r.have.next(seq, to, false)
		c.sack = putRange(c.sack, seq-r.left, last-r.left)
		seq = last
	}
	return c.sack
}

// Close sends the last acknowledgement, if it is due. It frees all memory: the Conn must
// not be used any more.
func (c *Conn) Close(now time.Time, emit Emit) {
	r := &c.rcv
	if c.hearing(c.at(now)) && r.acked != r.left {
		head{Flags: ack, Ack: r.left}.put(&c.head)
		emit(&c.head, nil)
	}
	c.forgetEarly()
	for r.ready.n > 0 {
		c.Drop()
	}
	for c.snd.left != c.snd.seq {
		c.drop(c.snd.left)
		c.snd.left++
	}
}
