package registry

import (
	"fmt"
	"maps"
	"slices"

	"o7s/core"
)

// Process is a process that uses flows. PID and UID are the kernel's word.
type Process struct {
	PID, UID int
	Admin    bool   // it is an administrator's
	Program  string // for the logs: oping
	Path     string // of the program, as it was invoked
	User     User   // the IRM's way to it; not called from here

	// Gone is set when its connection has ended: it gets no flow any more,
	// and leaves the table with its last one.
	Gone bool

	// Leaving counts the ends that it has released and an IPCP has not
	// finished with yet.
	Leaving int

	// Arriving counts the flows that it is to get and has not said that it has:
	// see MaxArriving.
	Arriving int

	// Listened is set once it has had a listener.
	Listened bool
	// Auto is set where the IRM has started it.
	Auto bool

	bound     map[string]*reasons
	wanted    map[string]bool // of bound: flows wait for these names
	listeners map[uint32]*Listener
	byName    map[string][]*Listener // the same, by their names
	flows     map[core.FlowID]*Flow
	entered   uint64 // when it accepted last: see Enter
}

// MaxSame is how many listeners for one name a process may have.
const MaxSame = 64

// MaxArriving is how many flows may be on their way to a process. One that never
// says that it has them, but asks for more, gets no more.
const MaxArriving = 1024

// User is the way to a process.
type User interface {
	// FlowArrived hands the flow f to a listener; f.End is lent for the call. done
	// is called once, with the credit of the flows that it accepts now, or
	// the reason why it has not got this one.
	FlowArrived(listener uint32, f HandedFlow, done func(credit int, err error))
	// FlowDown says that a flow has ended, and why.
	FlowDown(id core.FlowID, code core.Errno)
}

// End is one end of the memory of a flow, until it is given to a process.
type End interface{ Close() error }

// Listener is where a process accepts: for Name, or for all the names bound
// to the process where that is "". Each flow takes one of Credit.
type Listener struct {
	ID      uint32
	Name    string
	Process *Process
	Credit  int
}

// Give gives l the credit of n more flows.
func (l *Listener) Give(n int) { l.Credit += n }

// AddProcess puts a process into the table. The pid must not be in it.
func (r *Registry) AddProcess(p *Process) {
	p.bound = make(map[string]*reasons)
	p.wanted = make(map[string]bool)
	p.listeners = make(map[uint32]*Listener)
	p.byName = make(map[string][]*Listener)
	p.flows = make(map[core.FlowID]*Flow)
	r.procs[p.PID] = p
	r.processChanged("process.added", "", p)
}

// Arrived notes that one of the flows which p was to get is on its way no more.
func (p *Process) Arrived() { p.Arriving-- }

// Leaves notes that p has released an end with which an IPCP has not finished;
// Left that the IPCP has.
func (p *Process) Leaves() { p.Leaving++ }

// Left implements the other half of Leaves.
func (p *Process) Left() { p.Leaving-- }

// Start notes that the IRM has started p.
func (p *Process) Start() { p.Auto = true }

// Owner returns whose p is.
func (p *Process) Owner() Owner { return Owner{p.UID, p.Admin} }

// Process returns the process with that pid, or nil.
func (r *Registry) Process(pid int) *Process { return r.procs[pid] }

// RemoveProcess forgets p, which has no flow and no binding any more.
func (r *Registry) RemoveProcess(p *Process) {
	if r.procs[p.PID] == p {
		delete(r.procs, p.PID)
		r.processChanged("process.removed", "", p)
	}
}

// Leave ends all that p accepts for and returns the names it was bound to.
func (r *Registry) Leave(p *Process) []string {
	p.Gone = true
	names := p.Names()
	for _, n := range names {
		if !r.fault("a name stays bound to a process that has gone") {
			r.drop(n, p)
		}
	}
	r.Give(p.Owner(), Listeners, len(p.listeners))
	clear(p.listeners)
	clear(p.byName)
	return names
}

// Names returns the names that p is bound to, sorted.
func (p *Process) Names() []string { return slices.Sorted(maps.Keys(p.bound)) }

// NameCount returns how many names p is bound to.
func (p *Process) NameCount() int { return len(p.bound) }

// Bound reports whether p is bound to name.
func (p *Process) Bound(name string) bool { return p.bound[name] != nil }

// BoundByHand reports whether p was bound to name by bind.
func (p *Process) BoundByHand(name string) bool {
	why := p.bound[name]
	return why != nil && why.asked
}

// Flows returns the ends that p holds, by id.
func (p *Process) Flows() []*Flow { return sortedFlows(p.flows) }

// Held returns how many ends p holds.
func (p *Process) Held() int { return len(p.flows) }

// AddListener gives p a listener with no credit. Its id is core.ErrExists if
// p has it already.
func (r *Registry) AddListener(p *Process, id uint32, name string) (*Listener, error) {
	if p.listeners[id] != nil {
		return nil, fmt.Errorf("%w: listener %d", core.ErrExists, id)
	}
	if len(p.byName[name]) >= MaxSame {
		return nil, fmt.Errorf("%w: process %d has %d listeners for one name, and may have no more", core.ErrLimit, p.PID, MaxSame)
	}
	if err := r.Take(p.Owner(), Listeners, 1); err != nil {
		return nil, err
	}
	l := &Listener{ID: id, Name: name, Process: p}
	p.listeners[id] = l
	p.byName[name] = append(p.byName[name], l)
	p.Listened = true
	return l, nil
}

// Listener returns the listener of that id, or nil.
func (p *Process) Listener(id uint32) *Listener { return p.listeners[id] }

// RemoveListener forgets l.
func (r *Registry) RemoveListener(l *Listener) {
	p := l.Process
	delete(p.listeners, l.ID)
	same := slices.DeleteFunc(p.byName[l.Name], func(o *Listener) bool { return o == l })
	if p.byName[l.Name] = same; len(same) == 0 {
		delete(p.byName, l.Name)
	}
	r.Give(p.Owner(), Listeners, 1)
}

// listenerFor returns where a flow to name arrives: one of p's listeners for
// just that name, with credit if there is one, else one for all names.
func (p *Process) listenerFor(name string) *Listener {
	same := p.byName[name]
	if len(same) == 0 {
		same = p.byName[""]
	}
	var best *Listener
	for _, l := range same {
		best = better(best, l)
	}
	return best
}

// better returns the one with credit, or the older one.
func better(a, b *Listener) *Listener {
	if a == nil || (a.Credit == 0) != (b.Credit == 0) && a.Credit == 0 ||
		(a.Credit == 0) == (b.Credit == 0) && b.ID < a.ID {
		return b
	}
	return a
}

// Wanted returns the names that p is bound to and flows wait for, sorted.
func (p *Process) Wanted() []string { return slices.Sorted(maps.Keys(p.wanted)) }

// Wanted returns those of them that l accepts for.
func (l *Listener) Wanted() []string {
	if l.Name == "" {
		return l.Process.Wanted()
	}
	if l.Process.wanted[l.Name] {
		return []string{l.Name}
	}
	return nil
}
