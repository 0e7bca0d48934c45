// Package stage lies between a program and its end of a flow to another system. It
// is there where the flow promises more than its layer gives: order and
// retransmission (package frct), encryption (package crypt), or a check of each
// packet's bits. It has the calls of flow.End, and keeps the same promises.
//
// No goroutine of this package belongs to a flow. A goroutine that reads takes
// packets off the ring, and so does one that waits to write. A timer does it too,
// while something is due. The flows that no goroutine uses share one goroutine of
// the process, so that a program which does nothing still acknowledges.
package stage

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/frct"
	"o7s/core/ipcp"
	"o7s/ipc/flow"
)

// Config says what a flow promises and what its two ends have agreed on.
type Config struct {
	QoS  core.QoS
	Ours bool // the other end is of this project
	Path ipcp.Path
	Ring int // bytes of ring in each direction
	// Seal encrypts the packets; nil: they are plain. The Stage owns it.
	Seal *crypt.Conn
}

// Needed reports whether a flow needs a stage. A flow within one system needs none:
// its memory loses nothing. It has no Path.
func Needed(c Config) bool {
	return c.Path.Max > 0 && (c.QoS.InOrder || checked(c.QoS) || c.Seal != nil)
}

// checked reports whether packets carry a check of their bits. Packets in order carry
// none, as in the C prototype.
func checked(q core.QoS) bool { return q.BER == 0 && !q.InOrder }

const (
	// DefaultLinger bounds how long Close waits for acknowledgements.
	DefaultLinger = 2 * time.Second

	idleAfter = 10 * time.Millisecond // without a call; then the shared goroutine tends the flow
	pumpEvery = 32                    // packets that a writer sends between two looks at what came
	batch     = 32                    // packets taken off the ring at a time
	mostTaken = 1024                  // the same, where the program does not wait
	floods    = 8                     // looks in a row that find more packets; the rest comes later
)

// Stage is one end of such a flow. Several goroutines may call every method at
// once. The owner must Close it: that closes the flow.End too.
type Stage struct {
	end      *flow.End
	order    *frct.Conn  // nil: packets are in the layer's order
	seal     *crypt.Conn // nil: packets are plain
	check    bool
	reliable bool
	most     int   // bytes of a packet
	cut      int   // bytes of a packet that Write makes
	spare    int   // bytes of the ring that are kept free for the packet that says the end
	tooLarge error // for a packet of more than most
	emit     frct.Emit

	// A goroutine that reads, or writes, holds one for a whole call. They come before mu.
	readers, writers sync.Mutex

	mu      sync.Mutex // guards the fields below; never held while waiting
	cond    sync.Cond  // something has changed for one of the waiters
	waiters int
	pumping bool // a goroutine waits in AwaitRead: the ring's packets are for it to take
	rooming bool // a goroutine waits in AwaitRoom

	closed      bool  // Close was called
	shut        bool  // CloseWrite was called
	finDue      bool  // the other end is to be told so
	done        bool  // the memory has gone
	inErr       error // why the ring brings no more
	outErr      error // why the ring takes no more
	orderErr    error // why order has given up
	full        bool  // the ring had no room
	unpublished bool  // packets were put that the layer does not see yet

	queue []byte // the next packet, where there is no order; nil: none
	some  []byte // memory for what came, and for queue
	plain []byte // memory for what was opened, and for queue
	out   []byte // memory to make a packet in
	whole []byte // memory for a packet before it is sealed
	ended bool   // the other end has proved that it sends no more
	off   int    // of the packet at the head: what Read has taken
	lent  bool   // by Peek

	lentOut bool   // by Reserve
	reserve []byte // what it lent

	readBy, writeBy deadline
	linger          time.Duration

	sent    int // packets since the last pump
	wants   int // bytes of the packet that a writer waits with; 0: none waits
	roomFor int // bytes of the packet that a Set waits with; 0: none waits
	timer   *time.Timer
	timerAt time.Time // zero: it does not run
	active  bool      // a call was made since the timer last fired
	idle    bool      // the shared goroutine tends this flow
	joining int       // how many Joins are about to add this flow to a Set
	heard   bool      // the Set that watches this flow is told when a packet comes

	counters flow.Counters
	damaged  uint64
}

