package ring

import (
	"sync/atomic"

	"o7s/core"
)

// Consumer is the reading side of one direction. It is not safe for concurrent
// use.
type Consumer struct {
	buf  []byte
	mask uint64

	pos            uint64 // start of the record at the head
	published      uint64 // what the shared rpos holds
	maxUnpublished uint64 // how far pos may be ahead of it while the producer is awake
	limit          uint64 // at or after this position wpos must be checked first; see checkLimit
	size           int    // length of the packet at the head, 0: not known yet
	done           int    // bytes of it that were taken

	lent []lentPacket // what Look lent

	w words

	// Packets and Bytes count the packets that were taken whole.
	Packets, Bytes uint64
}

// lentPacket is a packet that Look lent: the position after it, and the bytes of
// all packets up to there.
type lentPacket struct{ end, bytes uint64 }

// NewConsumer returns the consumer of direction dir, 0 or 1, of rings of size
// bytes in mem. mem must be Bytes(size) long. There is one consumer for each
// direction, ever. The error wraps core.ErrUsage.
func NewConsumer(mem []byte, size, dir int) (Consumer, error) {
	w, buf, err := open(mem, size, dir)
	if err != nil {
		return Consumer{}, err
	}
	return Consumer{buf: buf, mask: uint64(size) - 1, maxUnpublished: uint64(size) / 8, w: w}, nil
}

// Next returns how many bytes of the packet at the head are left to take, or 0
// if the ring is empty.
func (c *Consumer) Next() (int, error) {
	if c.size != 0 {
		return c.size - c.done, nil
	}
	for {
		h := c.header()
		if h == 0 {
			return 0, nil
		}
		next, err := c.after(c.pos, h)
		if err != nil {
			return 0, err
		}
		if h != skipMark {
			c.size, c.done = int(h), 0
			return c.size, nil
		}
		c.pos = next
	}
}

// after checks the header h of the record at pos and returns the position after
// that record.
func (c *Consumer) after(pos, h uint64) (uint64, error) {
	if pos >= c.limit && !c.checkLimit(pos) {
		return 0, errWpos
	}
	off := pos & c.mask
	next := pos + c.mask + 1 - off
	switch {
	case h == skipMark && off == 0:
		// A skip of the whole ring is never needed. A peer that writes skips
		// alone would keep the consumer in a loop.
		return 0, errSkip
	case h == skipMark:
	case h > core.MaxPacket || recordSize(int(h)) > next-pos:
		return 0, errLength
	default:
		next = pos + recordSize(int(h))
	}
	if next-c.pos > c.mask+1 {
		return 0, errWpos // more than a ring holds
	}
	return next, nil
}

// checkLimit reports whether the producer's position is less than a ring away
// from pos, and moves the limit forward. It is called once for each ring of
// bytes. Without it, a producer that left headers everywhere and writes no more
// would make the consumer read the same ring for ever.
func (c *Consumer) checkLimit(pos uint64) bool {
	size := c.mask + 1
	w := c.w.wpos.Load()
	if w-(pos-size)-1 >= 2*size {
		return false
	}
	c.limit = w + size
	return true
}

// header returns the header at pos, 0 if there is none yet.
func (c *Consumer) header() uint64 {
	if c.neverWritten() {
		return 0
	}
	return load64(c.buf, c.pos&c.mask)
}

// neverWritten reports whether nothing was ever written. The pages of the ring
// do not exist then, and a load from the ring would allocate one. So the first
// packet is known by wpos.
func (c *Consumer) neverWritten() bool { return c.pos == 0 && c.w.wpos.Load() == 0 }

// Head returns what is left of the packet at the head, in the ring itself. Call
// it after Next returned more than 0. A hostile producer can change the bytes at
// any time before Take.
func (c *Consumer) Head() []byte {
	at := c.pos&c.mask + header
	end := at + uint64(c.size)
	return c.buf[at+uint64(c.done) : end : end]
}

// Take consumes n bytes of the packet at the head, at most what Next returned.
// After the last byte the packet's room goes back to the producer, at the latest
// together with an eighth of the ring. Take returns true if the producer sleeps
// and the caller must wake it.
func (c *Consumer) Take(n int) bool {
	c.done += n
	if c.done < c.size {
		return false
	}
	c.Packets++
	c.Bytes += uint64(c.size)
	c.pos += recordSize(c.size)
	c.size = 0
	return c.due() && c.Publish()
}

