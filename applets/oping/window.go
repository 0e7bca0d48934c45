package oping

// windowSize is how many ids back a window remembers which were answered.
const windowSize = 1 << 16

// window tells the first reply to a packet from a duplicate, and a reply in
// order from a late one, in fixed memory. Packets are numbered from 0 by 64
// bits, of which a message carries the lower 32. The zero value is ready.
type window struct {
	next uint64                  // one more than the highest number answered
	seen [windowSize / 64]uint64 // a bit for each of the windowSize below next
}

// take marks the packet with the id of a reply as answered, where sent
// packets have been sent. It reports false if that packet was never sent, is
// answered already, or is so old that nobody remembers; late says that a
// later packet was answered before.
func (w *window) take(id uint32, sent uint64) (late, ok bool) {
	if sent == 0 {
		return false, false
	}
	back := uint64(uint32(sent-1) - id) // how many packets were sent after it
	if back >= sent {
		return false, false
	}
	n := sent - 1 - back
	if n < w.next {
		if w.next-n > windowSize || w.has(n) {
			return false, false
		}
		w.set(n)
		return true, true
	}
	if n-w.next >= windowSize {
		clear(w.seen[:])
	} else {
		for i := w.next; i < n; i++ {
			w.unset(i)
		}
	}
	w.set(n)
	w.next = n + 1
	return false, true
}

func (w *window) has(n uint64) bool {
	return w.seen[n%windowSize/64]&(1<<(n%64)) != 0
}

func (w *window) set(n uint64) { w.seen[n%windowSize/64] |= 1 << (n % 64) }

func (w *window) unset(n uint64) { w.seen[n%windowSize/64] &^= 1 << (n % 64) }
