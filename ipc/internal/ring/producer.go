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
	rewind uint64

	pos  uint64 // the next free byte; the shared wpos follows at Publish
	head uint64 // the header at this offset is what Publish shows
	show uint64 // its value; 0: everything is shown
	rpos uint64 // the consumer's position when last looked at, checked
	look uint64 // where to look next whether the ring is empty
	rec  uint64 // where the reserved record starts: pos, or past a skip
	free uint64 // a record that ends up to here goes to pos, without a look

	far uint64 // from here on Still looks again
	was uint64 // the consumer's position when Still last looked

	w words

	// Packets and Bytes count what was committed.
	Packets, Bytes uint64
}

// NewProducer returns the producer of direction dir, 0 or 1, of rings of size
// bytes in mem, which must be Bytes(size) long and fresh (all zero) in this
// direction. The error wraps core.ErrUsage.
func NewProducer(mem []byte, size, dir int) (Producer, error) {
	w, buf, err := open(mem, size, dir)
	if err != nil {
		return Producer{}, err
	}
	return Producer{
		buf: buf, mask: uint64(size) - 1, rewind: min(rewindMax, uint64(size)/2),
		far: stillAfter, w: w,
	}, nil
}

// place finds room for a record of need bytes and sets rec.
func (p *Producer) place(need uint64) (bool, error) {
	if p.pos+need <= p.free {
		p.rec = p.pos
		return true, nil
	}
	return p.search(need)
}