// New returns the stage above end, which it takes over.
func New(end *flow.End, c Config) *Stage {
	s := &Stage{end: end, check: checked(c.QoS), seal: c.Seal, linger: DefaultLinger}
	s.cond.L = &s.mu
	over := 0
	if s.seal != nil {
		over += s.seal.Overhead()
	}
	if s.check {
		over += crcLen
	}
	if c.QoS.InOrder {
		over += frct.HeadLen
		s.reliable = c.QoS.Loss == 0
		s.order = frct.New(time.Now(), frct.Config{
			Reliable: s.reliable, Ours: c.Ours, MPL: c.Path.MPL, Rand: rand.Uint32,
			// The ring holds all that this end lets the other send, should
			// nobody take it off for a while. Where packets turn out to be
			// larger than on Ethernet, Buffer bounds them.
			Window: c.Ring / (min(c.Path.Best, 1500) + 16), Buffer: c.Ring,
		})
	}
	if s.order == nil && s.seal != nil && s.seal.Ends() {
		s.spare = over + flow.RecordMore
	}
	s.most = min(c.Path.Max, core.MaxPacket) - over
	s.cut = min(c.Path.Best-over, s.most)
	s.tooLarge = fmt.Errorf("%w: a packet on this flow has 1 to %d bytes", core.ErrUsage, s.most)
	s.emit = func(head *[frct.HeadLen]byte, payload []byte) bool { return s.put(head[:], payload) }
	users.enter()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick(time.Now())
	return s
}

// MaxPacket returns the most bytes of a packet that may be written.
func (s *Stage) MaxPacket() int { return s.most }

// Counters are the packets and bytes that the program wrote and read.
func (s *Stage) Counters() flow.Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// Stats returns how the flow stands, false where packets are not in order.
func (s *Stage) Stats() (frct.Stats, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order == nil {
		return frct.Stats{}, false
	}
	return s.order.Stats(), true
}

// Damaged returns how many packets came that were not what the other end sent, or
// that came before.
func (s *Stage) Damaged() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged
}

// put writes one packet to the ring. The layer sees it after publish. s.mu is held.
func (s *Stage) put(head, payload []byte) bool {
	if s.seal != nil || s.check {
		// To seal a packet uses up a number, even if the packet is not sent. So look
		// for room first.
		n := len(head) + len(payload)
		if n > 0 {
			n += s.spare
		}
		if !s.end.HasRoom(n + s.wrapping()) {
			s.full = true
			return false
		}
		if err := s.wrap(head, payload); err != nil {
			s.outErr = err
			return false
		}
		head, payload = nil, s.out
	}
	ok, err := s.end.Put(head, payload)
	if err != nil {
		s.outErr = err
		return false
	}
	if !ok {
		s.full = true
		return false
	}
	s.unpublished = true
	return true
}

// wrap makes in s.out the packet that the layer carries: sealed, and with a check of
// its bits, where the flow has these. s.mu is held.
func (s *Stage) wrap(head, payload []byte) error {
	s.out = s.out[:0]
	if s.seal == nil {
		s.out = append(append(s.out, head...), payload...)
	} else {
		if len(head) > 0 {
			s.whole = append(append(s.whole[:0], head...), payload...)
			payload = s.whole
		}
		var err error
		if s.out, err = s.seal.Seal(s.out, payload); err != nil {
			return err
		}
	}
	if s.check {
		s.out = appendCRC(s.out)
	}
	return nil
}

