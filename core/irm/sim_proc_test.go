package irm

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/registry"
)

// simProc is a process at the end of a link. It is registry.User.
type simProc struct {
	w    *sim
	c    Caller
	path string   // of its program
	inst *simInst // nil: the IRM has not started it
	reg  Process
	link *simLink
	gone bool // the IRM knows that it has gone

	held      map[core.FlowID]*simHeld
	listeners map[uint32]*simListener
	lastID    uint32
	allocs    []*simAlloc
	late      []func() // answers to FlowArrived that it has not given
}

// simHeld is a flow that a process has.
type simHeld struct {
	answered bool // its FlowArrived, or it was asked for
	down     bool // the process knows that it is
}

// simListener is a listener and its credit, which came to given and from which
// arrived flows went.
type simListener struct {
	name           string
	coming         bool // the process waits for it
	closed         bool // at the process
	ended          bool // at the IRM
	given, arrived int
}

// simAlloc is an allocation of a process's.
type simAlloc struct {
	name      string
	asked     bool // the IRM has heard of it
	deadline  time.Time
	answered  bool
	cancel    func()
	cancelled bool // by the process
}

// announce makes a process; then is called once the IRM knows it.
func (w *sim) announce(c Caller, path string, then func(*simProc)) {
	p := &simProc{w: w, c: c, path: path, link: w.link(core.ErrIRMd), held: make(map[core.FlowID]*simHeld), listeners: make(map[uint32]*simListener)}
	for _, old := range w.procs {
		if old.c.PID == c.PID { // by exec
			p.inst, old.inst = old.inst, nil
			old.die()
		}
	}
	w.spawn(func() {
		for _, old := range w.procs {
			if old.c.PID == c.PID {
				w.model.gone(old) // Announce ends it first
			}
		}
		p.reg = w.m.Announce(c, "prog", path, p)
		if p.inst == nil {
			for _, i := range w.insts {
				if i.pid == c.PID {
					p.inst = i
				}
			}
		}
		if p.inst != nil {
			p.inst.proc = p
		}
		w.procs = append(w.procs, p)
		w.model.catchUp()
		w.model.announced(p)
		if p.inst != nil && p.inst.dead { // meanwhile
			p.die()
		}
		then(p)
	})
}

// alive reports whether p can still do something.
func (p *simProc) alive() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return !p.link.dead
}

// die ends p, as an exit and as a crash do.
func (p *simProc) die() {
	if p.inst != nil {
		defer p.inst.end()
	}
	p.link.die(func() {
		for _, a := range slices.Clone(p.allocs) {
			if a.asked && !a.answered {
				a.cancel()
			}
		}
		p.w.model.gone(p)
		p.w.m.Gone(p.reg)
	})
}

// FlowArrived implements registry.User.
func (p *simProc) FlowArrived(listener uint32, f HandedFlow, done func(int, error)) {
	w := p.w
	mine := p.listeners[listener]
	switch {
	case mine == nil:
		w.fail("process %d got flow %d for another's listener", p.c.PID, f.ID)
	case mine.name != "" && mine.name != f.Name:
		w.fail("a listener for %q got a flow to %q", mine.name, f.Name)
	case !f.End.(*simEnd).open():
		w.fail("flow %d arrived with a closed end of memory", f.ID)
	}
	mine.arrived++
	credit := 0
	p.link.call("FlowArrived", func(answer func(error)) {
		if mine.closed || w.one(12) {
			answer(core.ErrNotAllocated)
			return
		}
		h := p.hold(f.ID)
		accept := func() {
			h.answered = true
			credit = 1
			answer(nil)
		}
		if w.one(6) {
			p.late = append(p.late, accept)
		} else {
			accept()
		}
	}, func(err error) {
		if err == nil && !mine.ended {
			mine.given += credit
		} else if err != nil {
			mine.arrived-- // it costs no credit
		}
		done(credit, err)
	})
}

// FlowDown implements registry.User.
func (p *simProc) FlowDown(id core.FlowID, _ core.Errno) {
	if *simSends {
		p.w.pause(stopAtSend)
	}
	p.link.reply(func() {
		h := p.held[id]
		if h == nil {
			return // it has released it meanwhile
		}
		h.down = true
		if f := p.w.m.reg.Flow(id); f == nil || f.State() == registry.Allocated {
			p.w.fail("process %d hears that flow %d is down, which is not", p.c.PID, id)
		}
	})
}

func (p *simProc) hold(id core.FlowID) *simHeld {
	if p.held[id] != nil {
		p.w.fail("process %d got flow %d twice", p.c.PID, id)
	}
	h := new(simHeld)
	p.held[id] = h
	return h
}

