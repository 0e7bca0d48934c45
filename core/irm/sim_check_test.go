package irm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
)

// check looks at what is true at any moment at which no thread is in the
// middle of something, whatever messages are on their way.
func (w *sim) check() {
	w.mu.Lock()
	quiet := len(w.stopped) == 0 && w.err == nil && !w.over
	w.mu.Unlock()
	if !quiet {
		return
	}
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	w.model.catchUpLocked()
	if n := m.reg.FlowCount(); n != len(w.model.ids) {
		w.fail("%d flows in the table, %d by the events", n, len(w.model.ids))
	}
	for _, p := range w.procs {
		for _, a := range p.allocs {
			if a.asked && !a.answered && time.Since(a.deadline) > late {
				w.fail("process %d has no answer about %q, %v after its time", p.c.PID, a.name, time.Since(a.deadline))
			}
		}
		if !p.gone && m.reg.Process(p.c.PID) != p.reg.record {
			w.fail("process %d is not in the table", p.c.PID)
		}
	}
	for name, b := range m.reg.Bindings() {
		w.checkBinding(name, b)
	}
	for name := range w.model.bound {
		if m.reg.Binding(name) == nil {
			w.fail("nothing is bound to %q", name)
		}
	}
	for f, a := range m.allocs {
		if a.flow != f || a.done == nil || f.State() != registry.AllocPending && f.State() != registry.Allocated {
			w.fail("an allocation waits for flow %d, which is %v", f.ID, f.State())
		}
	}
}

func (w *sim) checkBinding(name string, b *registry.Binding) {
	who := w.model.bound[name]
	if len(b.Processes()) != len(who) {
		var pids [2][]int
		for _, p := range b.Processes() {
			pids[0] = append(pids[0], p.PID)
		}
		for p := range who {
			pids[1] = append(pids[1], p.c.PID)
		}
		w.fail("processes %v are bound to %q, want %v", pids[0], name, pids[1])
	}
	programs, auto := 0, false
	for _, g := range w.model.programs {
		if g.Name == name {
			programs++
			auto = auto || g.Auto
		}
	}
	if n := len(b.Programs()); n != programs {
		w.fail("%d programs are bound to %q, want %d", n, name, programs)
	}
	if w.model.held(name) && b.UID != w.model.holder[name] {
		w.fail("uid %d holds %q, want %d", b.UID, name, w.model.holder[name])
	}
	if b.Waiting() > 0 && len(who) == 0 && !auto {
		w.fail("flows wait for %q, to which nobody is bound", name)
	}
	for p := range who {
		if !slices.Contains(b.Processes(), p.reg.record) {
			w.fail("process %d is not bound to %q", p.c.PID, name)
		}
		if b.Waiting() > 0 && p.accepts(name) {
			w.fail("a flow waits for %q, though process %d accepts", name, p.c.PID)
		}
	}
	for _, p := range b.Processes() {
		if p.Gone || w.m.reg.Process(p.PID) != p {
			w.fail("process %d is bound to %q, but has gone", p.PID, name)
		}
	}
}

// accepts reports whether p takes a flow to name: by a listener for just that
// name, if it has one, else by one for all.
func (p *simProc) accepts(name string) bool {
	own, credit, all := false, false, false
	for id, l := range p.listeners {
		r := p.reg.record.Listener(id)
		switch {
		case r == nil:
		case l.name == name:
			own, credit = true, credit || r.Credit > 0
		case l.name == "":
			all = all || r.Credit > 0
		}
	}
	return own && credit || !own && all
}

// checkQuiet looks at what is true when nothing is under way either.
func (w *sim) checkQuiet() {
	w.mu.Lock()
	quiet := len(w.stopped) == 0 && w.err == nil && !w.over
	w.mu.Unlock()
	if !quiet {
		return
	}
	w.checkFlows()
	w.checkProcs()
	w.checkIPCPs()
}

