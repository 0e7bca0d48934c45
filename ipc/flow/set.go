package flow

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/shm"
	"o7s/ipc/internal/sys"
)

// Set waits for many ends at once, so that one goroutine serves thousands of flows.
// Next and Wait return a member when there is something to read of it: a packet or
// its end. They return it again, after the others, while there is more. Several
// goroutines may call the methods at once. While one of them reads a member that it
// got, no other may read that member.
type Set struct {
	ready chan struct{} // see Ready

	file   *os.File // an epoll of the members' bells, itself in Go's poller
	rc     syscall.RawConn
	done   chan struct{} // closed when run has ended
	events [64]unix.EpollEvent
	fired  int // number of events of the last call; only run uses it

	mu        sync.Mutex // guards the fields below; comes before half.mu
	members   map[int32]*member
	queue     []*member // with something to read, in turn
	handedOut []*member // that Next returned, to be checked again
	lastKey   int32
	closed    bool

	changedMu sync.Mutex // guards changed; innermost
	changed   []*member
}

// member is an end in a set.
type member struct {
	set   *Set
	end   *End
	key   int32 // in the epoll; a closed descriptor's number may soon be another's
	value any
	above Above // see AddStage; nil: what is in the ring is for the program

	// Guarded by set.mu.
	state   memberState
	parked  bool // Park
	room    int  // bytes that Room waits for; 0: none
	hasRoom bool // Room has found them, and Next has not returned it yet

	changed bool // it is in set.changed; guarded by set.changedMu
}

type memberState int

const (
	watched memberState = iota // its bell will tell of news
	queued
	handedOut // the next call of Next checks it again
	removed
)

// NewSet returns an empty Set. The error wraps core.ErrLimit where there is no
// descriptor left. The caller must Close it.
func NewSet() (*Set, error) {
	file, rc, err := sys.NewEpoll("flow set")
	if err != nil {
		return nil, fmt.Errorf("%w: make a flow set: %w", core.ErrLimit, err)
	}
	s := &Set{
		ready: make(chan struct{}, 1), done: make(chan struct{}),
		file: file, rc: rc, members: make(map[int32]*member),
	}
	go s.run()
	return s, nil
}

// Add makes e a member. Next and Wait return value for it. The error is
// core.ErrExists if e is in a set already, core.ErrClosed if e or s is closed,
// and wraps core.ErrLimit where the kernel watches no more.
func (s *Set) Add(e *End, value any) error { return s.AddStage(e, value, nil) }

// AddStage is Add for an end with a stage above it.
func (s *Set) AddStage(e *End, value any, above Above) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return core.ErrClosed
	}
	for s.members[s.lastKey] != nil {
		s.lastKey++
	}
	m := &member{set: s, end: e, key: s.lastKey, value: value, above: above}
	if !e.member.CompareAndSwap(nil, m) {
		return core.ErrExists
	}
	if err := s.control(m, unix.EPOLL_CTL_ADD); err != nil {
		e.member.Store(nil)
		return err
	}
	s.members[m.key] = m
	s.lastKey++
	if e.r.flags.Load()&flagClosed != 0 { // and Close has not seen m
		s.remove(m)
		return core.ErrClosed
	}
	s.check(m)
	return nil
}

// control adds the bell of m to the epoll or removes it.
func (s *Set) control(m *member, op int) error {
	b := &m.end.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fd < 0 {
		return core.ErrClosed
	}
	var err error
	cerr := s.withFD(func(ep int) {
		err = unix.EpollCtl(ep, op, b.fd, &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: m.key,
		})
	})
	switch {
	case cerr != nil:
		return core.ErrClosed
	case err != nil:
		return fmt.Errorf("%w: watch a flow: %w", core.ErrLimit, os.NewSyscallError("epoll_ctl", err))
	}
	return nil
}

func (s *Set) withFD(f func(int)) error {
	return s.rc.Control(func(fd uintptr) { f(int(fd)) })
}

// Remove removes e from the set. Close of the end does so too.
func (s *Set) Remove(e *End) {
	m := e.member.Load()
	if m == nil || m.set != s {
		return
	}
	s.mu.Lock()
	if m.state != removed {
		s.remove(m)
	}
	s.mu.Unlock()
	m.alone()
}

