package frct

import "sync"

// buf is a copy of a packet's payload.
type buf struct {
	b     []byte // of the length of the payload
	class int
}

// Bufs come in a few sizes, and go back for the next packet of any Conn.
var (
	classes = [...]int{256, 2048, 16 << 10, 64 << 10}
	pools   [len(classes)]sync.Pool
)

// keep returns a copy of p, which has at most 64 KiB.
func keep(p []byte) *buf {
	class := 0
	for len(p) > classes[class] {
		class++
	}
	b, _ := pools[class].Get().(*buf)
	if b == nil {
		b = &buf{b: make([]byte, classes[class]), class: class}
	}
	b.b = b.b[:len(p)]
	copy(b.b, p)
	return b
}

// free gives b back. The caller uses it no more.
func (b *buf) free() {
	if b.class >= 0 {
		pools[b.class].Put(b)
	}
}

// end stands for the end of the stream in the place of a payload.
var end = &buf{class: -1}

// queue is a queue of payloads that grows.
type queue struct {
	ring []*buf // its length is a power of two
	head int
	n    int
}

func (q *queue) push(b *buf) {
	if q.n == len(q.ring) {
		ring := make([]*buf, max(8, 2*q.n))
		for i := range q.n {
			ring[i] = q.ring[(q.head+i)&(q.n-1)]
		}
		q.ring, q.head = ring, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = b
	q.n++
}

func (q *queue) first() *buf { return q.ring[q.head] }

func (q *queue) pop() *buf {
	b := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return b
}

// bits is a set of sequence numbers that lie within len(bits)*64 of each other,
// which is a power of two.
type bits []uint64

func (s bits) at(seq uint32) (word *uint64, bit uint64) {
	return &s[seq/64&uint32(len(s)-1)], 1 << (seq & 63)
}

func (s bits) has(seq uint32) bool { w, b := s.at(seq); return *w&b != 0 }
func (s bits) add(seq uint32)      { w, b := s.at(seq); *w |= b }
func (s bits) del(seq uint32)      { w, b := s.at(seq); *w &^= b }

// next returns the first sequence number from seq up to to that is in s, or is
// not, as in says; to where there is none.
func (s bits) next(seq, to uint32, in bool) uint32 {
	for before(seq, to) {
		w := s[seq/64&uint32(len(s)-1)]
		if !in {
			w = ^w
		}
		if w >>= seq & 63; w != 0 {
			for w&1 == 0 {
				w >>= 1
				seq++
			}
			if before(seq, to) {
				return seq
			}
			return to
		}
		seq = seq&^63 + 64
	}
	return to
}
