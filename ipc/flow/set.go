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

// Set waits for many ends at once: thousands of flows with one goroutine and
// without one for each. A member is given out when there is something to read
// of it, a packet or its end, and comes again, behind the others, while there
// is more. The methods may be called by several goroutines at once; whoever is
// given a member reads it, and nobody else does at that time.
type Set struct {
	ready chan struct{} // see Ready

	file   *os.File // an epoll of the members' bells, itself in Go's poller
	rc     syscall.RawConn
	done   chan struct{} // closed when run has ended
	events [64]unix.EpollEvent
	fired  int // events of the last look; run's alone

	mu      sync.Mutex // guards the fields below; comes before half.mu
	members map[int32]*member
	queue   []*member // with something to read, in turn
	out     []*member // given out, to be looked at again
	lastKey int32
	closed  bool

	stirMu  sync.Mutex // guards stirred; innermost
	stirred []*member
}

// member is an end in a set.
type member struct {
	set   *Set
	end   *End
	key   int32 // in the epoll; a descriptor's number may be another's soon
	value any

	// Guarded by set.mu.
	state   memberState
	room    int  // bytes that Room waits for; 0: none
	hasRoom bool // Room has found them, and Next has not told yet
}

type memberState int

const (
	watched memberState = iota // its bell tells of news
	queued
	given // Next looks at it again
	removed
)

// NewSet returns an empty Set. The error wraps core.ErrLimit where there is no
// descriptor left. The caller must Close it.
func NewSet() (*Set, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%w: make a flow set: %w", core.ErrLimit, os.NewSyscallError("epoll_create1", err))
	}
	if err := unix.SetNonblock(ep, true); err != nil { // else NewFile keeps it out of the poller
		unix.Close(ep)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &Set{
		ready: make(chan struct{}, 1), done: make(chan struct{}),
		file: os.NewFile(uintptr(ep), "flow set"), members: make(map[int32]*member),
	}
	if s.rc, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	go s.run()
	return s, nil
}

// Add makes e a member. Next and Wait return value for it. The error is
// core.ErrExists if e is in a set already, core.ErrClosed if e or s is closed,
// and wraps core.ErrLimit where the kernel watches no more.
func (s *Set) Add(e *End, value any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return core.ErrClosed
	}
	for s.members[s.lastKey] != nil {
		s.lastKey++
	}
	m := &member{set: s, end: e, key: s.lastKey, value: value}
	if !e.member.CompareAndSwap(nil, m) {
		return core.ErrExists
	}
	if err := s.control(m, unix.EPOLL_CTL_ADD); err != nil {
		e.member.Store(nil)
		return err
	}
	s.members[m.key] = m
	s.lastKey++
	if e.r.att.Load()&attClosed != 0 { // and Close has not seen m
		s.remove(m)
		return core.ErrClosed
	}
	s.look(m)
	return nil
}

// control adds or takes the bell of m to or from the epoll.
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

// Remove takes e out of the set; so does Close of the end.
func (s *Set) Remove(e *End) {
	m := e.member.Load()
	if m == nil || m.set != s {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.state != removed {
		s.remove(m)
	}
}

func (s *Set) remove(m *member) {
	m.state = removed
	delete(s.members, m.key)
	_ = s.control(m, unix.EPOLL_CTL_DEL) // a closed bell has left by itself
	m.end.member.Store(nil)
}

// Len returns the number of members.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.members)
}

// Ready returns a channel that receives when Next may have something, for a
// select. One that receives calls Next until that has nothing.
func (s *Set) Ready() <-chan struct{} { return s.ready }