// putEnd tells the other end that no packet follows, if it understands that. Where
// packets are in order, package frct tells it. s.mu is held.
func (s *Stage) putEnd() {
	if s.order == nil && s.seal != nil && s.seal.Ends() && s.outErr == nil {
		s.put(nil, nil)
		s.publish()
	}
}

// publish lets the layer see the packets that were put. s.mu is held.
func (s *Stage) publish() {
	if s.unpublished {
		s.unpublished = false
		s.end.Publish()
	}
}

// take takes one packet that came off the ring; b is the ring itself. s.mu is held.
func (s *Stage) take(now time.Time, b []byte) {
	if s.check || s.seal != nil {
		s.some = append(s.some[:0], b...) // the layer's process could change b after the check
		b = s.some
	}
	if s.check {
		var ok bool
		if b, ok = cutCRC(b); !ok {
			s.damaged++
			return
		}
	}
	if s.seal != nil {
		p, err := s.seal.Open(s.plain[:0], b)
		if err != nil {
			s.damaged++
			return
		}
		if s.plain, b = p, p; len(p) == 0 {
			s.ended = true
			return
		}
	}
	if s.order != nil {
		s.order.Receive(now, b)
		return
	}
	s.queue = b
}

// pump takes at most n packets off the ring and answers them. If it returns false it
// had nothing to do and has not set the timer. s.mu is held.
func (s *Stage) pump(n int) bool {
	now := s.takeIn(n)
	switch {
	case s.done:
	case !now.IsZero():
		s.tick(now)
	case s.finDue:
		s.tick(time.Now())
	default:
		s.publish()
		return false
	}
	s.tellRoom()
	return true
}

// turn is pump, but it sends all that is due even if no packet has come. s.mu is held.
func (s *Stage) turn(n int) {
	if s.takeIn(n); !s.done {
		s.tick(time.Now())
	}
	s.tellRoom()
}

// takeIn takes at most n packets off the ring. It returns the zero time where there
// are none. s.mu is held.
func (s *Stage) takeIn(n int) (now time.Time) {
	s.sent = 0
	for n > 0 && !s.done && !s.pumping && s.inErr == nil && s.queue == nil {
		var packets [batch]([]byte)
		want := min(n, batch)
		if s.order == nil {
			want = 1
		}
		got, err := s.end.Look(packets[:want])
		if err != nil {
			s.inErr = err
		}
		if got > 0 {
			if now.IsZero() {
				now = time.Now()
			}
			for _, b := range packets[:got] {
				s.take(now, b)
			}
			s.end.Drop(got)
		}
		if n -= got; got < want {
			break
		}
	}
	return now
}

// tick sends what is due now, and sets the timer for what will be due. s.mu is held.
func (s *Stage) tick(now time.Time) {
	if s.order == nil {
		s.publish()
		return
	}
	next, err := s.order.Tick(now, s.emit)
	s.orderErr = err
	if s.finDue {
		s.full = false
		s.finDue = !s.order.CloseWrite(now, s.emit)
		next, s.orderErr = s.order.Tick(now, s.emit) // also asks the other end to open its window
		if again := now.Add(time.Millisecond); s.finDue && s.full && (next.IsZero() || again.Before(next)) {
			next = again
		}
	}
	s.publish()
	if s.orderErr != nil || s.outErr != nil {
		next = time.Time{} // nothing can be sent any more
	}
	s.arm(now, next)
}

// arm sets the timer. It fires at next, unless that is the zero time, and when the
// program has made no call for idleAfter. s.mu is held.
func (s *Stage) arm(now, next time.Time) {
	if tend := now.Add(idleAfter); s.needsTending() && (next.IsZero() || tend.Before(next)) {
		next = tend
	}
	if s.done || next.IsZero() || !s.timerAt.IsZero() && !next.Before(s.timerAt) {
		return // a timer that fires too early is set again
	}
	s.timerAt = next
	if d := next.Sub(now); s.timer == nil {
		s.timer = time.AfterFunc(d, s.fire)
	} else {
		s.timer.Reset(d)
	}
}

