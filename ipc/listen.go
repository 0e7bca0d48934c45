package ipc

import (
	"context"
	"net"
	"sync"

	"o7s/core"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// backlog is how many flows may arrive at a listener before the program takes
// one; as many may be on the way to it.
const backlog = 8

// Listener accepts flows. Several goroutines may call its methods at once.
//
// Like a socket's, it has a backlog: up to 16 flows are allocated before the
// program calls Accept for them, so Dial at their other end has returned. Those
// after them wait in Dial.
type Listener struct {
	n    *node
	name string
	o    options

	queue  chan *Conn // flows that arrived; never closed
	news   chan error // what AcceptFlow returns next, instead of a flow
	closed chan struct{}

	// Guarded by n.mu.
	id      uint32   // by which an IRMd knows it; each asks by another one
	session *session // nil while no IRMd knows it
	lost    bool     // its IRMd has gone: comeBack brings it to the next one
	gone    bool     // it is closed

	mu        sync.Mutex // guards the fields below
	shut      bool       // no more into queue
	withdrawn bool       // an IRMd that comes back is asked for no layer
	owed      int        // credit that the IRMd gets as the program takes flows
	failed    error      // an IRMd does not let it listen
}

var _ net.Listener = (*Listener)(nil)

// Listen accepts flows to name: it binds the calling process to name for the listener's
// life. It does not register the name. An administrator does, with "irm name register", or
// the option WithLayer. If name is "" it accepts for the names that "irm bind process"
// binds to this process, now or later.
//
// ctx bounds the call, not the listener's life. The error is a *net.OpError that wraps one
// of
//   - core.ErrIRMd: no IRMd answers on its socket
//   - core.ErrPermission: another uid holds the name, or WithLayer takes an administrator
//   - core.ErrNotFound: there is no layer that WithLayer names
//   - core.ErrUsage, or the error of ctx
//
// The caller must Close the Listener.
func Listen(ctx context.Context, name string, opts ...Option) (*Listener, error) {
	return process.listen(ctx, name, opts)
}

func (n *node) listen(ctx context.Context, name string, opts []Option) (*Listener, error) {
	l, err := n.addListener(ctx, name, apply(opts))
	if err != nil {
		return nil, opError("listen", Addr(name), err)
	}
	return l, nil
}

func (n *node) addListener(ctx context.Context, name string, o options) (*Listener, error) {
	if name != "" {
		if err := core.CheckName(name); err != nil {
			return nil, err
		}
	}
	s, err := n.session(ctx)
	if err != nil {
		return nil, err
	}
	l := &Listener{
		n: n, name: name, o: o,
		// Those that wait, those on the way, and a lost session's.
		queue: make(chan *Conn, 3*backlog), news: make(chan error, 1), closed: make(chan struct{}),
	}
	if err := l.listen(ctx, s); err != nil {
		l.shutdown() // a flow may have arrived all the same
		return nil, err
	}
	return l, nil
}

// listen makes l known to the IRMd of s.
func (l *Listener) listen(ctx context.Context, s *session) error {
	l.mu.Lock()
	l.owed = 0
	layers := l.o.layers
	if l.withdrawn {
		layers = nil
	}
	l.mu.Unlock()
	id, ok := l.n.enter(l) // before the IRMd knows it: a flow may arrive at once
	if !ok {
		return nil // it is closed
	}
	req := irmctl.ListenReq{ID: id, Name: l.name, Credit: backlog, Layers: layers}
	late := func(*rpc.Reply[rpc.Empty]) { s.unlisten(id) } // nobody knows it
	if _, err := rpc.Do(ctx, s.link, irmctl.Listen, &req, late); err != nil {
		return err
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	switch {
	case s.link.Err() != nil: // and s.ended has not seen l
		return core.ErrIRMd
	case l.gone: // Close came first, and knew no session
		s.unlisten(id)
		return nil
	}
	l.session, l.lost = s, false
	return nil
}

// enter gives l a number of its own, by which flows find it, in place of the
// one that it had. It reports false where l is closed.
func (n *node) enter(l *Listener) (id uint32, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.gone {
		return 0, false
	}
	delete(n.listeners, l.id)
	n.lastID++
	l.id = n.lastID
	n.listeners[l.id] = l
	return l.id, true
}

// unlisten lets the IRMd forget the listener id, without waiting.
func (s *session) unlisten(id uint32) {
	rpc.Go(s.link, irmctl.Unlisten, &irmctl.Listener{ID: id}, func(*rpc.Reply[rpc.Empty], error) {})
}

// irmdGone notes that the IRMd has gone; n.mu is held.
func (l *Listener) irmdGone() {
	l.session, l.lost = nil, true
	select {
	case l.news <- core.ErrIRMd:
	default: // it has not been read yet since the last time
	}
}

// fail ends l for good.
func (l *Listener) fail(err error) {
	l.mu.Lock()
	if l.failed == nil {
		l.failed = err
	}
	l.mu.Unlock()
	l.Close()
}

// offer queues a flow that arrived, once it has told credit how many more may;
// false where l takes none.
func (l *Listener) offer(c *Conn, credit func(int)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut || len(l.queue) == cap(l.queue) { // or an IRMd that cannot count
		return false
	}
	if len(l.queue) < backlog {
		credit(1)
	} else {
		l.owed++
		credit(0)
	}
	l.queue <- c
	return true
}

// Accept implements net.Listener; the net.Conn is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptFlow()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptFlow waits for the next flow and returns it. When the IRMd goes, one
// call returns an error that wraps core.ErrIRMd and is temporary: calls after
// that wait until an IRMd is back, and a flow arrives there. After Close the
// error wraps net.ErrClosed.
func (l *Listener) AcceptFlow() (*Conn, error) {
	select {
	case <-l.closed: // whatever else there is
		return nil, l.over()
	default:
	}
	select {
	case c := <-l.queue:
		l.credit()
		return c, nil
	case err := <-l.news:
		return nil, opError("accept", l.Addr(), err)
	case <-l.closed:
		return nil, l.over()
	}
}

// over returns why l is closed.
func (l *Listener) over() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return opError("accept", l.Addr(), l.failed)
	}
	return opError("accept", l.Addr(), core.ErrClosed)
}