// Next returns the value of the next member that has something to read, in
// turn, or false. To read it does not wait. A member that was returned before
// is looked at again: whoever has not read it gets it again.
func (s *Set) Next() (any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.out {
		if m.state == given {
			m.state = watched
			s.look(m)
		}
	}
	s.out = s.out[:0]
	s.stirMu.Lock()
	stirred := s.stirred
	s.stirred = nil
	s.stirMu.Unlock()
	for _, m := range stirred {
		s.look(m)
	}
	for len(s.queue) > 0 {
		m := s.queue[0]
		s.queue = s.queue[1:]
		if m.state != queued {
			continue
		}
		m.state = watched
		if !m.hasRoom && !m.end.watch() {
			continue // it was read in the meantime, out of turn
		}
		m.hasRoom = false
		m.state = given
		s.out = append(s.out, m)
		if len(s.queue) > 0 {
			s.tell()
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
		// Before Next, which asks the peer to ring: that costs each side more
		// than all else of a packet.
		if e := s.last(); e != nil {
			e.spin()
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

// last returns the end that was given out last, where no other is known to have
// something: who is busy with one flow need not sleep between its packets.
func (s *Set) last() *End {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stirMu.Lock()
	defer s.stirMu.Unlock()
	if len(s.out) == 0 || s.out[len(s.out)-1].state != given || len(s.queue) > 0 || len(s.stirred) > 0 {
		return nil
	}
	return s.out[len(s.out)-1].end
}

// Room makes Next return the value of e, once more, when a packet of n bytes, 1
// to core.MaxPacket, fits and its ring is at most half full. A later Room
// replaces an earlier one that is still waiting. No Write of e may wait then.
func (s *Set) Room(e *End, n int) {
	m := e.member.Load()
	if m == nil || m.set != s {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.state == removed {
		return
	}
	m.room = min(max(n, 1), core.MaxPacket)
	s.look(m)
}

// look puts m into the queue if there is something to read, or the room that is
// waited for; s.mu is held. A member that is out is looked at by Next, except for
// its room: whoever has it may never read it.
func (s *Set) look(m *member) {
	if m.state == removed {
		return
	}
	if m.room > 0 && m.end.watchRoom(m.room) {
		m.room, m.hasRoom = 0, true
	}
	switch {
	case m.state == watched && (m.hasRoom || m.end.watch()):
		s.enqueue(m)
	case m.state == given && m.hasRoom:
		s.tell() // Next looks at it again
	}
}

// enqueue puts m at the end of the queue; s.mu is held.
func (s *Set) enqueue(m *member) {
	m.state = queued
	s.queue = append(s.queue, m)
	s.tell()
}

func (s *Set) tell() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Close ends the set; its members go on without it. A blocked Wait returns. A
// second Close does nothing.
func (s *Set) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, m := range s.members {
		m.state = removed
		m.end.member.Store(nil)
	}
	clear(s.members)
	s.mu.Unlock()
	s.file.Close()
	<-s.done
	return nil
}

// run takes the news of the bells until the set is closed.
func (s *Set) run() {
	defer close(s.done)
	poll := func(fd uintptr) bool {
		// An error, of an interrupted call, is that nothing fired.
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
			m.end.rung(ev.Events)
			s.look(m)
		}
		s.mu.Unlock()
	}
}

// stir makes Next look at m again: its end was told something. The caller may
// hold any lock of the end's.
func (m *member) stir() {
	m.set.stirMu.Lock()
	m.set.stirred = append(m.set.stirred, m)
	m.set.stirMu.Unlock()
	m.set.tell()
}

// watch asks the peer to ring when there is something to read. Where there is
// something already, or an end of it, it asks for nothing and reports true.
func (e *End) watch() bool {
	if !e.r.enter() {
		return false // somebody reads it, against the rules, and waits
	}
	defer e.r.mu.Unlock()
	if e.more() {
		return true
	}
	if e.r.ring.Publish() { // or the peer's writer waits for room that is there
		e.ring()
	}
	if !e.lookRead() {
		return false
	}
	e.r.ring.Awake()
	return true
}

// more reports whether there is something to read, or an end of it.
func (e *End) more() bool {
	// The memory of a closed end may be gone.
	return e.r.att.Load()&attEnd != 0 || !e.r.ring.Empty() || e.r.ring.Ended()
}

// spin waits for a packet for as long as it pays.
func (e *End) spin() {
	if !e.r.enter() {
		return
	}
	defer e.r.mu.Unlock()
	if e.more() {
		return
	}
	if e.r.ring.Publish() { // it may be room that the peer waits for
		e.ring()
	}
	word, old := e.r.ring.Watch()
	e.r.spin.wait(word, old, e.local())
}

// rung takes note of what the bell says.
func (e *End) rung(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.raise(attDead)
		return
	}
	if e.bell.looks.Add(1)%drainEvery != 0 {
		return
	}
	e.bell.mu.Lock()
	drained := e.bell.fd >= 0 && shm.Drain(e.bell.fd)
	e.bell.mu.Unlock()
	if drained && e.w.asleep.Load() {
		e.bell.poke(kickWrite) // the byte may have been for the writer
	}
}
