package irm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/core/logs"
	"o7s/core/registry"
)

// node is a whole system in one process: the IRM, real IPCPs of real layer
// types, and processes. Only what needs an operating system is fake.
type node struct {
	t *testing.T
	m *Manager

	mu    sync.Mutex
	log   []string
	ends  map[*fakeEnd]bool // of memory, not closed yet
	kids  []*kid
	ended []*kid // those that were stopped, in that order
	pid   int

	noMemory error        // what NewFlow fails with
	noSpawn  error        // what Spawn fails with
	cut      func(string) // sees each line as it is written
	making   func()       // called while memory is made
}

const irmdPID = 1

func newNode(t *testing.T) *node {
	n := &node{t: t, ends: make(map[*fakeEnd]bool), pid: 100}
	n.m = New(Config{
		Log: n.logger(irmdPID).With("irmd"), Types: []ipcp.Type{local.Type},
		Spawner: n, Memory: n, UID: 1000, Admins: []int{1001}, AdminGID: 50,
	})
	t.Cleanup(func() {
		n.m.Stop()
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.ends) > 0 {
			t.Errorf("%d ends of memory left open", len(n.ends))
		}
	})
	return n
}

var admin = Caller{PID: 2, UID: 0}

// logger returns a Logger whose lines bear pid, as they would if each process
// were one.
func (n *node) logger(pid int) *logs.Logger {
	return logs.NewHandler(lineHandler{n: n, pid: pid})
}

// lineHandler holds no lock as it calls n.cut, which logs too.
type lineHandler struct {
	slog.Handler // for the methods that nobody calls
	n            *node
	pid          int
	component    string
}

func (h lineHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.component = attrs[0].Value.String()
	return h
}

func (h lineHandler) Handle(_ context.Context, r slog.Record) error {
	line := fmt.Sprintf("==%d== %s(%s): %s", h.pid, h.component, logs.Level(r.Level), r.Message)
	h.n.mu.Lock()
	h.n.log = append(h.n.log, line)
	h.n.mu.Unlock()
	if h.n.cut != nil {
		h.n.cut(line)
	}
	return nil
}

// lines returns the log so far and empties it.
func (n *node) lines() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.log
	n.log = nil
	return l
}

func (n *node) nextPID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pid++
	return n.pid
}

// kid is an IPC process: a real ipcp.Process whose host calls the Manager.
type kid struct {
	*ipcp.Process
	pid    int
	n      *node
	died   func(Child, error)
	cancel context.CancelFunc
	done   chan struct{}
}

