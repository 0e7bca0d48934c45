package registry

import (
	"fmt"
	"slices"

	"o7s/core"
	"o7s/core/settings"
	"o7s/core/view"
)

// Name is a name that exists on this system.
type Name struct {
	Name       string
	Policy     settings.Policy
	Protection settings.Protection
}

// CreateName makes a name. It succeeds if the name has that policy already;
// with another it is core.ErrExists.
func (r *Registry) CreateName(name string, policy settings.Policy) (created bool, err error) {
	if n, ok := r.names[name]; ok {
		if n.Policy != policy {
			return false, fmt.Errorf("%w: name %q has the policy %v; destroy it first to change that", core.ErrExists, name, n.Policy)
		}
		return false, nil
	}
	if len(r.names) >= MaxNames {
		return false, fmt.Errorf("%w: %d names exist, and no more can", core.ErrLimit, MaxNames)
	}
	r.names[name] = &Name{Name: name, Policy: policy}
	r.changed(view.Event{Event: "name.created", Name: name})
	return true, nil
}

// Protect sets what is wanted of flows to name, which exists. A Name that somebody
// has got stays as it was.
func (r *Registry) Protect(name string, p settings.Protection) {
	n := *r.names[name]
	n.Protection = p
	r.names[name] = &n
}

// Name returns the name, or nil.
func (r *Registry) Name(name string) *Name { return r.names[name] }

// DestroyName forgets the name. Its bindings stay, and wait for a name.
func (r *Registry) DestroyName(name string) {
	if r.names[name] != nil {
		delete(r.names, name)
		r.changed(view.Event{Event: "name.destroyed", Name: name})
	}
}

// Names returns all names. A Name does not change.
func (r *Registry) Names() map[string]*Name { return r.names }

// Binding is what may accept for a name, whether the name exists or not. The user
// UID holds the name: it made the first binding. It does so until the last one goes.
type Binding struct {
	Name string
	UID  int

	procs    []*Process      // in the order in which RoundRobin offers them a flow
	programs []*BoundProgram // in the order in which they are started
	waiting  []*Flow         // that no process has accepted yet, oldest first
}

// Binding returns the binding of name, or nil.
func (r *Registry) Binding(name string) *Binding { return r.bindings[name] }

// Processes returns the bound processes.
func (b *Binding) Processes() []*Process {
	if b == nil {
		return nil
	}
	return b.procs
}

// Bind lets p accept for name: for the life of a listener, or until Unbind.
// Both may hold at once. It reports whether p was not bound before.
func (r *Registry) Bind(name string, p *Process, listener bool) (bound bool, err error) {
	bound = !p.Bound(name)
	why, err := r.tie(name, p)
	if err != nil {
		return false, err
	}
	if listener {
		why.listeners++
	} else {
		why.asked = true
	}
	return bound, nil
}

// tie binds p to name, if it is not bound yet, and returns its reasons, to
// which the caller adds one.
func (r *Registry) tie(name string, p *Process) (*reasons, error) {
	if why := p.bound[name]; why != nil {
		return why, nil
	}
	if err := r.Take(p.Owner(), Bindings, 1); err != nil {
		return nil, err
	}
	b := r.bindings[name]
	if b == nil {
		b = &Binding{Name: name, UID: p.UID}
		r.bindings[name] = b
	} else if !b.Held() {
		b.UID = p.UID
	}
	why := &reasons{}
	p.bound[name] = why
	b.procs = append(b.procs, p)
	if len(b.waiting) > 0 {
		p.wanted[name] = true
	}
	r.processChanged("process.bound", name, p)
	return why, nil
}

// reasons is why a process is bound to a name.
type reasons struct {
	listeners int           // of its own, for that name
	asked     bool          // by bind
	program   bool          // as an instance of a program, by its path
	started   *BoundProgram // for which the IRM has started it, whatever its path
}

func (w *reasons) any() bool { return w.asked || w.program || w.started != nil || w.listeners > 0 }

// Unbind takes back what Bind did. It reports whether p is bound no more.
func (r *Registry) Unbind(name string, p *Process, listener bool) (unbound bool) {
	why := p.bound[name]
	if why == nil {
		return false
	}
	if listener {
		why.listeners--
	} else {
		why.asked = false
	}
	if why.any() {
		return false
	}
	r.drop(name, p)
	return true
}

// drop ends the binding of p to name, whatever its reasons.
func (r *Registry) drop(name string, p *Process) {
	delete(p.bound, name)
	delete(p.wanted, name)
	r.Give(p.Owner(), Bindings, 1)
	r.processChanged("process.unbound", name, p)
	b := r.bindings[name]
	b.procs = slices.DeleteFunc(b.procs, func(q *Process) bool { return q == p })
	r.prune(b)
}

// Enter notes that p accepts again: that it came last, for the policy Spillover.
func (r *Registry) Enter(p *Process) {
	r.entries++
	p.entered = r.entries
}

// Offer returns a listener that takes the next flow to name and takes the
// flow off its credit; nil where no bound process accepts at the moment.
func (r *Registry) Offer(name string) *Listener {
	b := r.bindings[name]
	if b == nil {
		return nil
	}
	n := r.names[name]
	spill := n != nil && n.Policy == settings.Spillover
	var best *Listener
	at := 0
	for i, p := range b.procs {
		l := p.listenerFor(name)
		if l == nil || l.Credit == 0 || p.Arriving >= MaxArriving {
			continue
		}
		if best == nil || p.entered > best.Process.entered {
			best, at = l, i
		}
		if !spill {
			break
		}
	}
	if best == nil {
		return nil
	}
	best.Credit--
	if !spill {
		b.procs = append(slices.Delete(b.procs, at, at+1), best.Process)
	}
	return best
}

// Wait queues f until a process accepts for name. A process or a program must
// be bound.
func (r *Registry) Wait(f *Flow, name string) {
	b := r.bindings[name]
	b.waiting = append(b.waiting, f)
	if len(b.waiting) == 1 {
		for _, p := range b.procs {
			p.wanted[name] = true
		}
	}
}

// served notes that flows may have left the queue of b.
func (b *Binding) served() {
	if len(b.waiting) == 0 {
		for _, p := range b.procs {
			delete(p.wanted, b.Name)
		}
	}
}

// Match takes the oldest flow that waits for name together with a listener
// that takes it; nil where there is none.
func (r *Registry) Match(name string) (*Flow, *Listener) {
	b := r.bindings[name]
	if b == nil || len(b.waiting) == 0 {
		return nil, nil
	}
	l := r.Offer(name)
	if l == nil {
		return nil, nil
	}
	f := b.waiting[0]
	b.waiting = b.waiting[1:]
	b.served()
	return f, l
}

// TakeWaiting takes the flows that wait for a name to which no process is bound
// any more.
func (r *Registry) TakeWaiting(name string) []*Flow {
	b := r.bindings[name]
	if b == nil || len(b.procs) > 0 {
		return nil
	}
	w := b.waiting
	b.waiting = nil
	r.prune(b)
	return w
}

// unwait takes f out of the queue of its name.
func (r *Registry) unwait(f *Flow) {
	b := r.bindings[f.Name]
	if b == nil {
		return
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(g *Flow) bool { return g == f })
	b.served()
	r.prune(b)
}
