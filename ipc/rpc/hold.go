package rpc

import (
	"encoding/binary"
	"fmt"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// While the reader handles a packet, messages that are sent on its link are held.
// They go as one packet when that is done: a reply and the call that follows from
// it, or all answers to a packet of several messages. So the other end is woken once.
// Messages with descriptors are not held. They are sent behind those that are.

// maxHeld is how many messages one packet has at most.
const maxHeld = 14 // of 15 elements the first is the kind

// hold begins to hold messages. The reader calls it.
func (l *Link) hold() {
	l.wmu.Lock()
	l.holding = true
	l.wmu.Unlock()
}

// release sends what is held, and holds no more.
func (l *Link) release() {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.holding = false
	l.flushLocked()
}

// flush sends what is held.
func (l *Link) flush() {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.flushLocked()
}

// holdLocked holds the message b, if it fits a packet with others.
func (l *Link) holdLocked(b []byte) bool {
	const head = 1 + 2 // of a bin of up to 64 KiB
	if l.held != nil && (l.nheld == maxHeld || len(l.held.b)+head+len(b) > MaxMessage) {
		l.flushLocked()
	}
	if l.held == nil {
		if 2+head+len(b) > MaxMessage {
			return false
		}
		l.held = newFrame(kindSeveral)
	}
	f := l.held
	f.b = binary.BigEndian.AppendUint16(append(f.b, msgpcode.Bin16), uint16(len(b)))
	f.b = append(f.b, b...)
	l.nheld++
	f.b[0] = msgpcode.FixedArrayLow | byte(1+l.nheld)
	return true
}

// flushLocked sends or queues what is held.
func (l *Link) flushLocked() {
	f := l.held
	if f == nil {
		return
	}
	b := f.b
	if l.nheld == 1 { // a packet like any other
		b = b[2+3:]
	}
	l.held, l.nheld = nil, 0
	// If the kernel refuses the packet now, the drain tries again. If that fails
	// too, it fails the calls in the packet.
	if err := l.sendLocked(b, nil); err != nil && err != errGone {
		_ = l.enqueueLocked(b, nil) // errGone: the link ends
	}
	f.free()
}

// several hands the messages of a packet of kindSeveral to each.
func several(b []byte, each func(message []byte) error) error {
	n := int(b[0]&msgpcode.FixedArrayMask) - 1
	c := cursor{b: b[2:]}
	for range n {
		p := c.bin16()
		if c.bad {
			break
		}
		if err := each(p); err != nil {
			return err
		}
	}
	if c.end(); c.bad || n == 0 {
		return malformed(fmt.Sprintf("header of kind %d", kindSeveral))
	}
	return nil
}
