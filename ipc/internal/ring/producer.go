package ring

import (
	"sync/atomic"

	"o7s/ipc/internal/lock"
)

// Producer is the writing side of one direction. It is not safe for concurrent
// use.
type Producer struct {
	buf    []byte
	mask   uint64
	rewind uint64 // from this offset on an empty ring starts again at 0

	pos  uint64 // the next free byte; the shared wpos follows at Publish
	rpos uint64 // the consumer's position when last loaded, checked
	rec  uint64 // where the reserved record starts: pos, or after a skip

	// The header that Publish stores, and its offset. It is that of the first
	// unpublished record and hides all records after it. 0: all is published.
	pending, pendingAt uint64

	fastEnd     uint64 // a record that ends here or before goes to pos, without a check
	rewindCheck uint64 // position at which to check next whether the ring is empty

	stallCheck uint64 // position after which Stalled checks again
	stallPos   uint64 // the consumer's position at the last check of Stalled

	w words

	// Packets and Bytes count what was committed.
	Packets, Bytes uint64
}

// NewProducer returns the producer of direction dir, 0 or 1, of rings of size
// bytes in mem. mem must be Bytes(size) long and all zero in this direction. The
// error wraps core.ErrUsage.
func NewProducer(mem []byte, size, dir int) (Producer, error) {
	w, buf, err := open(mem, size, dir)
	if err != nil {
		return Producer{}, err
	}
	return Producer{
		buf: buf, mask: uint64(size) - 1, rewind: min(rewindMax, uint64(size)/2),
		stallCheck: stallAfter, w: w,
	}, nil
}

// place finds room for a record of need bytes and sets rec.
func (p *Producer) place(need uint64) (bool, error) {
	if p.pos+need <= p.fastEnd {
		p.rec = p.pos
		return true, nil
	}
	return p.search(need)
}

// search is place where room must be looked for. It loads the consumer's position
// at most once for the room and once for the rewind.
func (p *Producer) search(need uint64) (bool, error) {
	off := p.pos & p.mask
	size := p.mask + 1
	rec := p.pos
	// The largest packet fits before the offset rewind, which is at least half
	// of the smallest ring.
	if off >= p.rewind && p.pos >= p.rewindCheck && p.empty() {
		rec += size - off
	} else if off+need > size {
		rec += size - off
	}
	if rec+need+header-p.rpos > size {
		if err := p.reload(); err != nil {
			return false, err
		}
		if rec+need+header-p.rpos > size {
			return false, nil
		}
	}
	p.rec = rec
	// The next records need no check until the end of the ring, the end of the
	// room or the next check for a rewind. A skip does not count: the reserved
	// record may never be committed.
	start := p.pos - off
	p.fastEnd = min(start+size-header, p.rpos+size-header, max(start+p.rewind, p.rewindCheck))
	return true, nil
}

// Stalled reports whether the consumer has not moved while more than 512 KiB were
// written. It checks once for each 512 KiB. Such a consumer may be waiting for
// the producer's core.
func (p *Producer) Stalled() bool {
	if p.pos <= p.stallCheck {
		return false
	}
	was := p.stallPos
	p.stallPos, p.stallCheck = p.w.rpos.Load(), p.pos+stallAfter
	return p.stallPos == was
}

// empty reports whether the consumer has read everything. It is called only now
// and then. A fast consumer writes its position all the time, and each load by
// the producer takes the cache line away from it.
func (p *Producer) empty() bool {
	p.rewindCheck = p.pos + rewindEvery
	if p.w.rpos.Load() != p.pos {
		return false
	}
	p.rpos = p.pos
	return true
}

// reload loads the consumer's position. Unless it lies between the last one and
// what is written, and is a multiple of 8, the consumer broke the rules.
func (p *Producer) reload() error {
	r := p.w.rpos.Load()
	if r-p.rpos > p.pos-p.rpos || r&7 != 0 {
		return errRpos
	}
	p.rpos = r
	return nil
}

// Reserve returns n bytes of the ring to be filled with a packet, or nil if there
// is no room now. n is from 1 to core.MaxPacket. The bytes belong to the caller
// until Commit. A later Reserve replaces this one.
func (p *Producer) Reserve(n int) ([]byte, error) {
	ok, err := p.place(recordSize(n))
	if !ok {
		return nil, err
	}
	at := p.rec&p.mask + header
	return p.buf[at : at+uint64(n) : at+uint64(n)], nil
}

// Commit makes the first n bytes of the last reservation a packet. n is from 1
// to what was reserved. The consumer sees it after Publish.
func (p *Producer) Commit(n int) {
	next := p.rec + recordSize(n)
	putWord(p.buf, next&p.mask, 0)
	if p.rec == p.pos {
		p.mark(uint64(n))
	} else {
		putWord(p.buf, p.rec&p.mask, uint64(n))
		p.mark(skipMark)
	}
	p.pos = next
	p.Packets++
	p.Bytes += uint64(n)
}