func (p *simProc) alloc(name string, timeout time.Duration) {
	a := &simAlloc{name: name}
	w := p.w
	p.allocs = append(p.allocs, a)
	forget := func() { p.allocs = slices.DeleteFunc(p.allocs, func(o *simAlloc) bool { return o == a }) }
	p.link.tell(func() {
		a.asked, a.deadline = true, time.Now().Add(timeout)
		cancel := w.m.FlowAlloc(p.reg, name, core.QoSRaw, timeout, func(f HandedFlow, err error) {
			if a.answered {
				w.fail("an allocation to %q answered twice", name)
			}
			a.answered = true
			w.model.answered(a, err)
			if err != nil {
				p.link.reply(forget)
				return
			}
			if f.Name != name || !f.End.(*simEnd).open() {
				w.fail("an allocation to %q got flow %d of another, or closed", name, f.ID)
			}
			sent := p.link.reply(func() {
				forget()
				h := p.hold(f.ID)
				h.answered = true
				if a.cancelled {
					p.dealloc(f.ID)
				}
			})
			if !sent {
				w.m.FlowDealloc(p.reg, f.ID, func(error) {})
			}
		})
		a.cancel = func() {
			if !a.answered {
				cancel()
			}
		}
	})
}

func (p *simProc) cancel(a *simAlloc) {
	a.cancelled = true
	p.link.tell(func() { a.cancel() })
}

// dealloc gives up a flow that p holds.
func (p *simProc) dealloc(id core.FlowID) {
	delete(p.held, id)
	p.link.tell(func() {
		answered := false
		p.w.m.FlowDealloc(p.reg, id, func(err error) {
			if answered {
				p.w.fail("the deallocation of flow %d answered twice", id)
			}
			answered = true
			if err != nil && !p.gone { // by exec
				p.w.fail("process %d can't give up its flow %d: %v", p.c.PID, id, err)
			}
		})
	})
}

// deallocWrong tries to give up what is not p's.
func (p *simProc) deallocWrong(id core.FlowID) {
	p.link.tell(func() {
		p.w.m.mu.Lock()
		f := p.w.m.reg.Flow(id)
		mine := f != nil && f.User == p.reg.record
		p.w.m.mu.Unlock()
		if mine {
			return
		}
		p.w.m.FlowDealloc(p.reg, id, func(err error) {
			if !errors.Is(err, core.ErrNotFound) {
				p.w.fail("process %d gave up another's flow %d: %v", p.c.PID, id, err)
			}
		})
	})
}

func (p *simProc) listen(name string, credit int, layers []string) {
	p.lastID++
	id := p.lastID
	l := &simListener{name: name}
	p.listeners[id] = l
	if len(layers) > 0 {
		p.listenIn(id, l, credit, layers)
		return
	}
	p.link.tell(func() {
		l.given += credit // nobody sees it before
		ok := p.w.model.listen(p, name)
		err := p.w.m.Listen(context.Background(), p.c, p.reg, id, name, nil, credit)
		if denied := errors.Is(err, core.ErrPermission); denied == ok {
			p.w.wrong("uid %d listens for %q: %v, want permission %v", p.c.UID, name, err, ok)
		}
		if err != nil {
			l.ended, l.closed = true, true
		}
	})
}

// listenIn registers the name in layers first, which takes its time and is for
// administrators. The other messages of the process go on.
func (p *simProc) listenIn(id uint32, l *simListener, credit int, layers []string) {
	l.coming = true
	w := p.w
	p.link.tell(func() {
		w.spawn(func() {
			l.given += credit
			over := false
			w.model.late = append(w.model.late, func() bool {
				if !over && p.reg.record.Listener(id) == nil {
					return false
				}
				if p.reg.record.Listener(id) != nil {
					w.model.why(p, l.name).listeners++
				}
				return true
			})
			err := w.m.Listen(context.Background(), p.c, p.reg, id, l.name, layers, credit)
			w.model.catchUp()
			over = true
			if denied := errors.Is(err, core.ErrPermission); denied == isAdmin(p.c) {
				w.fail("uid %d listens for %q in layers: %v", p.c.UID, l.name, err)
			}
			if err != nil {
				l.ended, l.closed = true, true
			}
			p.link.reply(func() { l.coming = false })
		})
	})
}

func (p *simProc) accept(id uint32, credit int) {
	l := p.listeners[id]
	p.link.tell(func() {
		if !l.ended && credit > 0 && credit < MaxCredit/2 {
			l.given += credit
		}
		err := p.w.m.Accept(p.reg, id, credit)
		if err == nil && (credit < 1 || credit > MaxCredit) {
			p.w.fail("a listener got a credit of %d", credit)
		}
	})
}

func (p *simProc) unlisten(id uint32) {
	l := p.listeners[id]
	l.closed = true
	p.link.tell(func() {
		if !l.ended {
			l.ended = true
			p.w.model.unlisten(p, l.name)
		}
		_ = p.w.m.Unlisten(p.reg, id)
	})
}

// open returns the ids of p's listeners, sorted.
func (p *simProc) open() []uint32 {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.listeners)), func(id uint32) bool { return p.listeners[id].closed || p.listeners[id].coming })
}