func (s *Set) remove(m *member) {
	m.state = removed
	delete(s.members, m.key)
	_ = s.control(m, unix.EPOLL_CTL_DEL) // an error: a closed bell has left the epoll by itself
	m.end.member.Store(nil)
}

// alone lets the stage above m see that no set watches it any more.
func (m *member) alone() {
	if m.above != nil {
		m.above.Ready()
	}
}

// Len returns the number of members.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.members)
}

// Ready returns a channel for a select. It receives a value when Next may return a
// member. The receiver then calls Next until it returns false.
func (s *Set) Ready() <-chan struct{} { return s.ready }

// Next returns the value of the next member with something to read, in turn, or
// false. A read of that member does not wait. Members that Next returned before are
// checked again: one that was not read comes again.
func (s *Set) Next() (any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.handedOut {
		if m.state == handedOut {
			m.state = watched
			s.check(m)
		}
	}
	s.handedOut = s.handedOut[:0]
	s.changedMu.Lock()
	changed := s.changed
	s.changed = nil
	for _, m := range changed {
		m.changed = false
	}
	s.changedMu.Unlock()
	for _, m := range changed {
		s.check(m)
	}
	for len(s.queue) > 0 {
		m := s.queue[0]
		s.queue = s.queue[1:]
		if m.state != queued {
			continue
		}
		m.state = watched
		if !m.hasRoom && (m.parked || !m.watchRead()) {
			continue // it was parked meanwhile, or read out of turn
		}
		m.hasRoom = false
		m.state = handedOut
		s.handedOut = append(s.handedOut, m)
		if len(s.queue) > 0 {
			s.signal()
		}
		return m.value, true
	}
	s.queue = nil
	return nil, false
}

// Wait is Next that waits. Its error is core.ErrClosed after Close, else why
// ctx is done.
func (s *Set) Wait(ctx context.Context) (any, error) {
	for {
		// Spin before Next: Next asks the peer for a wake-up, which costs each
		// side more than the rest of a packet.
		if m := s.lastHandedOut(); m != nil && (m.above == nil || !m.above.Ready()) {
			m.end.spinRead()
		}
		if v, ok := s.Next(); ok {
			return v, nil
		}
		select {
		case <-s.ready:
		case <-s.done:
			return nil, core.ErrClosed
		case <-ctx.Done():
			return nil, core.ContextError(ctx.Err())
		}
	}
}

// lastHandedOut returns the member that Next returned last, if no other is known to
// have news. A program that is busy with one flow need not sleep between its
// packets.
func (s *Set) lastHandedOut() *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changedMu.Lock()
	defer s.changedMu.Unlock()
	if len(s.handedOut) == 0 || len(s.queue) > 0 || len(s.changed) > 0 {
		return nil
	}
	m := s.handedOut[len(s.handedOut)-1]
	if m.state != handedOut || m.parked {
		return nil
	}
	return m
}

// Room makes Next return the value of e, once more, when a packet of n bytes, 1
// to core.MaxPacket, fits and its ring is at most half full. A later Room
// replaces an earlier one that is still waiting. No Write of e may wait then.
func (s *Set) Room(e *End, n int) {
	s.change(e, func(m *member) { m.room = min(max(n, 1), core.MaxPacket) })
}

// Park makes Next return e no more for what there is to read of it, until Unpark.
// It returns e for its room. A program that can't use now what it would read parks
// e, which costs less than Remove and Add.
func (s *Set) Park(e *End) { s.change(e, func(m *member) { m.parked = true }) }

// Unpark ends Park. It does nothing where e is not parked.
func (s *Set) Unpark(e *End) { s.change(e, func(m *member) { m.parked = false }) }