// mark gives the record at pos its header h. The header of the first unpublished
// record is left to Publish.
func (p *Producer) mark(h uint64) {
	if p.pending == 0 {
		p.pendingAt, p.pending = p.pos&p.mask, h
	} else {
		putWord(p.buf, p.pos&p.mask, h)
	}
}

// Put copies a packet of 1 to core.MaxPacket bytes into the ring. It returns
// false if there is no room now. The consumer sees the packet after Publish.
func (p *Producer) Put(b []byte) (bool, error) { return p.PutParts(nil, b) }

// PutParts is Put of a packet that is head and then body.
func (p *Producer) PutParts(head, body []byte) (bool, error) {
	n := len(head) + len(body)
	need := recordSize(n)
	if ok, err := p.place(need); !ok {
		return false, err
	}
	at := p.rec&p.mask + header
	copy(p.buf[at:at+need-header], head)
	copy(p.buf[at+uint64(len(head)):at+need-header], body)
	p.Commit(n)
	return true, nil
}

// PutFast is Put of a packet that needs no work but the copy. If there is other
// work, it does nothing and returns false; call Put then. Nearly always there is
// none.
func (p *Producer) PutFast(b []byte) bool {
	need := recordSize(len(b))
	if p.pos+need > p.fastEnd || p.pending != 0 {
		return false
	}
	off := p.pos & p.mask
	copy(p.buf[off+header:off+need], b)
	putWord(p.buf, off+need, 0)
	p.pendingAt, p.pending = off, uint64(len(b))
	p.pos += need
	p.Packets++
	p.Bytes += uint64(len(b))
	return true
}

// Publish lets the consumer see all that is committed. Call Wake afterwards.
func (p *Producer) Publish() {
	if p.pending != 0 {
		word64(p.buf, int(p.pendingAt)).Store(p.pending)
		p.w.wpos.Store(p.pos)
		p.pending = 0
	}
}

// PublishUnlock is Publish of at least one packet, and then unlocks mu, which the
// caller holds. It does not unlock if the consumer sleeps or other goroutines wait
// for mu: it returns false, and the caller calls Wake and Unlock.
func (p *Producer) PublishUnlock(mu *lock.Lock) bool {
	h := p.pending
	p.pending = 0
	return mu.PublishUnlock(word64(p.buf, int(p.pendingAt)), h, p.w.wpos, p.pos, p.w.rwait)
}

// Asleep reports whether the consumer says that it sleeps. After Publish, which is
// a full barrier, Asleep does not miss a consumer that went to sleep without
// seeing the packet.
func (p *Producer) Asleep() bool { return p.w.rwait.Load() != 0 }

// Wake is Asleep, and clears the consumer's word. If it returns true, the caller
// must wake the consumer.
func (p *Producer) Wake() bool { return p.Asleep() && p.w.rwait.CompareAndSwap(1, 0) }

// Pending reports whether something is committed and not published.
func (p *Producer) Pending() bool { return p.pending != 0 }

// Unread returns how many bytes of the ring are published and not read, headers
// included. The consumer may lie, but the result is at most the size of the ring.
func (p *Producer) Unread() int { return int(min(p.w.wpos.Load()-p.w.rpos.Load(), p.mask+1)) }

// Since returns how many bytes were committed since Pos returned from.
func (p *Producer) Since(from uint64) uint64 { return p.pos - from }

// Pos returns how many bytes were ever committed, headers included.
func (p *Producer) Pos() uint64 { return p.pos }

// Idle returns the memory of the ring if the consumer has read all that was
// committed, so that no byte of it is needed. Else it returns nil.
func (p *Producer) Idle() []byte {
	if p.w.rpos.Load() != p.pos || p.w.wpos.Load() != p.pos {
		return nil
	}
	return p.buf
}

// Published returns the position that the shared memory holds. It is a hint. Any
// goroutine may call it at any time.
func (p *Producer) Published() uint64 { return p.w.wpos.Load() }

// Room reports whether a packet of n bytes fits now. With half set, the ring must
// also be at most half full. A producer that sleeps waits for that, so that one
// wake-up serves many packets.
func (p *Producer) Room(n int, half bool) (bool, error) {
	if err := p.reload(); err != nil {
		return false, err
	}
	if half && p.pos-p.rpos > (p.mask+1)/2 {
		return false, nil
	}
	return p.place(recordSize(n))
}

// Watch returns the word that changes when there is more room, and its value when
// last loaded.
func (p *Producer) Watch() (*atomic.Uint64, uint64) { return p.w.rpos, p.rpos }

// Sleep tells the consumer that the producer is about to sleep. The producer must
// check Room once more afterwards.
func (p *Producer) Sleep() { p.w.wwait.Store(1) }

// Awake undoes Sleep.
func (p *Producer) Awake() { p.w.wwait.Store(0) }

// End says that no packet follows. Call Wake afterwards.
func (p *Producer) End() { p.w.eof.Store(1) }

// Gone reports whether the consumer said that it reads no more.
func (p *Producer) Gone() bool { return p.w.gone.Load() != 0 }

// SetProcess stores a number for this process. It is a hint by which the peer
// chooses how to wait.
func (p *Producer) SetProcess(n uint64) { p.w.process.Store(n) }