// Look lends the packets from the head on, one in each of p, in the ring itself,
// and returns how many. Call Drop before any other method. A hostile producer
// can change the bytes of a lent packet at any time, but not where it begins or
// how long it is: each header is loaded once.
//
// If a record breaks the rules, Look lends the packets before it. The next Look
// returns the error.
func (c *Consumer) Look(p [][]byte) (int, error) {
	c.lent = c.lent[:0]
	if c.size != 0 && c.done != 0 && len(p) > 0 { // Take left a part of the packet
		p[0] = c.Head()
		c.lent = append(c.lent, lentPacket{c.pos + recordSize(c.size), uint64(c.size)})
		return 1, nil
	}
	if c.neverWritten() {
		return 0, nil
	}
	pos, bytes := c.pos, uint64(0)
	for len(c.lent) < len(p) {
		off := pos & c.mask
		h := load64(c.buf, off)
		if h == 0 {
			break
		}
		next, err := c.after(pos, h)
		if err != nil {
			if len(c.lent) == 0 {
				return 0, err
			}
			break
		}
		if h != skipMark {
			bytes += h
			p[len(c.lent)] = c.buf[off+header : off+header+h : off+header+h]
			c.lent = append(c.lent, lentPacket{next, bytes})
		}
		pos = next
	}
	return len(c.lent), nil
}

// Drop takes the first n of the packets that Look lent. The others stay in the
// ring and are not lent any more. Drop returns what Take returns.
func (c *Consumer) Drop(n int) bool {
	if n == 0 {
		return false
	}
	last := c.lent[n-1]
	c.Packets += uint64(n)
	c.Bytes += last.bytes
	c.pos, c.size, c.done = last.end, 0, 0
	return c.due() && c.Publish()
}

// GetFast copies the packet at the head to p and takes it. It returns the length
// and what Take returns. If that packet needs any other work, it does nothing and
// returns 0; call Next then. Nearly always there is no other work.
func (c *Consumer) GetFast(p []byte) (n int, wake bool) {
	if c.pos >= c.limit || c.size != 0 {
		return 0, false
	}
	off := c.pos & c.mask
	h := load64(c.buf, off)
	if h-1 >= core.MaxPacket || h > uint64(len(p)) { // true for h == 0 too
		return 0, false
	}
	need := recordSize(int(h))
	if off+need > c.mask+1 {
		return 0, false
	}
	copy(p, c.buf[off+header:off+header+h])
	c.Packets++
	c.Bytes += h
	c.pos += need
	return int(h), c.due() && c.Publish()
}

// due reports whether Publish must be called now: an eighth of the ring was read
// since the last time, or the producer sleeps.
func (c *Consumer) due() bool {
	return c.pos-c.published >= c.maxUnpublished || c.w.wwait.Load() != 0
}

// Publish gives the producer the room of all packets that were taken. Call it
// before waiting for a packet. It returns true if the producer sleeps, the ring
// is at most half full and the caller must wake the producer.
func (c *Consumer) Publish() bool {
	if c.published != c.pos {
		c.published = c.pos
		c.w.rpos.Store(c.pos)
	}
	return c.w.wwait.Load() != 0 && c.w.wpos.Load()-c.pos <= (c.mask+1)/2 && c.w.wwait.CompareAndSwap(1, 0)
}

// Empty reports whether Next would find nothing.
func (c *Consumer) Empty() bool {
	return c.size == 0 && c.header() == 0
}

// Watch returns a word that changes when a packet comes, and its value until
// then. That value always means that the ring is empty. Otherwise a hostile
// producer could keep a reader awake that has nothing to read.
func (c *Consumer) Watch() (*atomic.Uint64, uint64) {
	if c.neverWritten() {
		return c.w.wpos, 0
	}
	return word64(c.buf, int(c.pos&c.mask)), 0
}

// Sleep tells the producer that the consumer is about to sleep. The consumer
// must check Empty and Ended once more afterwards.
func (c *Consumer) Sleep() { c.w.rwait.Store(1) }

// Awake undoes Sleep.
func (c *Consumer) Awake() { c.w.rwait.Store(0) }

// Ended reports whether the producer said that no packet follows. Packets from
// before may still be in the ring: call Next after Ended.
func (c *Consumer) Ended() bool { return c.w.eof.Load() != 0 }

// Leave says that this consumer reads no more. It returns true if the producer
// sleeps and the caller must wake it.
func (c *Consumer) Leave() bool {
	c.w.gone.Store(1)
	return c.w.wwait.Load() != 0 && c.w.wwait.CompareAndSwap(1, 0)
}

// Process returns the number that the producer's process gave itself, 0 if none.
// It is a hint and may be a lie.
func (c *Consumer) Process() uint64 { return c.w.process.Load() }
