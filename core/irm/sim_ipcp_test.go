package irm

import (
	"context"
	"errors"
	"sync"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
	"o7s/core/view"
)

// simIPCP is an IPC process: a real ipcp.Process at the end of a link.
type simIPCP struct {
	w      *sim
	pid    int
	i      IPCP
	proc   *ipcp.Process
	far    *far // nil where the layer is another
	link   *simLink
	died   func(Child, error)
	cancel context.CancelFunc
	ran    chan struct{} // closed when Run has returned
	reaped chan struct{}
	stop   sync.Once
}

type simSpawner struct{ w *sim }

var errSpawn = errors.New("no more processes")

// Spawn implements Spawner.
func (s simSpawner) Spawn(_ context.Context, i IPCP, died func(Child, error)) (Child, error) {
	w := s.w
	w.pause(4)
	if w.one(10) {
		return nil, errSpawn
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.mu.Lock()
	w.nextPID++
	k := &simIPCP{w: w, pid: w.nextPID, i: i, died: died, cancel: cancel, ran: make(chan struct{}), reaped: make(chan struct{})}
	w.mu.Unlock()
	k.link = w.link(core.ErrIPCP)
	typ := i.Type()
	if typ.Name == farType.Name {
		k.far = &far{host: simHost{k}, w: w, ends: make(map[core.FlowID]*farEnd), left: make(map[core.FlowID]bool)}
		typ.New = k.far.make
	}
	k.proc = ipcp.NewProcess(typ, ipcp.Env{Host: simHost{k}, Log: w.logger(k.alive, k.pid)})
	go func() {
		k.proc.Run(ctx)
		close(k.ran)
	}()
	w.ipcps = append(w.ipcps, k)
	if w.one(15) {
		k.kill()
	}
	w.pause(4)
	return k, nil
}

func (k *simIPCP) alive() bool {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	return !k.link.dead
}

// kill ends k as a crash does.
func (k *simIPCP) kill() {
	k.link.die(func() {
		k.w.spawn(func() {
			k.died(k, errors.New("signal: killed"))
			close(k.reaped)
		})
	})
	k.cancel()
}

// PID implements Child.
func (k *simIPCP) PID() int { return k.pid }

// Stop implements Child: k ends when it gets to it.
func (k *simIPCP) Stop() {
	k.stop.Do(func() {
		k.w.spawnStop(k.pid, func() {
			k.cancel() // it is in state shutdown from now on
			k.w.spawn(k.kill)
		})
	})
	<-k.reaped
}

// Bootstrap implements ipcp.Control, as the functions below do.
func (k *simIPCP) Bootstrap(ctx context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	return cfg, k.link.do(ctx, "Bootstrap", func() error {
		_, err := k.proc.Bootstrap(context.Background(), cfg)
		return err
	})
}

func (k *simIPCP) Enroll(ctx context.Context, e ipcp.Enrollment) (cfg ipcp.Config, err error) {
	err = k.link.do(ctx, "Enroll", func() (err error) {
		cfg, err = k.proc.Enroll(context.Background(), e)
		return err
	})
	return cfg, err
}

func (k *simIPCP) Connect(ctx context.Context, c ipcp.Connection) error {
	return k.link.do(ctx, "Connect", func() error { return k.proc.Connect(context.Background(), c) })
}

func (k *simIPCP) Disconnect(ctx context.Context, c ipcp.Connection) error {
	return k.link.do(ctx, "Disconnect", func() error { return k.proc.Disconnect(context.Background(), c) })
}

func (k *simIPCP) Register(ctx context.Context, h core.Hash) error {
	return k.link.do(ctx, "Register", func() error { return k.proc.Register(context.Background(), h) })
}

func (k *simIPCP) Unregister(ctx context.Context, h core.Hash) error {
	return k.link.do(ctx, "Unregister", func() error { return k.proc.Unregister(context.Background(), h) })
}

func (k *simIPCP) Query(ctx context.Context, h core.Hash) error {
	return k.link.do(ctx, "Query", func() error { return k.proc.Query(context.Background(), h) })
}

func (k *simIPCP) Show(ctx context.Context) (facts []view.Fact, err error) {
	err = k.link.do(ctx, "Show", func() (err error) {
		facts, err = k.proc.Show(context.Background())
		return err
	})
	return facts, err
}

func (k *simIPCP) ShowFlow(ctx context.Context, id core.FlowID) (facts []view.Fact, err error) {
	err = k.link.do(ctx, "ShowFlow", func() (err error) {
		facts, err = k.proc.ShowFlow(context.Background(), id)
		return err
	})
	return facts, err
}

func (k *simIPCP) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	k.link.call("FlowAlloc", func(answer func(error)) { k.proc.FlowAlloc(req, answer) }, done)
}