// checkFlows checks that somebody holds each end, or waits for it.
func (w *sim) checkFlows() {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	ends, waiting := 0, 0
	for _, f := range m.reg.Flows() {
		if f.Attached() {
			ends++
		}
		held := false
		for _, p := range w.procs {
			held = held || !p.gone && p.reg.record == f.User && p.held[f.ID] != nil
		}
		if f.Listener != nil && f.Listener.Process != f.User {
			w.fail("flow %d is for a listener of another process than has it", f.ID)
		}
		switch s := f.State(); s {
		case registry.AllocPending:
			if m.allocs[f] == nil {
				w.fail("nobody waits for flow %d, which is %v", f.ID, s)
			}
		case registry.ReqArrived:
			waiting++
			if f.User != nil {
				w.fail("flow %d is assigned and not answered", f.ID)
			}
		case registry.Allocated, registry.ProviderGone:
			// Whoever asked may wait until the other process has its end.
			if !held && m.allocs[f] == nil {
				w.fail("nobody holds flow %d of %q, which is %v", f.ID, f.Name, s)
			}
		default:
			w.fail("flow %d is %v", f.ID, s)
		}
	}
	for name, b := range m.reg.Bindings() {
		waiting -= b.Waiting()
		if b.Waiting() > 0 && len(b.Processes()) == 0 && !w.comes(name) {
			w.fail("flows wait for %q, for which nobody is bound or started", name)
		}
		if b.Waiting() > 0 && m.reg.Binding(name) != b {
			w.fail("flows wait in a lost queue")
		}
	}
	if waiting != 0 {
		w.fail("%d flows have arrived and wait for nobody", waiting)
	}
	if len(w.ends) != ends {
		w.fail("%d ends of memory are open, flows have %d", len(w.ends), ends)
	}
}

// checkProcs checks what processes hold against what the IRM says they do.
func (w *sim) checkProcs() {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	alive := 0
	for _, p := range w.procs {
		if p.gone {
			continue
		}
		alive++
		for id, h := range p.held {
			f := m.reg.Flow(id)
			switch {
			case f == nil || f.User != p.reg.record:
				w.fail("process %d holds flow %d, which is not its", p.c.PID, id)
			case f.State() == registry.ProviderGone && h.answered && !h.down:
				w.fail("process %d does not know that flow %d is down", p.c.PID, id)
			case f.State() == registry.Allocated && h.down:
				w.fail("process %d takes flow %d for down", p.c.PID, id)
			}
		}
		for id, l := range p.listeners {
			r := p.reg.record.Listener(id)
			if (r != nil) == l.ended {
				w.fail("process %d: listener %d in the table: %v, want %v", p.c.PID, id, r != nil, !l.ended)
			} else if r != nil && l.given != l.arrived+r.Credit {
				w.fail("process %d: listener %d was given %d, %d arrived, %d left", p.c.PID, id, l.given, l.arrived, r.Credit)
			}
		}
	}
	if n := len(m.reg.Processes()); n != alive {
		w.fail("%d processes in the table, %d live", n, alive)
	}
}

// checkIPCPs checks what the IRM knows of IPCPs against what they are.
func (w *sim) checkIPCPs() {
	up := make(map[*registry.IPCP]*simIPCP)
	for _, k := range w.ipcps {
		if k.alive() {
			up[k.i.record] = k
		}
	}
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.reg.IPCPs() {
		k := up[i]
		switch {
		case k == nil:
			w.fail("IPCP %q is in the table, but has gone", i.Name)
			return
		case m.children[i] != Child(k) || i.Busy() || i.PID != k.pid:
			w.fail("IPCP %q: child %v, busy %v, pid %d", i.Name, m.children[i], i.Busy(), i.PID)
		case i.Operational() != (k.proc.State().String() == "operational"):
			w.fail("IPCP %q is %v, the table says %v", i.Name, k.proc.State(), i.Operational())
		case slices.Contains(m.reg.Members(i.Layer), i) != i.Operational():
			w.fail("IPCP %q and the members of layer %q: %v", i.Name, i.Layer, m.reg.Members(i.Layer))
		}
		for _, name := range simNames {
			named := i.Knows(name)
			if named && m.reg.Name(name) == nil {
				w.fail("%q is registered with IPCP %q, but does not exist", name, i.Name)
			}
			h := i.Hash.Sum(name)
			known := k.proc.Query(context.Background(), h) == nil
			if k.far != nil {
				known = slices.Contains(k.far.dir, h)
			}
			if named != known {
				w.fail("%q is registered with IPCP %q: %v; the layer says %v", name, i.Name, named, known)
			}
		}
		delete(up, i)
	}
	for i := range up {
		w.fail("IPCP %q runs and is not in the table", i.Name)
	}
}

