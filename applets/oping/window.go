package oping

import "o7s/applets/internal/measure"

// window tells the first reply to a packet from a duplicate, and a reply in
// order from a late one. Packets are numbered from 0 by 64 bits, of which a
// message carries the lower 32. The zero value is ready.
type window struct{ seq measure.Sequence }

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
	return w.seq.Take(sent - 1 - back)
}
