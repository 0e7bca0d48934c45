package irm

import (
	"context"
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
)

// What there is to choose from.
var (
	simIPCPs  = []string{"a", "b", "r", "f"}
	simTypes  = map[string]string{"a": "local", "b": "local", "r": "relay", "f": "far"}
	simLayers = map[string]string{"a": "L", "b": "M", "r": "R", "f": "F"}
	simNames  = []string{"s", "t", "u", "v"}
	simUsers  = []Caller{{PID: 2, UID: 0}, {PID: 3, UID: 1000}, {PID: 4, UID: 1001}, {PID: 5, UID: 2000}, {PID: 6, UID: 2001}, {PID: 7, UID: 2002, Groups: []int{9, 50}}}
)

const (
	simMostProcs = 7
	simTick      = 20 * time.Millisecond
)

// live lives the life of a node: some steps, the end of everything, and then
// nothing may be left.
func (w *sim) live(steps int) {
	stop := steps + 1
	if w.one(3) {
		stop = steps - w.intn(steps/2)
	}
	for w.step < steps && w.err == nil {
		w.step++
		if w.step == stop {
			w.stop()
		}
		time.Sleep(time.Nanosecond)
		switch n := w.intn(1000); {
		case n < 560:
			if !w.work() {
				w.operate()
			}
		case n < 940:
			w.operate()
		case n < 985:
			w.pass(time.Duration(w.intn(400)) * time.Millisecond)
		case n < 997:
			w.drain()
			w.checkQuiet()
		default:
			w.pass(3 * time.Second)
		}
		w.check()
	}
	w.end()
}

// stop ends the Manager in the middle of what it does. Everyone goes on, as
// those do who have not noticed yet.
func (w *sim) stop() {
	w.note("op: stop")
	w.over = true
	w.thread(func() {
		w.m.mu.Lock()
		var children []Child
		for _, c := range w.m.children {
			children = append(children, c)
		}
		var instances []*simInst
		for _, i := range w.m.instances {
			if i.run != nil {
				instances = append(instances, i.run.(*simInst))
			}
		}
		w.m.mu.Unlock()
		w.m.Stop()
		w.halted = true
		for _, c := range children {
			if c.(*simIPCP).alive() {
				w.fail("IPCP %d outlives Stop", c.PID())
			}
		}
		for _, i := range instances {
			if !i.dead {
				w.fail("process %d, which the Manager started, outlives Stop", i.pid)
			}
		}
	})
}

// pass lets time pass; timers that run off stop it.
func (w *sim) pass(d time.Duration) {
	for ; d > 0; d -= simTick {
		w.mu.Lock()
		busy := len(w.stopped) > 0
		w.mu.Unlock()
		if busy {
			return
		}
		time.Sleep(simTick)
		synctest.Wait()
	}
}

// end lets everyone go and looks at what is left.
func (w *sim) end() {
	w.mu.Lock()
	failed := w.err != nil
	w.mu.Unlock()
	if !failed {
		w.drain()
		w.checkQuiet()
	}
	if !failed && w.over {
		w.finish()
		w.checkStopped()
	}
	for range 5 { // others are started for flows that still wait
		for _, p := range w.procs {
			p.die()
		}
		for _, i := range w.insts {
			i.end()
		}
		w.finish()
	}
	if !failed && w.err == nil && !w.over {
		w.checkEmpty()
		w.probe()
	}
	for _, k := range w.ipcps {
		k.kill()
	}
	w.finish()
	if !failed && w.err == nil {
		w.checkEnd()
	}
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.finish()
}