// change changes what the set waits for of e, if that is a member.
func (s *Set) change(e *End, change func(*member)) {
	m := e.member.Load()
	if m == nil || m.set != s {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.state != removed {
		change(m)
		s.check(m)
	}
}

// check puts m into the queue if there is something to read, or the room that Room
// waits for. The caller holds s.mu. A member that Next returned is checked by the
// next call of Next, except for its room: its program may never read it.
func (s *Set) check(m *member) {
	if m.state == removed {
		return
	}
	// A stage answers the other end whatever the program does. What it takes may
	// open its window.
	stageNews := m.above != nil && m.watchRead()
	if m.room > 0 && m.watchRoom() {
		m.room, m.hasRoom = 0, true
	}
	news := stageNews || m.above == nil && m.state == watched && !m.hasRoom && !m.parked && m.watchRead()
	switch {
	case m.state == watched && (m.hasRoom || news && !m.parked):
		s.enqueue(m)
	case m.state == handedOut && m.hasRoom:
		s.signal() // Next checks it again
	}
}

// enqueue puts m at the end of the queue. The caller holds s.mu.
func (s *Set) enqueue(m *member) {
	m.state = queued
	s.queue = append(s.queue, m)
	s.signal()
}

func (s *Set) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Close ends the set. Its members stay open. A blocked Wait returns. A second Close
// does nothing.
func (s *Set) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	members := s.members
	s.members = nil
	for _, m := range members {
		m.state = removed
		m.end.member.Store(nil)
	}
	s.mu.Unlock()
	for _, m := range members {
		m.alone()
	}
	s.file.Close()
	<-s.done
	return nil
}

// run waits for bells until the set is closed.
func (s *Set) run() {
	defer close(s.done)
	poll := func(fd uintptr) bool {
		// On an error, which is an interrupted call, there are no events.
		s.fired, _ = sys.EpollNow(int(fd), s.events[:])
		return s.fired > 0
	}
	for s.rc.Read(poll) == nil {
		s.mu.Lock()
		for _, ev := range s.events[:s.fired] {
			m := s.members[ev.Fd]
			if m == nil {
				continue
			}
			m.end.handleBell(ev.Events)
			s.check(m)
		}
		s.mu.Unlock()
	}
}

// markChanged makes Next check m again, since its end was closed, failed or died.
// The caller may hold any lock of the end.
func (m *member) markChanged() {
	m.set.changedMu.Lock()
	if !m.changed {
		m.changed = true
		m.set.changed = append(m.set.changed, m)
	}
	m.set.changedMu.Unlock()
	m.set.signal()
}

// watchRoom is End.watchRoom for the packet that m.room says.
func (m *member) watchRoom() bool {
	n := m.room
	if m.above != nil {
		may, held := m.above.Room(n)
		if !may {
			return false
		}
		n = held
	}
	return m.end.watchRoom(n)
}

// watchRead asks the peer to wake this end when there is something to read. Where
// there is something already, or an end of it, it asks for nothing and reports true.
func (m *member) watchRead() bool {
	if m.above == nil {
		return m.end.watchRead()
	}
	for range floods {
		ready, watch := m.above.Watch()
		if !watch || !m.end.watchRead() {
			return ready
		}
		// A packet came after the stage had looked.
	}
	m.markChanged() // the other members come first
	return m.above.Ready()
}

// floods is how often in a row a packet may come while a stage takes those before it.
// Then the other members of the set come first.
const floods = 8

func (e *End) watchRead() bool {
	if !e.r.enter() {
		return false // another goroutine waits for a packet, against the rules
	}
	defer e.r.mu.Unlock()
	if e.readReady() {
		return true
	}
	if e.r.ring.Publish() { // the peer's writer may wait for this room
		e.wakePeer()
	}
	if !e.armRead() {
		return false
	}
	e.r.ring.Awake()
	return true
}

// readReady reports whether there is something to read: a packet or the end.
func (e *End) readReady() bool {
	// The memory of a closed end may be unmapped.
	return e.r.flags.Load()&flagEnd != 0 || !e.r.ring.Empty() || e.r.ring.Ended()
}

// spinRead spins until there is a packet, for as long as that pays.
func (e *End) spinRead() {
	if !e.r.enter() {
		return
	}
	defer e.r.mu.Unlock()
	if e.readReady() {
		return
	}
	if e.r.ring.Publish() { // the peer may wait for this room
		e.wakePeer()
	}
	word, old := e.r.ring.Watch()
	e.r.spin.wait(word, old, e.local())
}

// handleBell notes what the poller says of the bell.
func (e *End) handleBell(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.raise(flagDead)
		return
	}
	if e.bell.polls.Add(1)%drainEvery != 0 {
		return
	}
	e.bell.mu.Lock()
	drained := e.bell.fd >= 0 && shm.Drain(e.bell.fd)
	e.bell.mu.Unlock()
	if drained && e.w.asleep.Load() {
		e.bell.recheck(dirWrite) // the byte may have been for the writer
	}
}