// needsTending reports whether a packet that comes would stay unseen: no goroutine
// reads and no Set is told. s.mu is held.
func (s *Stage) needsTending() bool {
	return !s.pumping && !s.idle && s.joining == 0 && s.inErr == nil && !(s.heard && s.end.Watched())
}

// fire is called by the timer.
func (s *Stage) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timerAt = time.Time{}
	if s.done {
		return
	}
	tend := !s.active && s.needsTending()
	s.active = false
	if tend && !s.end.Watched() {
		s.idle = users.add(s)
	}
	s.turn(mostTaken)
	if tend {
		s.letSetHear()
	}
	s.tell()
}

// letSetHear makes the layer tell the Set that watches s, if any, of packets that come
// from now on. s.mu is held.
func (s *Stage) letSetHear() {
	for range floods {
		if s.done || s.order == nil || s.inErr != nil || !s.end.Watched() {
			return
		}
		if s.heard = !s.end.WatchRead(); s.heard {
			return
		}
		s.turn(batch) // a packet came before that
	}
	s.arm(time.Now(), time.Time{})
}

// tell wakes the goroutines that need not wait any more. The caller does not wait
// itself. s.mu is held.
func (s *Stage) tell() {
	if s.ready() {
		s.end.Changed()
	}
	if s.waiters > 0 {
		s.cond.Broadcast()
	}
	if s.pumping && s.order != nil && (s.orderErr != nil || s.wants > 0 && s.order.CanSend(time.Now(), s.wants)) {
		s.end.KickRead()
	}
}

// wake makes all goroutines that wait check again. s.mu is held.
func (s *Stage) wake() {
	s.cond.Broadcast()
	if s.pumping {
		s.end.KickRead()
	}
	if s.rooming {
		s.end.KickWrite()
	}
}

// await waits until something may have changed. s.mu is held, but not while it waits.
func (s *Stage) await() {
	if s.pumping {
		s.waiters++
		s.cond.Wait()
		s.waiters--
		return
	}
	s.pumping = true
	s.leaveIdle()
	s.mu.Unlock()
	s.end.AwaitRead()
	s.mu.Lock()
	s.pumping = false
	s.heard = false // AwaitRead has taken the wake-up
	if !s.pump(batch) {
		s.arm(time.Now(), time.Time{}) // this goroutine may not come again
	}
	if s.waiters > 0 {
		s.cond.Broadcast() // the packet may be for one of them, and one waits on the ring next
	}
	if s.letSetHear(); s.ready() {
		s.end.Changed()
	}
}

// awaitRoom waits until the ring may have room for a packet of n bytes. s.mu is
// held, but not while it waits.
func (s *Stage) awaitRoom(n int) {
	s.rooming = true
	s.mu.Unlock()
	s.end.AwaitRoom(n)
	s.mu.Lock()
	s.rooming = false
}

// ready reports whether a program that reads need not wait. s.mu is held.
func (s *Stage) ready() bool {
	if s.closed {
		return true
	}
	if s.order != nil {
		_, ok := s.order.Head()
		return ok || s.order.End() || s.orderErr != nil || s.inErr != nil
	}
	return s.queue != nil || s.inErr != nil
}

// Ready is flow.Above.
func (s *Stage) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = false
	return s.takeReady()
}

// Watch is flow.Above. While the program reads it need not be told of each packet, so
// the layer need not wake it.
func (s *Stage) Watch() (ready, watch bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready = s.takeReady()
	takes := !s.done && !s.pumping && s.inErr == nil && s.queue == nil
	s.heard = takes && !(ready && s.active)
	s.arm(time.Now(), time.Time{})
	return ready, s.heard
}

// Room is flow.Above: the window may be shut.
func (s *Stage) Room(n int) (may bool, held int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roomFor = 0
	if !s.windowFor(n) {
		s.roomFor = n
	}
	return s.roomFor == 0, min(n+s.overhead(), core.MaxPacket)
}

