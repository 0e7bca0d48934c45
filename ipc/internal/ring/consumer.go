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

	pos   uint64 // start of the packet at the head
	pub   uint64 // what the shared rpos holds
	lag   uint64 // bytes that may stay unpublished while the producer is awake
	limit uint64 // from here on wpos must be looked at first; see inReach
	size  int    // length of the packet at the head, 0: not looked at yet
	done  int    // bytes of it that were taken

	ahead []lookedAt // what Look lent

	w words

	// Packets and Bytes count the packets that were taken whole.
	Packets, Bytes uint64
}

// lookedAt is a packet that Look lent: the position after it, and the bytes up
// to there.
type lookedAt struct{ end, bytes uint64 }

// NewConsumer returns the consumer of direction dir, 0 or 1, of rings of size
// bytes in mem, which must be Bytes(size) long and whose direction nobody has
// read from before. The error wraps core.ErrUsage.
func NewConsumer(mem []byte, size, dir int) (Consumer, error) {
	w, buf, err := open(mem, size, dir)
	if err != nil {
		return Consumer{}, err
	}
	return Consumer{buf: buf, mask: uint64(size) - 1, lag: uint64(size) / 8, w: w}, nil
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
		if c.pos >= c.limit && !c.inReach(c.pos) {
			return 0, errWpos
		}
		off := c.pos & c.mask
		rest := c.mask + 1 - off
		if h == skipMark {
			// At offset 0 a skip would be the whole ring: two in a row
			// are never needed, and an endless row would keep us here.
			if off == 0 {
				return 0, errSkip
			}
			c.pos += rest
			continue
		}
		if h > core.MaxPacket || recordSize(int(h)) > rest {
			return 0, errLength
		}
		c.size, c.done = int(h), 0
		return c.size, nil
	}
}

// inReach looks, once in a ring, whether the producer's position is less than a
// ring away from pos, and moves the limit on. Headers alone would let a producer that
// writes no more be read round and round, for ever.
func (c *Consumer) inReach(pos uint64) bool {
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
	if c.fresh() {
		return 0
	}
	return load64(c.buf, c.pos&c.mask)
}

// fresh reports whether nothing was ever written. The ring has no memory then,
// and a look at it would take some: the first packet shows in the header page.
func (c *Consumer) fresh() bool { return c.pos == 0 && c.w.wpos.Load() == 0 }

// Head returns what is left of the packet at the head, in the ring itself.
// Call it after Next returned more than 0. The producer may be hostile and
// change the bytes at any time before Take.
func (c *Consumer) Head() []byte {
	at := c.pos&c.mask + header
	end := at + uint64(c.size)
	return c.buf[at+uint64(c.done) : end : end]
}

// Take consumes n bytes of the packet at the head, at most what Next returned.
// When none are left, the packet's place goes back to the producer, at the
// latest when an eighth of the ring has. Take returns true if the producer
// sleeps and the caller must wake it.
func (c *Consumer) Take(n int) bool {
	c.done += n
	if c.done < c.size {
		return false
	}
	c.Packets++
	c.Bytes += uint64(c.size)
	c.pos += recordSize(c.size)
	c.size = 0
	if c.pos-c.pub >= c.lag || c.w.wwait.Load() != 0 {
		return c.Publish()
	}
	return false
}

// Look lends the packets from the head on, one in each of p, in the ring itself,
// and returns how many. They are taken by Drop alone: no other method may be
// called before that. The producer may be hostile and change the bytes at any
// time; where the packets begin and how long they are is read once.
//
// Where the producer broke the rules the error comes without a packet, after
// those before the violation have been lent.
func (c *Consumer) Look(p [][]byte) (int, error) {
	c.ahead = c.ahead[:0]
	if c.size != 0 && c.done != 0 && len(p) > 0 { // a Read has left a part
		p[0] = c.Head()
		c.ahead = append(c.ahead, lookedAt{c.pos + recordSize(c.size), uint64(c.size)})
		return 1, nil
	}
	pos, bytes := c.pos, uint64(0)
	for len(c.ahead) < len(p) {
		if pos == 0 && c.fresh() {
			break
		}
		off := pos & c.mask
		h := load64(c.buf, off)
		if h == 0 {
			break
		}
		next, err := c.after(pos, h)
		if err != nil {
			if len(c.ahead) == 0 {
				return 0, err
			}
			break
		}
		if h != skipMark {
			bytes += h
			p[len(c.ahead)] = c.buf[off+header : off+header+h : off+header+h]
			c.ahead = append(c.ahead, lookedAt{next, bytes})
		}
		pos = next
	}
	return len(c.ahead), nil
}

