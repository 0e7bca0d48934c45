package ipc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"o7s/core"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// node is this process as the IRMd knows it: at most one session at a time.
type node struct {
	connect func(context.Context, rpc.Config) (*rpc.Link, error)

	mu        sync.Mutex // guards the fields below
	current   *session
	attempt   *attempt // to make a session; nil: none is under way
	listeners map[uint32]*Listener
	lastID    uint32     // of a listener
	fds       core.IDSet // from core.FirstFD
	returning bool       // a goroutine brings the listeners back
}

// process is the node of this process. There is one, because the kernel knows
// one: what a process may do hangs on its pid.
var process = newNode(irmctl.Connect)

func newNode(connect func(context.Context, rpc.Config) (*rpc.Link, error)) *node {
	return &node{connect: connect, listeners: make(map[uint32]*Listener)}
}

// session is one connection to one IRMd. A flow belongs to the session it was
// allocated in: after a restart of the IRMd its number is somebody else's.
type session struct {
	n    *node
	link *rpc.Link

	allocs  gate // calls under way
	unheard gate // flows closed since the IRMd has said last that it keeps up
	closes  atomic.Uint32

	mu    sync.Mutex // guards the fields below
	conns map[core.FlowID]*Conn
	sweep *time.Timer // runs while there are conns
}

// gate lets so many in at a time as it has room. The IRMd bounds how many calls
// it leaves unanswered: more wait here. Flows that wait for a process must not
// keep others from being closed, hence two gates, and room for other calls.
type gate chan struct{}

const gateRoom = irmctl.MaxCalls / 4

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
}

// leave lets out as many as n, if there are so many.
func (g gate) leave(n int) {
	for range n {
		select {
		case <-g:
		default:
			return
		}
	}
}

// attempt is one attempt to make a session. It belongs to no call: a call that
// is canceled stops waiting, and the attempt goes on. So the next call finds
// its session, and the IRMd never sees half of an announcement.
type attempt struct {
	done chan struct{} // closed when the fields below are set
	s    *session
	err  error
}

// attemptTime bounds an attempt against an IRMd that does not answer.
const attemptTime = core.AllocTimeout

// session returns the session, a new one if there is none that lives.
func (n *node) session(ctx context.Context) (*session, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, core.ContextError(err)
		}
		n.mu.Lock()
		if s := n.liveLocked(); s != nil {
			n.mu.Unlock()
			return s, nil
		}
		a, own := n.attempt, false
		if a == nil {
			a, own = &attempt{done: make(chan struct{})}, true
			n.attempt = a
			go n.try(a)
		}
		n.mu.Unlock()
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, core.ContextError(ctx.Err())
		}
		// An attempt that began before this call may have failed before an
		// IRMd was there: then this call makes one of its own.
		if a.err == nil || own {
			return a.s, a.err
		}
	}
}

// try makes the attempt a.
func (n *node) try(a *attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), attemptTime)
	defer cancel()
	a.s, a.err = n.announce(ctx)
	n.mu.Lock()
	n.current, n.attempt = a.s, nil
	n.mu.Unlock()
	close(a.done)
}

// announce connects to the IRMd and makes this process known to it.
func (n *node) announce(ctx context.Context) (*session, error) {
	s := &session{
		n: n, conns: make(map[core.FlowID]*Conn),
		allocs: make(gate, gateRoom), unheard: make(gate, hearRoom),
	}
	mux := rpc.NewMux()
	rpc.Handle(mux, irmctl.Arrived, s.arrived)
	rpc.Handle(mux, irmctl.Down, s.down)
	rpc.Handle(mux, irmctl.FlowFacts, s.facts)
	link, err := n.connect(ctx, rpc.Config{Mux: mux, OnEnd: func(*rpc.Link, error) { s.ended() }})
	if err != nil {
		return nil, err
	}
	s.link = link
	program := irmctl.ThisProgram()
	if _, err := rpc.Do(ctx, link, irmctl.Announce, &program, nil); err != nil {
		link.Close()
		return nil, err
	}
	return s, nil
}

// liveLocked returns the session if there is one and its IRMd has not gone.
func (n *node) liveLocked() *session {
	if n.current != nil && n.current.link.Err() != nil {
		n.current = nil
	}
	return n.current
}

// takeFD returns the lowest free flow descriptor.
func (n *node) takeFD() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return core.FirstFD + n.fds.Take()
}

func (n *node) releaseFD(fd int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fds.Release(fd - core.FirstFD)
}

// add makes the Conn of a flow of this session.
func (s *session) add(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c.id] = c
	if s.sweep == nil {
		s.sweep = time.AfterFunc(firstSweep, func() { s.reclaim(firstSweep) })
	}
}

// The pauses between sweeps for memory that idle flows hold. They grow while
// all flows are idle and hold none.
const (
	firstSweep = 5 * time.Second
	lastSweep  = 2 * time.Minute
)