// windowFor reports whether the window lets a packet of n bytes leave. It also reports
// true if no packet can be sent any more. s.mu is held.
func (s *Stage) windowFor(n int) bool {
	return s.order == nil || s.done || s.closed || s.orderErr != nil || s.inErr != nil || s.order.CanSend(time.Now(), n)
}

// tellRoom makes a Set that waits until a packet can be sent check again. s.mu is held.
func (s *Stage) tellRoom() {
	if s.roomFor > 0 && s.windowFor(s.roomFor) {
		s.roomFor = 0
		s.end.Changed()
	}
}

// takeReady takes all packets off the ring. It reports whether there is something to
// read, or the end of the flow. s.mu is held.
func (s *Stage) takeReady() bool {
	if !s.done {
		s.turn(mostTaken)
	}
	return s.ready()
}

// Close ends the flow at this end, as flow.End.Close does. Where the flow loses
// nothing it first waits until the other end has acknowledged all that was
// written, for as long as SetLinger says. Calls that are blocked return
// core.ErrClosed at once. A second Close does nothing.
func (s *Stage) Close() { s.close(true) }

// Discard is Close that does not wait. What was written may not arrive.
func (s *Stage) Discard() { s.close(false) }

func (s *Stage) close(wait bool) {
	s.end.Unwatch() // a set gives out no flow that is closed
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.wake()
	now := time.Now()
	if s.order == nil && !s.shut {
		s.putEnd()
	}
	if s.order != nil {
		s.finDue = !s.shut || s.finDue
		s.shut = true
		s.turn(mostTaken)
		if wait && s.reliable && s.linger > 0 {
			now = s.lingerUntil(now.Add(s.linger))
		}
		if !s.lent { // else Release does
			s.order.Close(now, s.emit)
		}
		s.publish()
	}
	s.done = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.readBy.stop()
	s.writeBy.stop()
	s.leaveIdle()
	if s.seal != nil {
		s.seal.Zero()
	}
	s.mu.Unlock()
	s.end.Close()
	users.leave()
}

// lingerUntil waits until all is acknowledged, or until the time t. s.mu is held, but
// not while it waits.
func (s *Stage) lingerUntil(t time.Time) time.Time {
	var by deadline
	by.set(s, t)
	defer by.stop()
	for {
		now := time.Now()
		over := s.inErr != nil || s.outErr != nil || s.orderErr != nil || by.passed(now)
		if over || !s.finDue && s.order.Acknowledged() {
			return now
		}
		s.await()
	}
}

// SetLinger sets how long Close waits for acknowledgements; 0 is not at all.
func (s *Stage) SetLinger(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.linger = max(d, 0)
}

// CloseWrite says that no packet follows, as flow.End.CloseWrite does. Only an other
// end of this project learns of it.
func (s *Stage) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return core.ErrClosed
	}
	if s.shut {
		return nil
	}
	s.shut = true
	s.finDue = s.order != nil
	s.leaveIdle()
	s.turn(batch)
	s.wake()
	if s.order == nil {
		s.putEnd()
		return s.end.CloseWrite()
	}
	return nil
}

// readEnd returns why nothing more can be read, nil if a packet may come. s.mu is held,
// and all packets that came are read.
func (s *Stage) readEnd() error {
	switch {
	case s.order != nil && s.order.End():
		return io.EOF
	case s.orderErr != nil:
		return s.orderErr
	case s.inErr == io.EOF && (s.reliable || s.seal != nil && s.seal.Proves() && !s.ended):
		return errCutShort // any system on the way can pretend that the flow has ended
	}
	return s.inErr
}

// errCutShort is why nothing more can be read where the flow has ended before the
// other end said that it had sent all.
var errCutShort = fmt.Errorf("%w: it ended before all that was sent has come", core.ErrFlowDown)