// after returns the position after the record at pos, whose header is h.
func (c *Consumer) after(pos, h uint64) (uint64, error) {
	if pos >= c.limit && !c.inReach(pos) {
		return 0, errWpos
	}
	off := pos & c.mask
	next := pos + c.mask + 1 - off
	switch {
	case h == skipMark && off == 0:
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

// Drop takes the first n of the packets that Look lent; the others are lent no
// more and stay. Drop returns what Take returns.
func (c *Consumer) Drop(n int) bool {
	if n == 0 {
		return false
	}
	last := c.ahead[n-1]
	c.Packets += uint64(n)
	c.Bytes += last.bytes
	c.pos, c.size, c.done = last.end, 0, 0
	if c.pos-c.pub >= c.lag || c.w.wwait.Load() != 0 {
		return c.Publish()
	}
	return false
}

// GetFast copies the packet at the head to p and takes it, where that is a whole
// one, p is long enough and nothing else is to be done, which is nearly always.
// It returns its length, and what Take returns. Else it does nothing and returns
// 0: Next tells why.
func (c *Consumer) GetFast(p []byte) (n int, wake bool) {
	if c.pos >= c.limit || c.size != 0 {
		return 0, false
	}
	off := c.pos & c.mask
	h := load64(c.buf, off)
	if h-1 >= core.MaxPacket || h > uint64(len(p)) { // also where there is nothing
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
	if c.pos-c.pub >= c.lag || c.w.wwait.Load() != 0 {
		wake = c.Publish()
	}
	return int(h), wake
}

// Publish gives the producer all the room that there is. A consumer that finds
// the ring empty calls it before it waits. It returns true if the producer
// sleeps, the ring is at most half full and the caller must wake it.
func (c *Consumer) Publish() bool {
	if c.pub != c.pos {
		c.pub = c.pos
		c.w.rpos.Store(c.pos)
	}
	return c.w.wwait.Load() != 0 && c.w.wpos.Load()-c.pos <= (c.mask+1)/2 && c.w.wwait.CompareAndSwap(1, 0)
}

// Empty reports whether Next would find nothing.
func (c *Consumer) Empty() bool {
	return c.size == 0 && c.header() == 0
}

// Watch returns the word that changes when a packet comes, and the value that
// it has until then. What is watched is always what is empty, or a hostile
// producer could keep a reader awake for nothing.
func (c *Consumer) Watch() (*atomic.Uint64, uint64) {
	if c.fresh() {
		return c.w.wpos, 0
	}
	return word64(c.buf, int(c.pos&c.mask)), 0
}

// Sleep says that the consumer is about to sleep; it must look at Empty and
// Ended once more after that. Awake takes it back.
func (c *Consumer) Sleep() { c.w.rwait.Store(1) }

// Awake takes Sleep back.
func (c *Consumer) Awake() { c.w.rwait.Store(0) }

// Ended reports whether the producer said that no packet follows. Those that
// came before are still to be read: look at Next after Ended.
func (c *Consumer) Ended() bool { return c.w.eof.Load() != 0 }

// Leave says that this consumer reads no more. It returns true if the producer
// sleeps and must be woken.
func (c *Consumer) Leave() bool {
	c.w.gone.Store(1)
	return c.w.wwait.Load() != 0 && c.w.wwait.CompareAndSwap(1, 0)
}

// Who returns the number that the producer's process gave itself, 0 if none: a
// hint that may be a lie.
func (c *Consumer) Who() uint64 { return c.w.who.Load() }
