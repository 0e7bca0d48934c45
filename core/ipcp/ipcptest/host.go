package ipcptest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
)

// host is a fake ipcp.Host. It does with ids what the IRMd does, but has no
// mercy: an id is free as soon as both sides may have let go of it, and every
// call that could hit another flow's end is an error of the test.
type host struct {
	t   *testing.T
	ctl ipcp.Control

	// post passes an answer back: at once, or on another goroutine; in
	// order.
	post func(func())

	linger time.Duration // of memories

	mu       sync.Mutex // guards the fields below and those of each end; never held across a call
	ids      core.IDSet
	ends     map[core.FlowID]*end
	arrivals map[core.Hash]chan *end
	answers  []*answer
	memories []*memory

	made []*end // all ends so far

	// What a test asks for, through set.
	accept bool                    // answer each request that arrives
	hold   bool                    // answer no FlowReqArr before release
	noReq  error                   // what FlowReqArr fails with
	noJoin func(core.FlowID) error // what Splice and Attach of an end fail with
	cut    func()                  // called as each call comes, and before its answer
	freed  func()                  // called when an id is free, before the answer

	wire bool       // packets and messages cross a wire between the ends of a flow
	far  *farSystem // nil: both ends of all flows are on this system

	held  []func()
	again func(t *testing.T) *host // makes another, with an IPCP of its own
}

var _ ipcp.Host = (*host)(nil)

func newHost(t *testing.T, late bool) *host {
	h := &host{
		t: t, post: func(f func()) { f() },
		ends:     make(map[core.FlowID]*end),
		arrivals: make(map[core.Hash]chan *end),
	}
	if late {
		answers := make(chan func(), 1<<16)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for f := range answers {
				f()
			}
		}()
		h.post = func(f func()) { answers <- f }
		t.Cleanup(func() { close(answers); <-ended })
	}
	t.Cleanup(h.answeredOnce)
	return h
}

// set changes what a test asks of h.
func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// step returns *f as it is now, or else a function that does nothing. A call of the
// host takes it once, as it comes: its end may come when the test has set another.
func (h *host) step(f *func()) func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *f == nil {
		return func() {}
	}
	return *f
}

// answer is a function that is to be called once, and what it was called with.
type answer struct {
	what string
	ch   chan error // of one

	h     *host
	calls int // guarded by h.mu
}

func (h *host) answer(what string) *answer {
	a := &answer{h: h, what: what, ch: make(chan error, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = append(h.answers, a)
	return a
}

func (a *answer) done(err error) {
	a.h.mu.Lock()
	a.calls++
	first := a.calls == 1
	a.h.mu.Unlock()
	if first {
		a.ch <- err
	}
}

func (a *answer) wait() error { return within(a.ch) }

// answeredOnce checks that each done was called exactly once.
func (h *host) answeredOnce() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.answers {
		if a.calls != 1 {
			h.t.Errorf("the done of %s was called %d times", a.what, a.calls)
		}
	}
}

// FlowReqArr implements ipcp.Host.
func (h *host) FlowReqArr(r ipcp.Arrival, got func(core.FlowID, error)) {
	dst, qos := r.Dst, r.QoS
	cut := h.step(&h.cut)
	cut()
	h.mu.Lock()
	var e *end
	err := h.noReq
	if err == nil {
		e = h.newEndLocked(dst, qos)
		e.server = true
		e.request = r
	}
	accept := h.accept
	give := func() {
		if err != nil {
			got(0, err)
			return
		}
		got(e.id, nil)
		h.mu.Lock()
		e.known = true
		h.mu.Unlock()
		if accept {
			e.answered = e.respond(0)
		}
		close(e.taken)
		h.arrivalsOf(dst) <- e
	}
	if h.hold {
		h.held = append(h.held, give)
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	cut()
	h.post(give)
}

// release gives the answers that were held.
func (h *host) release() {
	h.mu.Lock()
	held := h.held
	h.hold, h.held = false, nil
	h.mu.Unlock()
	for _, give := range held {
		h.post(give)
	}
}

func (h *host) arrivalsOf(dst core.Hash) chan *end {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.arrivals[dst] == nil {
		h.arrivals[dst] = make(chan *end, 1<<13)
	}
	return h.arrivals[dst]
}

// arrival returns the next request for dst.
func (h *host) arrival(dst core.Hash) (*end, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case e := <-h.arrivalsOf(dst):
		return e, nil
	case <-timer.C:
		return nil, errNothing
	}
}

// FlowAllocReply implements ipcp.Host.
func (h *host) FlowAllocReply(r ipcp.AllocReply, done func(error)) {
	cut := h.step(&h.cut)
	cut()
	if h.far != nil {
		h.far.replied(h, r)
	}
	err := h.replied(r.Flow, r.Code)
	cut()
	h.post(func() { done(err) })
}

func (h *host) replied(id core.FlowID, code core.Errno) error {
	h.mu.Lock()
	e := h.ends[id]
	switch {
	case e == nil || e.server || e.state == allocated:
		h.mu.Unlock()
		h.t.Errorf("FlowAllocReply of flow %d: nobody asked for it", id)
		return fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
	case e.state == left: // its FlowDealloc is on the way to the IPCP
		h.mu.Unlock()
		return fmt.Errorf("%w: nobody waits for flow %d", core.ErrState, id)
	case code != 0:
		h.overLocked(e)
		h.mu.Unlock()
		h.step(&h.freed)()
	case e.refused != nil && !e.joined():
		// The layer could not know, if Splice crossed a socket and had no
		// answer. The process gets no flow.
		err := e.refused
		h.mu.Unlock()
		h.post(e.leave)
		return err
	default:
		e.allocatedLocked()
		h.mu.Unlock()
	}
	e.codes <- code
	return nil
}

// FlowEnd implements ipcp.Host.
func (h *host) FlowEnd(id core.FlowID, code core.Errno) {
	if h.far != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if e := h.ends[id]; e != nil && e.state == allocated {
			e.endedLocked(code)
		} else if e == nil || e.state != left {
			h.t.Errorf("FlowEnd of flow %d, which no process holds", id)
		}
		return
	}
	h.t.Errorf("FlowEnd of flow %d with %v: both ends are on this system", id, code)
}