// checkEmpty checks that nothing is left once all processes have gone.
func (w *sim) checkEmpty() {
	w.checkQuiet()
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	for _, f := range w.m.reg.Flows() {
		w.fail("flow %d of %q is left, %v", f.ID, f.Name, f.State())
	}
	if n := len(w.m.reg.Processes()); n > 0 {
		w.fail("%d processes are left", n)
	}
	if len(w.ends) > 0 {
		w.fail("%d ends of memory are left", len(w.ends))
	}
	for _, b := range w.m.reg.Shares() {
		if programs := b.What == "bindings" || b.What == "program_bytes"; b.Used < 0 || b.Used > 0 && !programs {
			w.fail("%d %s are counted, and there is none", b.Used, b.What)
		}
	}
	for what, n := range w.model.counts {
		if n > 0 && strings.HasPrefix(what, "flow.allocated") {
			w.fail("%d of %q are missing from the log", n, what)
		}
	}
	for _, p := range w.procs {
		pid := p.c.PID
		if n := w.model.counts[fmt.Sprint("Dead process removed ", pid)]; n > 0 && !w.model.reused[pid] {
			w.fail("the log does not tell of the end of process %d", pid)
		}
	}
}

// checkStopped checks that Stop has ended, and all that the Manager started.
func (w *sim) checkStopped() {
	if !w.halted {
		w.fail("Stop does not return")
	}
	for _, k := range w.ipcps {
		if k.alive() {
			w.fail("IPCP %d outlives the Manager", k.pid)
		}
	}
	for _, i := range w.insts {
		if !i.dead {
			w.fail("process %d, which the Manager started, outlives it", i.pid)
		}
	}
}

// checkEnd checks that nothing is left at all.
func (w *sim) checkEnd() {
	w.mu.Lock()
	threads, stopped := w.threads, len(w.stopped)
	w.mu.Unlock()
	if threads > 0 || stopped > 0 {
		w.fail("%d threads are left, %d stopped", threads, stopped)
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if n := len(w.m.children); n > 0 {
		w.fail("%d IPCPs are left", n)
	}
	if n := len(w.m.reg.IPCPs()); n > 0 && !w.over {
		w.fail("%d IPCPs are left in the table", n)
	}
	if n := len(w.m.instances); n > 0 {
		w.fail("%d instances are left", n)
	}
	for _, b := range w.m.reg.Bindings() {
		for _, g := range b.Programs() {
			if g.Running != 0 {
				w.fail("%d instances of %s run, by its count", g.Running, g.Path)
			}
		}
	}
}

// probe checks that the layers have kept nothing either: the next flow of each
// is its first.
func (w *sim) probe() {
	for _, k := range w.ipcps {
		switch {
		case !k.alive() || k.proc.State() != ipcp.Operational:
		case k.far != nil:
			if n := len(k.far.ends); n > 0 {
				w.fail("far: %d ends are left", n)
			}
		default:
			h := core.Hash("a probe, not a name")
			w.thread(func() {
				k.proc.Register(context.Background(), h)
				k.proc.FlowAlloc(ipcp.AllocRequest{Flow: 1 << 20, Dst: h}, func(error) {})
			})
			w.finish()
			if fd := w.model.fds[k.pid]; fd != core.FirstFD {
				w.fail("IPCP %q gives fd %d to its first flow", k.i.Name(), fd)
			}
		}
	}
}