// finish lets all end that is under way, also what waits for a time.
func (w *sim) finish() {
	for range 3 {
		for n := 0; w.work() && n < 100000; n++ {
			time.Sleep(time.Nanosecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
	}
}

func (w *sim) caller() Caller {
	if w.one(4) {
		return pick(w, simUsers)
	}
	return simUsers[0]
}

// admin runs what an administrator asks for, as c, in a thread.
func (w *sim) admin(c Caller, what string, f func(context.Context) error) {
	w.thread(func() {
		err := f(context.Background())
		if denied := errors.Is(err, core.ErrPermission); denied == isAdmin(c) {
			w.fail("%s by uid %d: %v", what, c.UID, err)
		}
	})
}

func (w *sim) someProc() *simProc {
	var up []*simProc
	for _, p := range w.procs {
		if p.alive() {
			up = append(up, p)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return pick(w, up)
}

func (w *sim) someIPCP() *simIPCP {
	w.ipcps = slices.DeleteFunc(w.ipcps, func(k *simIPCP) bool { return !k.alive() })
	if len(w.ipcps) == 0 {
		return nil
	}
	return pick(w, w.ipcps)
}

// operate does one thing.
func (w *sim) operate() {
	if w.one(6) {
		w.operateSystem()
		return
	}
	p := w.someProc()
	if p == nil || w.one(30) {
		w.operateProcess(p)
		return
	}
	switch n := w.intn(20); {
	case n < 7:
		timeouts := []time.Duration{time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second}
		if len(p.allocs) < 4 {
			w.note("op: alloc")
			p.alloc(pick(w, simNames), pick(w, timeouts))
		}
	case n < 8:
		if len(p.allocs) > 0 {
			p.cancel(pick(w, p.allocs))
		}
	case n < 14:
		for id := range core.FlowID(64) {
			if p.held[id] != nil && w.one(3) {
				p.dealloc(id)
				break
			}
		}
	case n < 15:
		p.deallocWrong(core.FlowID(w.intn(8)))
	case n < 16:
		if len(p.open()) < 3 {
			if w.one(4) {
				p.listen(pick(w, simNames), 1+w.intn(3), []string{pick(w, []string{"*", "L", "R", "F"})})
			} else {
				p.listen(pick(w, append([]string{""}, simNames...)), 1+w.intn(3), nil)
			}
		}
	case n < 17:
		if open := p.open(); len(open) > 0 {
			p.accept(pick(w, open), pick(w, []int{1, 1, 2, 0, 5000}))
		}
	case n < 18:
		if open := p.open(); len(open) > 0 && w.one(3) {
			p.unlisten(pick(w, open))
		}
	default:
		if len(p.late) > 0 {
			p.late[0]()
			p.late = p.late[1:]
		}
	}
}

// operateProcess lets a process come, go, or be another by exec; p may be nil.
func (w *sim) operateProcess(p *simProc) {
	w.procs = slices.DeleteFunc(w.procs, func(p *simProc) bool { return p.gone && w.m.reg.Process(p.c.PID) != p.reg.record })
	switch {
	case p != nil && w.one(8):
		w.mu.Lock()
		w.model.reused[p.c.PID] = true
		w.mu.Unlock()
		w.announce(p.c, pick(w, simPaths), func(*simProc) {})
	case p != nil && (len(w.procs) >= simMostProcs || w.one(3)):
		p.die()
	default:
		c := pick(w, simUsers)
		w.mu.Lock()
		w.nextPID++
		c.PID = w.nextPID
		w.mu.Unlock()
		w.announce(c, pick(w, simPaths), func(*simProc) {})
	}
}

// operateSystem does what administrators do, and what befalls a system.
func (w *sim) operateSystem() {
	c, name, of := w.caller(), pick(w, simNames), pick(w, simIPCPs)
	p, k := w.someProc(), w.someIPCP()
	switch n := w.intn(48); {
	case n < 3:
		w.admin(c, "create", func(ctx context.Context) error {
			_, err := w.m.CreateIPCP(ctx, c, of, simTypes[of])
			return err
		})
	case n < 9:
		typ := simTypes[of]
		if w.one(3) {
			typ = ""
		}
		w.admin(c, "bootstrap", func(ctx context.Context) error {
			_, err := w.m.BootstrapIPCP(ctx, c, of, typ, ipcp.Draft{Layer: simLayers[of]})
			return err
		})
	case n < 10:
		w.admin(c, "destroy", func(context.Context) error { return w.m.DestroyIPCP(c, of) })
	case n < 12:
		policy := pick(w, []string{"", "round-robin", "spillover"})
		w.admin(c, "create name", func(context.Context) error { return w.m.CreateName(c, name, policy) })
	case n < 13:
		w.admin(c, "destroy name", func(ctx context.Context) error { return w.m.DestroyName(ctx, c, name) })
	case n < 20:
		w.admin(c, "register", func(ctx context.Context) error {
			return w.m.RegisterName(ctx, c, name, []string{pick(w, []string{"*", "L", "R", "F"})}, nil)
		})
	case n < 22:
		w.admin(c, "unregister", func(ctx context.Context) error {
			return w.m.UnregisterName(ctx, c, name, nil, []string{pick(w, []string{"*", "a", "r"})})
		})
	case n < 29:
		if p != nil {
			w.bind(pick(w, simUsers), p, name)
		}
	case n < 30:
		if p != nil {
			w.unbind(pick(w, simUsers), p, pick(w, []string{"", name}))
		}
	case n < 31:
		if k != nil && w.one(3) {
			k.kill()
		}
	case n < 32:
		w.mu.Lock()
		w.noMem = w.rng.IntN(3) == 0
		w.mu.Unlock()
	case n < 37:
		c, auto := pick(w, simUsers), w.one(2)
		if auto && !w.one(4) {
			c = simUsers[1] // who may
		}
		w.bindProgram(c, pick(w, simPaths), name, auto)
	case n < 39:
		w.unbindProgram(pick(w, simUsers), pick(w, simPaths), pick(w, []string{"", name}))
	case n < 40:
		if len(w.insts) > 0 {
			pick(w, w.insts).end()
		}
	default:
		for _, k := range w.ipcps {
			if k.far != nil && k.alive() && k.proc.State().String() == "operational" {
				w.thread(k.far.happen)
			}
		}
	}
}

func (w *sim) bind(c Caller, p *simProc, name string) {
	w.thread(func() {
		may, there := false, !p.gone
		if there {
			may = w.model.bind(c, p, name)
		}
		w.judge("bind", c, w.m.BindProcess(c, p.c.PID, name), there, may, true)
	})
}

func (w *sim) unbind(c Caller, p *simProc, name string) {
	w.thread(func() {
		may, found, there := false, false, !p.gone
		if there {
			may, found = w.model.unbind(c, p, name)
		}
		w.judge("unbind", c, w.m.UnbindProcess(c, p.c.PID, name), there, may, found)
	})
}

func (w *sim) judge(what string, c Caller, err error, there, may, found bool) {
	var want error
	switch {
	case !there:
		want = core.ErrNotFound
	case !may:
		want = core.ErrPermission
	case !found:
		want = core.ErrNotFound
	}
	if !errors.Is(err, want) {
		w.wrong("%s by uid %d: %v, want %v", what, c.UID, err, want)
	}
}