// search is place where there is something to look at. It loads the consumer's
// position at most once for the room and once for the rewind.
func (p *Producer) search(need uint64) (bool, error) {
	off := p.pos & p.mask
	size := p.mask + 1
	rec := p.pos
	// Before rewind, half of the smallest ring at least, the largest packet fits.
	if off >= p.rewind && p.pos >= p.look && p.empty() {
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
	// Until the end of the ring, of the room, or until it is time to look
	// whether to start again at 0. A record that skips is not counted on: it may
	// yet be given back.
	start := p.pos - off
	p.free = min(start+size-header, p.rpos+size-header, max(start+p.rewind, p.look))
	return true, nil
}

// Still reports that the consumer has not said that it read anything while more
// than 512 KiB were written. It looks once for each so many. Such a consumer may
// only be waiting for the producer's core.
func (p *Producer) Still() bool {
	if p.pos <= p.far {
		return false
	}
	was := p.was
	p.was, p.far = p.w.rpos.Load(), p.pos+stillAfter
	return p.was == was
}

// empty reports whether the consumer has read everything. It is asked only now
// and then: a consumer that keeps up writes its position all the time, and each
// look takes the line away from it.
func (p *Producer) empty() bool {
	p.look = p.pos + lookEvery
	if p.w.rpos.Load() != p.pos {
		return false
	}
	p.rpos = p.pos
	return true
}

// reload looks at the consumer's position: between what it was and what is
// written, and a multiple of 8, or the consumer broke the rules.
func (p *Producer) reload() error {
	r := p.w.rpos.Load()
	if r-p.rpos > p.pos-p.rpos || r&7 != 0 {
		return errRpos
	}
	p.rpos = r
	return nil
}

// Reserve returns n bytes of the ring to be filled with a packet, or nil if
// there is no room for it now. n is from 1 to core.MaxPacket. It belongs to the
// caller until Commit; a later Reserve replaces it.
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

// mark gives the record at pos its header. That of the first record which the
// consumer may not see yet waits for Publish, and hides the others.
func (p *Producer) mark(h uint64) {
	if p.show == 0 {
		p.head, p.show = p.pos&p.mask, h
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

// PutFast is Put where nothing but the copy is to be done, which is nearly
// always. Else it does nothing and returns false: call Put.
func (p *Producer) PutFast(b []byte) bool {
	need := recordSize(len(b))
	if p.pos+need > p.free || p.show != 0 {
		return false
	}
	off := p.pos & p.mask
	copy(p.buf[off+header:off+need], b)
	putWord(p.buf, off+need, 0)
	p.head, p.show = off, uint64(len(b))
	p.pos += need
	p.Packets++
	p.Bytes += uint64(len(b))
	return true
}

// Publish lets the consumer see all that is committed. The caller asks Wake
// afterwards.
func (p *Producer) Publish() {
	if p.show != 0 {
		word64(p.buf, int(p.head)).Store(p.show)
		p.w.wpos.Store(p.pos)
		p.show = 0
	}
}

// PublishUnlock is Publish of at least one packet, and unlocks mu, which the
// caller holds. It reports whether it did. It does not where the consumer
// sleeps or others wait for mu: the caller then asks Wake and unlocks.
func (p *Producer) PublishUnlock(mu *lock.Lock) bool {
	h := p.show
	p.show = 0
	return mu.PublishUnlock(word64(p.buf, int(p.head)), h, p.w.wpos, p.pos, p.w.rwait)
}

// Asleep reports whether the consumer sleeps, as far as it says. Publish is a full
// barrier: a consumer that did not see the packet has said that it sleeps before
// the producer asks.
func (p *Producer) Asleep() bool { return p.w.rwait.Load() != 0 }

// Wake is Asleep, and takes the consumer's word back: the caller must wake it if
// it returns true.
func (p *Producer) Wake() bool { return p.Asleep() && p.w.rwait.CompareAndSwap(1, 0) }

// Hidden reports whether something is committed and not published.
func (p *Producer) Hidden() bool { return p.show != 0 }

// Unread returns how many bytes of the ring are published and not read, headers
// included, as far as the consumer says: never more than the ring has.
func (p *Producer) Unread() int { return int(min(p.w.wpos.Load()-p.w.rpos.Load(), p.mask+1)) }

// Unpublished returns how many bytes are committed beyond from, a value that
// Pos returned.
func (p *Producer) Unpublished(from uint64) uint64 { return p.pos - from }

// Pos returns the number of bytes that were ever committed, headers included.
func (p *Producer) Pos() uint64 { return p.pos }

// Idle returns the memory of the ring where the consumer has read all that was
// committed, so that nothing in it counts, else nil.
func (p *Producer) Idle() []byte {
	if p.w.rpos.Load() != p.pos || p.w.wpos.Load() != p.pos {
		return nil
	}
	return p.buf
}

// Shown returns the position that was last published, as the shared memory has
// it: any goroutine may ask, and the answer is only a hint.
func (p *Producer) Shown() uint64 { return p.w.wpos.Load() }

// Room reports whether a packet of n bytes fits now; with half, also whether
// the ring is at most half full, which is what a producer that slept waits for,
// so that it is woken for many packets at once.
func (p *Producer) Room(n int, half bool) (bool, error) {
	if err := p.reload(); err != nil {
		return false, err
	}
	if half && p.pos-p.rpos > (p.mask+1)/2 {
		return false, nil
	}
	return p.place(recordSize(n))
}

// Watch returns the word that changes when there is more room, and the value
// that it had when last looked at.
func (p *Producer) Watch() (*atomic.Uint64, uint64) { return p.w.rpos, p.rpos }

// Sleep says that the producer is about to sleep; it must look at Room once
// more after that. Awake takes it back.
func (p *Producer) Sleep() { p.w.wwait.Store(1) }

// Awake takes Sleep back.
func (p *Producer) Awake() { p.w.wwait.Store(0) }

// End says that no packet follows. Ask Wake afterwards.
func (p *Producer) End() { p.w.eof.Store(1) }

// Gone reports whether the consumer said that it reads no more.
func (p *Producer) Gone() bool { return p.w.gone.Load() != 0 }

// SetWho stores a number for this process: a hint, which the peer may use to
// choose how to wait.
func (p *Producer) SetWho(n uint64) { p.w.who.Store(n) }