func (k *simIPCP) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	k.link.call("FlowAllocResp", func(answer func(error)) { k.proc.FlowAllocResp(resp, answer) }, done)
}

func (k *simIPCP) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	k.link.call("FlowDealloc", func(answer func(error)) { k.proc.FlowDealloc(req, answer) }, done)
}

// simHost is ipcp.Host over the link of k.
type simHost struct{ k *simIPCP }

// FlowReqArr implements ipcp.Host.
func (h simHost) FlowReqArr(a ipcp.Arrival, got func(core.FlowID, error)) {
	h.k.link.tell(func() {
		h.k.w.m.FlowReqArr(h.k.i, a, func(id core.FlowID, err error) {
			h.k.link.reply(func() { got(id, err) })
		})
	})
}

// FlowAllocReply implements ipcp.Host.
func (h simHost) FlowAllocReply(r ipcp.AllocReply, done func(error)) {
	h.k.link.tell(func() {
		err := h.k.w.m.FlowAllocReply(h.k.i, r)
		h.k.w.m.After(func() { h.k.link.reply(func() { done(err) }) })
	})
}

// FlowEnd implements ipcp.Host.
func (h simHost) FlowEnd(id core.FlowID, code core.Errno) {
	h.k.link.tell(func() { _ = h.k.w.m.FlowEnd(h.k.i, id, code) })
}

// FlowDealloc implements ipcp.Host.
func (h simHost) FlowDealloc(id core.FlowID, done func(error)) {
	h.k.link.tell(func() {
		err := h.k.w.m.ProviderDealloc(h.k.i, id)
		h.k.w.m.After(func() { h.k.link.reply(func() { done(err) }) })
	})
}

// Splice implements ipcp.Host: it is not answered.
func (h simHost) Splice(a, b core.FlowID) error {
	h.k.link.tell(func() { _ = h.k.w.m.Splice(h.k.i, a, b) })
	return nil
}

// NewSet implements ipcp.Host.
func (h simHost) NewSet() (ipcp.Set, error) { return &simSet{closed: make(chan struct{})}, nil }

// simSet is a set in which no flow ever has news: no packets pass in the simulation. It
// has the methods that the layers of the simulation call.
type simSet struct {
	ipcp.Set
	closed chan struct{}
}

// Add implements ipcp.Set.
func (s *simSet) Add(ipcp.Flow, any) error { return nil }

// Wait implements ipcp.Set.
func (s *simSet) Wait(context.Context) (any, error) {
	<-s.closed
	return nil, core.ErrClosed
}

// Close implements ipcp.Set, which the layers of the simulation call once.
func (s *simSet) Close() error {
	close(s.closed)
	return nil
}

// Attach implements ipcp.Host.
func (h simHost) Attach(id core.FlowID, got func(ipcp.Flow, error)) {
	h.k.link.tell(func() {
		theirs, err := h.k.w.m.Attach(h.k.i, id)
		if err != nil {
			h.k.link.reply(func() { got(nil, err) })
			return
		}
		h.k.link.reply(func() { got(simFlow{}, nil) })
		theirs.Close()
	})
}

// simFlow is a layer's end of the memory of a flow that carries nothing. It has
// the methods that the layers of the simulation call.
type simFlow struct{ ipcp.Flow }

// Abort implements ipcp.Flow.
func (simFlow) Abort() error { return nil }

// Close implements ipcp.Flow.
func (simFlow) Close() error { return nil }

// simEnd is an end of memory, in the hands of the IRM.
type simEnd struct{ w *sim }

// NewFlow implements Memory.
func (w *sim) Prepare() {}

func (w *sim) NewFlow(registry.Owner, int) (a, b registry.End, err error) {
	w.pause(stopAtLine)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noMem {
		return nil, nil, core.ErrLimit
	}
	x, y := &simEnd{w}, &simEnd{w}
	w.ends[x], w.ends[y] = true, true
	return x, y, nil
}

// Close implements registry.End.
func (e *simEnd) Close() error {
	if !e.open() {
		e.w.fail("an end of memory closed twice")
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	delete(e.w.ends, e)
	return nil
}

func (e *simEnd) open() bool {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	return e.w.ends[e]
}
