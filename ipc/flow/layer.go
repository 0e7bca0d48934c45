package flow

import (
	"o7s/core"
)

// The methods in this file are for a layer, which serves many flows with one
// goroutine and waits for none of them: a Set tells it which have news.

// Look lends the next packets, at most len(p), in the ring itself: do not change
// them, and do not use them after Drop. It returns 0 and no error where there is
// none now. Its errors are those of ReadPacket, but deadlines do not concern it. Until
// Drop every other call that reads returns an error that wraps core.ErrState.
// A hostile peer can change the bytes at any time.
func (e *End) Look(p [][]byte) (int, error) {
	if !e.r.enter() {
		return 0, nil
	}
	defer e.r.mu.Unlock()
	if err := e.readable(); err != nil && err != core.ErrTimeout {
		return 0, err
	}
	end := e.readEnd() // before Look: packets from before the end come first
	n, err := e.r.ring.Look(p)
	switch {
	case err != nil:
		return 0, e.corrupt(err)
	case n > 0:
		e.r.lent = true
		raceAcquire()
		return n, nil
	case end != nil:
		return 0, end
	}
	if e.r.ring.Publish() {
		e.wakePeer()
	}
	return 0, nil
}

// Drop takes the first n of the packets that Look lent. The next Look lends the
// others again.
func (e *End) Drop(n int) {
	e.r.mu.Lock()
	if !e.r.lent {
		e.r.mu.Unlock()
		return
	}
	e.r.lent = false
	if e.r.flags.Load()&flagClosed != 0 {
		e.r.mu.Unlock()
		e.unmap()
		return
	}
	if e.r.ring.Drop(n) {
		e.wakePeer()
	}
	e.r.mu.Unlock()
}

// Put writes one packet, head and then body, which the peer does not see before
// Publish. It returns false where there is no room now. A packet of no bytes, or of
// more than core.MaxPacket, is an error that wraps core.ErrUsage. The other
// errors are those of WritePacket, but deadlines do not concern it.
func (e *End) Put(head, body []byte) (bool, error) {
	if n := len(head) + len(body); n < 1 || n > core.MaxPacket {
		return false, errPacketSize
	}
	if !e.w.enter() {
		return false, nil
	}
	defer e.w.mu.Unlock()
	if err := e.writable(); err != nil && err != core.ErrTimeout {
		return false, err
	}
	ok, err := e.w.ring.PutParts(head, body)
	if err != nil {
		return false, e.corrupt(err)
	}
	return ok, nil
}

// HasRoom reports whether Put takes a packet of n bytes now. It reports true where
// Put returns an error.
func (e *End) HasRoom(n int) bool {
	if !e.w.enter() {
		return false
	}
	defer e.w.mu.Unlock()
	if err := e.writable(); err != nil && err != core.ErrTimeout {
		return true
	}
	ok, err := e.w.ring.Room(n, false)
	return ok || err != nil
}

// Publish lets the peer see all that was Put, and wakes the peer if it sleeps.
func (e *End) Publish() {
	if !e.w.enter() {
		return
	}
	defer e.w.mu.Unlock()
	if e.w.flags.Load()&flagClosed == 0 && e.w.ring.Pending() {
		e.publish()
	}
}

// Unread returns how many bytes of the ring are published and the peer has not
// read. Each packet takes up to RecordMore bytes more than its own.
func (e *End) Unread() int {
	if !e.w.enter() {
		return 0
	}
	defer e.w.mu.Unlock()
	if e.w.flags.Load()&flagClosed != 0 {
		return 0
	}
	return e.w.ring.Unread()
}

// watchRoom asks the peer to wake this end when a packet of n bytes fits and the
// ring is at most half full. If that is so already, or no packet can be written any
// more, it returns true and the peer wakes nobody.
func (e *End) watchRoom(n int) bool {
	if !e.w.enter() {
		return false // a Write waits for room, against the rules
	}
	defer e.w.mu.Unlock()
	if e.w.flags.Load()&flagEnd != 0 {
		return true
	}
	e.w.need = n
	if !e.armWrite() {
		return false
	}
	e.w.ring.Awake()
	return true
}