// bootstrap makes the IPCP the first member of a layer. The layer and the hash
// in force must be those asked for; what was not given of the settings has its
// default.
func (h *host) bootstrap(ctx context.Context, cfg ipcp.Config) error {
	got, err := h.ctl.Bootstrap(ctx, cfg)
	if err == nil && (got.Layer != cfg.Layer || got.Hash != cfg.Hash) {
		h.t.Errorf("bootstrap with %v is in force as %v", cfg, got)
	}
	return err
}

// FlowDealloc implements ipcp.Host. An end that a process holds is that
// process's to give up first.
func (h *host) FlowDealloc(id core.FlowID, done func(error)) {
	cut := h.step(&h.cut)
	cut()
	err := h.dealloced(id)
	cut()
	h.post(func() { done(err) })
}

func (h *host) dealloced(id core.FlowID) error {
	h.mu.Lock()
	e := h.ends[id]
	if e == nil || e.state != left && e.state != arrived {
		h.mu.Unlock()
		h.t.Errorf("Host.FlowDealloc of flow %d, which is not the layer's to end", id)
		return fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
	}
	e.deallocs++
	h.overLocked(e)
	h.mu.Unlock()
	h.step(&h.freed)()
	return nil
}

// Splice implements ipcp.Host.
func (h *host) Splice(a, b core.FlowID) error {
	cut := h.step(&h.cut)
	cut()
	defer cut()
	h.mu.Lock()
	defer h.mu.Unlock()
	client, server := h.ends[a], h.ends[b]
	for i, e := range []*end{client, server} {
		if err := h.mayJoinLocked(e, i == 1); err != nil {
			if client != nil {
				client.refused = err
			}
			return fmt.Errorf("splice %d and %d: %w", a, b, err)
		}
	}
	client.peer, server.peer = server, client
	return nil
}

// Attach implements ipcp.Host.
func (h *host) Attach(id core.FlowID, got func(ipcp.Flow, error)) {
	cut := h.step(&h.cut)
	cut()
	f, err := h.attach(id)
	cut()
	h.post(func() {
		if err != nil {
			got(nil, err)
			return
		}
		got(f, nil)
	})
}

func (h *host) attach(id core.FlowID) (*memoryEnd, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.ends[id]
	if err := h.mayJoinLocked(e, e != nil && e.server); err != nil {
		return nil, fmt.Errorf("attach to %d: %w", id, err)
	}
	m := newMemory(h.t, h.linger)
	if h.far != nil {
		m.room = farRoom
	}
	h.memories = append(h.memories, m)
	e.process = m.process()
	return m.layer(), nil
}

func (h *host) mayJoinLocked(e *end, server bool) error {
	switch {
	case e == nil || e.server != server:
		h.t.Error("an end is joined that does not exist")
		return core.ErrNotFound
	case e.state == left:
		return core.ErrState
	case e.state == allocated || e.joined():
		h.t.Errorf("flow %d is joined twice, or too late", e.id)
		return core.ErrState
	case h.noJoin != nil:
		return h.noJoin(e.id)
	}
	return nil
}

// empty waits until no end of any flow or memory is left.
func (h *host) empty(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	for id, e := range h.ends {
		t.Errorf("flow %d is left, %v", id, e.state)
	}
	memories := h.memories
	h.mu.Unlock()
	for _, m := range memories {
		if err := come(m.layer().over); err != nil {
			t.Errorf("the layer has not closed its end of a memory: %v", err)
			return
		}
	}
}