// reclaim gives back the memory of rings that lay idle since the last sweep,
// one pause ago.
func (s *session) reclaim(pause time.Duration) {
	s.mu.Lock()
	conns := slices.Collect(maps.Values(s.conns))
	s.mu.Unlock()
	some := false
	for _, c := range conns {
		some = c.end.Reclaim() || some
	}
	if pause = min(2*pause, lastSweep); some {
		pause = firstSweep
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sweep = nil; len(s.conns) > 0 {
		s.sweep = time.AfterFunc(pause, func() { s.reclaim(pause) })
	}
}

// drop forgets c.
func (s *session) drop(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c.id] == c {
		delete(s.conns, c.id)
	}
}

// As many flows may be closed of which the IRMd has not said that it has heard.
// They are far fewer than the messages that a socket takes: a link whose other end
// is held up for a moment, this one or the IRMd's to the IPCP, must not seem dead.
// The IRMd answers one Dealloc in hearEvery.
const (
	hearRoom  = 64
	hearEvery = hearRoom / 4
)

// dealloc gives up this process's end of the flow id, without waiting. An IRMd
// that has gone knows nothing of it any more.
func (s *session) dealloc(id core.FlowID) {
	ref := irmctl.FlowRef{ID: id}
	if s.closes.Add(1)%hearEvery != 0 {
		_ = rpc.Notify(s.link, irmctl.Dealloc, &ref)
		return
	}
	rpc.Go(s.link, irmctl.Dealloc, &ref, func(*rpc.Reply[rpc.Empty], error) { s.unheard.leave(hearEvery) })
}

// awaitHearing is called before dealloc, except on the link's reader: a program
// that closes very many flows at once must not overrun the link. If the IRMd
// keeps silent the flow is given up all the same.
func (s *session) awaitHearing() {
	select {
	case s.unheard <- struct{}{}:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	_ = s.unheard.enter(ctx)
}

// deallocWait gives up this process's end of the flow id and waits until the
// IPCP has let go of it too.
func (s *session) deallocWait(ctx context.Context, id core.FlowID) error {
	if err := s.unheard.enter(ctx); err != nil {
		s.dealloc(id)
		return err
	}
	got := make(chan struct{})
	rpc.Go(s.link, irmctl.Dealloc, &irmctl.FlowRef{ID: id}, func(*rpc.Reply[rpc.Empty], error) {
		// An error says that the IRMd has gone, and with it the flow's end.
		s.unheard.leave(1)
		close(got)
	})
	select {
	case <-got:
		return nil
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
}

// arrived is the IRMd's word that a listener has a flow. The answer is given
// before any program has the Conn, and sent as this returns.
func (s *session) arrived(call *rpc.Call[irmctl.Credit], msg *irmctl.ArrivedMsg) {
	c, err := s.open(&msg.Flow, call.TakeFiles(), msg.Name, "")
	if err != nil { // the IRMd's mistake, or no memory to map it
		call.Fail(err)
		return
	}
	s.n.mu.Lock()
	l := s.n.listeners[msg.Listener]
	s.n.mu.Unlock()
	if l == nil || !l.offer(c, func(credit int) { _ = call.Reply(&irmctl.Credit{N: credit}) }) {
		c.discard()
		call.Fail(core.ErrNotAllocated)
	}
}

// down is the IRMd's word that a flow has ended.
func (s *session) down(_ *rpc.Call[rpc.Empty], msg *irmctl.DownMsg) {
	s.mu.Lock()
	c := s.conns[msg.ID]
	s.mu.Unlock()
	if c != nil {
		c.end.Fail(msg.Code)
	}
}

// ended is called when the IRMd has gone. The flows go on; the listeners are
// told, and come back as soon as an IRMd does.
func (s *session) ended() {
	n := s.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current == s {
		n.current = nil
	}
	waiting := false
	for _, l := range n.listeners {
		if l.session == s {
			l.irmdGone()
			waiting = true
		}
	}
	if waiting && !n.returning {
		n.returning = true
		go n.comeBack()
	}
}

// The pauses between attempts to reach an IRMd again.
const (
	firstPause = 20 * time.Millisecond
	maxPause   = time.Second
)

// comeBack brings the listeners to the next IRMd. It ends when each is there
// or closed.
func (n *node) comeBack() {
	pause := firstPause
	for {
		n.mu.Lock()
		var lost []*Listener
		for _, l := range n.listeners {
			if l.lost {
				lost = append(lost, l)
			}
		}
		if len(lost) == 0 {
			n.returning = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		if n.bring(lost) {
			pause = firstPause
			continue
		}
		select {
		case <-lost[0].closed:
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// bring makes the lost listeners known to an IRMd. It reports false where
// there is none, or one of them has to try again.
func (n *node) bring(lost []*Listener) bool {
	ctx, cancel := context.WithTimeout(context.Background(), core.AllocTimeout)
	defer cancel()
	s, err := n.session(ctx)
	if err != nil {
		return false
	}
	all := true
	for _, l := range lost {
		err := l.listen(ctx, s)
		switch {
		case err == nil:
		case s.link.Err() != nil:
			return false
		case errors.Is(err, core.ErrPermission), errors.Is(err, core.ErrUsage):
			l.fail(err) // this IRMd does not let it listen
		default: // its layer is not there yet, perhaps
			all = false
		}
	}
	return all
}