func (n *node) Spawn(_ context.Context, i IPCP, died func(Child, error)) (Child, error) {
	if n.noSpawn != nil {
		return nil, n.noSpawn
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &kid{pid: n.nextPID(), n: n, died: died, cancel: cancel, done: make(chan struct{})}
	k.Process = ipcp.NewProcess(i.Type(), ipcp.Env{Host: host{n, i}, Log: n.logger(k.pid)})
	go func() {
		k.Run(ctx)
		close(k.done)
	}()
	n.mu.Lock()
	n.kids = append(n.kids, k)
	n.mu.Unlock()
	return k, nil
}

func (k *kid) PID() int { return k.pid }

func (k *kid) Stop() {
	k.cancel()
	<-k.done
	k.n.mu.Lock()
	defer k.n.mu.Unlock()
	k.n.ended = append(k.n.ended, k)
}

// kill ends k as a crash does.
func (k *kid) kill() {
	k.Stop()
	k.died(k, errors.New("signal: killed"))
}

// host is ipcp.Host, straight to the Manager.
type host struct {
	n *node
	i IPCP
}

func (h host) FlowReqArr(a ipcp.Arrival, got func(core.FlowID, error)) {
	h.n.m.FlowReqArr(h.i, a, got)
}

func (h host) FlowAllocReply(r ipcp.AllocReply, done func(error)) {
	err := h.n.m.FlowAllocReply(h.i, r)
	h.n.m.After(func() { done(err) })
}

func (h host) FlowEnd(id core.FlowID, code core.Errno) { _ = h.n.m.FlowEnd(h.i, id, code) }

func (h host) FlowDealloc(id core.FlowID, done func(error)) {
	err := h.n.m.ProviderDealloc(h.i, id)
	h.n.m.After(func() { done(err) })
}

func (h host) Splice(a, b core.FlowID) error { return h.n.m.Splice(h.i, a, b) }

func (h host) NewSet() (ipcp.Set, error) { return nil, core.ErrNotSupported }

func (h host) Attach(id core.FlowID, got func(ipcp.Flow, error)) {
	got(nil, core.ErrNotSupported)
}

// fakeEnd is an end of memory that carries nothing.
type fakeEnd struct{ n *node }

func (n *node) Prepare() {}

func (n *node) NewFlow(Owner, int) (a, b End, err error) {
	if n.noMemory != nil {
		return nil, nil, n.noMemory
	}
	if n.making != nil {
		n.making()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	x, y := &fakeEnd{n}, &fakeEnd{n}
	n.ends[x], n.ends[y] = true, true
	return x, y, nil
}

func (e *fakeEnd) Close() error {
	e.n.mu.Lock()
	defer e.n.mu.Unlock()
	if !e.n.ends[e] {
		e.n.t.Error("an end of memory closed twice")
	}
	delete(e.n.ends, e)
	return nil
}

// proc is a process that uses flows.
type proc struct {
	n *node
	*registry.Process
	me Process

	arrived []core.FlowID
	down    []core.FlowID
	again   int  // credit that it gives as a flow arrives
	dead    bool // its socket takes nothing any more
	silent  bool // it does not say that it has taken a flow
	unsaid  []func()
	refused []func() // instead of unsaid: it has not got the flow
}

func (n *node) process(uid int, program string) *proc {
	p := &proc{n: n}
	p.is(n.m.Announce(Caller{PID: n.nextPID(), UID: uid}, program, "/bin/"+program, p))
	return p
}

// is says who p is for the Manager.
func (p *proc) is(me Process) { p.me, p.Process = me, me.record }

func (p *proc) FlowArrived(_ uint32, f HandedFlow, done func(int, error)) {
	if p.dead {
		done(0, errors.New("broken pipe"))
		return
	}
	p.arrived = append(p.arrived, f.ID)
	if p.silent {
		p.unsaid = append(p.unsaid, func() { done(p.again, nil) })
		p.refused = append(p.refused, func() { done(0, errors.New("no descriptors")) })
		return
	}
	done(p.again, nil)
}

func (p *proc) FlowDown(id core.FlowID, _ core.Errno) { p.down = append(p.down, id) }

// listen makes listener 1 of p with credit.
func (p *proc) listen(name string, credit int) {
	p.n.t.Helper()
	if err := p.n.m.Listen(context.Background(), Caller{PID: p.PID, UID: p.UID}, p.me, 1, name, nil, credit); err != nil {
		p.n.t.Fatalf("listen for %q: %v", name, err)
	}
}

// outcome is what became of an allocation.
type outcome struct {
	id     core.FlowID
	err    error
	done   bool
	cancel func()
}

func (p *proc) alloc(name string) *outcome {
	o := &outcome{}
	got := make(chan struct{})
	o.cancel = p.n.m.FlowAlloc(p.me, name, core.QoSRaw, 0, func(f HandedFlow, err error) {
		if o.done {
			p.n.t.Errorf("allocation to %q answered twice", name)
			return
		}
		o.done, o.err = true, err
		o.id = f.ID
		close(got)
	})
	p.n.m.wg.Wait() // for a slow look-up
	return o
}

// mustAlloc is an allocation that succeeds at once.
func (p *proc) mustAlloc(name string) core.FlowID {
	p.n.t.Helper()
	o := p.alloc(name)
	if !o.done || o.err != nil {
		p.n.t.Fatalf("allocate a flow to %q: answered %v, %v", name, o.done, o.err)
	}
	return o.id
}

func (p *proc) dealloc(id core.FlowID) error {
	err := errors.New("not answered")
	p.n.m.FlowDealloc(p.me, id, func(e error) { err = e })
	return err
}

// layer makes local-ipcp in local-layer.
func (n *node) layer() *kid {
	n.t.Helper()
	if _, err := n.m.BootstrapIPCP(context.Background(), admin, "local-ipcp", "local", ipcp.Draft{Layer: "local-layer"}); err != nil {
		n.t.Fatal(err)
	}
	return n.kids[len(n.kids)-1]
}

func (n *node) register(name string) {
	n.t.Helper()
	if err := n.m.RegisterName(context.Background(), admin, name, []string{"local-layer"}, nil); err != nil {
		n.t.Fatal(err)
	}
}

// end ends who: the client, the server or the ipcp.
func (n *node) end(who string, server, client *proc) {
	switch who {
	case "client":
		n.m.Gone(client.me)
	case "server":
		n.m.Gone(server.me)
	case "ipcp":
		n.kids[0].kill()
	default:
		n.t.Errorf("who is %q?", who)
	}
}

// empty checks that no flow is left.
func (n *node) empty() {
	n.t.Helper()
	n.m.Wait()
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	for id, f := range n.m.reg.Flows() {
		n.t.Errorf("flow %d left in state %v", id, f.State())
	}
	if len(n.m.allocs) > 0 {
		n.t.Errorf("%d allocations left", len(n.m.allocs))
	}
}