// credit tells the IRMd that one more flow may arrive, where offer has not.
func (l *Listener) credit() {
	l.mu.Lock()
	owed := l.owed > 0
	if owed {
		l.owed--
	}
	l.mu.Unlock()
	if !owed {
		return
	}
	l.n.mu.Lock()
	s, id := l.session, l.id
	l.n.mu.Unlock()
	if s != nil { // else the next IRMd gives the first credit anew
		_ = rpc.Notify(s.link, irmctl.Accept, &irmctl.AcceptReq{Listener: id, Credit: 1})
	}
}

// Addr returns the name.
func (l *Listener) Addr() net.Addr { return Addr(l.name) }

// Close ends the listener; a blocked Accept returns. Flows that arrived and
// were not accepted are deallocated, those that were go on. It waits for the
// IRMd, at most 5 s. The error wraps net.ErrClosed if it was closed before.
func (l *Listener) Close() error {
	s, id, ok := l.shutdown()
	if !ok {
		return opError("close", l.Addr(), core.ErrClosed)
	}
	if s != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		// A listener that the IRMd does not know, or an IRMd that has gone,
		// is closed all the same.
		_, _ = rpc.Do(ctx, s.link, irmctl.Unlisten, &irmctl.Listener{ID: id}, nil)
	}
	return nil
}

// Withdraw takes the name back from the layers in which WithLayer registered it, as
// "irm name unregister" does: no flow to it arrives any more, at this process or at
// another one. Flows that are allocated go on. It may be called before or after Close.
// Without WithLayer it does nothing.
//
// The error is a *net.OpError that wraps core.ErrPermission where this takes an
// administrator, core.ErrName or core.ErrNotFound where the name or the layer has gone,
// core.ErrIRMd, or the error of ctx.
func (l *Listener) Withdraw(ctx context.Context) error {
	if len(l.o.layers) == 0 {
		return nil
	}
	l.mu.Lock()
	l.withdrawn = true
	l.mu.Unlock()
	s, err := l.n.session(ctx)
	if err == nil {
		req := irmctl.RegisterReq{Name: l.name, Layers: l.o.layers}
		_, err = rpc.Do(ctx, s.link, irmctl.UnregisterName, &req, nil)
	}
	if err != nil {
		return opError("withdraw", l.Addr(), err)
	}
	return nil
}

// shutdown ends l in this process: it takes no more flows, and gives up those
// that no Accept will take. It returns the session whose IRMd knows l, if there
// is one, and l's number there; false where l was shut before.
func (l *Listener) shutdown() (s *session, id uint32, ok bool) {
	l.mu.Lock()
	if l.shut {
		l.mu.Unlock()
		return nil, 0, false
	}
	l.shut = true
	l.mu.Unlock()
	close(l.closed)
	l.n.mu.Lock()
	delete(l.n.listeners, l.id)
	l.gone = true
	s, id = l.session, l.id
	l.n.mu.Unlock()
	for {
		select {
		case c := <-l.queue:
			c.discard()
		default:
			return s, id, true
		}
	}
}
