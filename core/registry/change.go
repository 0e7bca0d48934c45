package registry

import (
	"slices"
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/settings"
	"o7s/core/view"
)

// changed tells the watcher, if there is one, of a change.
func (r *Registry) changed(e view.Event) {
	if r.Changed != nil {
		r.Changed(e)
	}
}

// Down moves f, whose process still holds it, to Ended, or is core.ErrState.
func (r *Registry) Down(f *Flow, reason error) error {
	if err := f.SetState(Ended); err != nil {
		return err
	}
	r.flowChanged("flow.down", f, reason.Error())
	return nil
}

func (r *Registry) flowChanged(event string, f *Flow, reason string) {
	if r.Changed == nil {
		return
	}
	id := f.ID
	e := view.Event{Event: event, Flow: &id, Name: f.Name, IPCP: f.Provider.Name, Layer: f.Provider.Layer, State: f.state.String(), From: f.From, Reason: reason}
	if f.User != nil {
		e.PID, e.Program = f.User.PID, f.User.Program
	}
	r.changed(e)
}

func (r *Registry) processChanged(event, name string, p *Process) {
	if r.Changed != nil {
		r.changed(view.Event{Event: event, Name: name, PID: p.PID, Program: p.Program})
	}
}

func (r *Registry) ipcpChanged(event, name string, i *IPCP) {
	if r.Changed != nil {
		r.changed(view.Event{Event: event, Name: name, IPCP: i.Name, PID: i.PID, Layer: i.Layer})
	}
}

// Meter reads what has passed in the memory of a flow, as one end sees it,
// without a word to either end.
type Meter interface {
	Count() (Count, error)
	// Share returns another Meter of the same, which is closed by itself.
	Share() Meter
	Close() error
}

// Count is positions in the rings, in bytes: what an end has sent and of it
// the other end not read yet; what it has read and what waits for it. The processes
// of a flow write them, and can falsify them: Impossible is set where more waits
// than the rings hold.
type Count struct {
	Sent, Unread, Read, Waiting uint64
	Impossible                  bool
}

// Metered is an End that knows a Meter for its side of the memory, or nil.
type Metered interface{ Meter() Meter }

// Watch remembers how to count what passes at f's end e of the memory.
func (f *Flow) Watch(e End) {
	if m, ok := e.(Metered); ok && f.Meter == nil && f.state != Deallocated {
		f.Meter = m.Meter()
	}
}

// TakeMeter returns f's Meter for the caller to close, or nil.
func (f *Flow) TakeMeter() Meter {
	m := f.Meter
	f.Meter = nil
	return m
}

// Accepting reports whether p takes a flow to name at the moment; to any name
// where that is "".
func (p *Process) Accepting(name string) bool {
	if name != "" {
		l := p.listenerFor(name)
		return l != nil && l.Credit > 0
	}
	for _, l := range p.listeners {
		if l.Credit > 0 {
			return true
		}
	}
	return false
}

// Listeners returns how many listeners p has.
func (p *Process) Listeners() int { return len(p.listeners) }

// Bootstrapped notes that i is a member of the layer of cfg from now on; via says how
// it has become one, for people.
func (r *Registry) Bootstrapped(i *IPCP, cfg ipcp.Config, via string) {
	r.joined("ipcp.bootstrapped", i, cfg, via)
}

// Enrolled is like Bootstrapped, for an IPCP that has joined a layer which existed.
func (r *Registry) Enrolled(i *IPCP, cfg ipcp.Config, via string) {
	r.joined("ipcp.enrolled", i, cfg, via)
}

func (r *Registry) joined(event string, i *IPCP, cfg ipcp.Config, via string) {
	i.Layer, i.Hash, i.Settings, i.Via = cfg.Layer, cfg.Hash, cfg.Settings, via
	if r.ipcps[i.Name] == i { // else it has ended meanwhile
		r.members[i.Layer] = append(r.members[i.Layer], i)
	}
	r.ipcpChanged(event, "", i)
}

// Started notes the process of i, and the IRM's way to it.
func (r *Registry) Started(i *IPCP, pid int, c ipcp.Control) {
	i.PID, i.Control = pid, c
	r.ipcpChanged("ipcp.created", "", i)
}

// Waiting returns how many flows wait until a process accepts for b's name.
func (b *Binding) Waiting() int {
	if b == nil {
		return 0
	}
	return len(b.waiting)
}

// Registrations returns the names registered with i, by hash.
func (i *IPCP) Registrations() map[core.Hash]string { return i.regs }

// Bindings returns all bindings, in no order.
func (r *Registry) Bindings() map[string]*Binding { return r.bindings }

// Processes returns all processes, in no order.
func (r *Registry) Processes() map[int]*Process { return r.procs }

// FlowCount returns how many ends there are.
func (r *Registry) FlowCount() int { return len(r.flows) }

// IPCPCopy is a copy of what people see of an IPCP.
type IPCPCopy struct {
	Name, Layer, Via string
	PID              int
	Type             ipcp.Type
	Hash             hash.Algorithm
	Settings         ipcp.Settings
	Protection       settings.Protection
	Names, Flows     int
	Autobind         bool
	Connections      []ipcp.Connection
}

// Look returns a copy of i.
func (i *IPCP) Look() IPCPCopy {
	return IPCPCopy{i.Name, i.Layer, i.Via, i.PID, i.Type, i.Hash, i.Settings, i.Protection, len(i.regs), len(i.flows), i.Autobind, slices.Clone(i.Connections)}
}

// FlowCopy is a copy of what people see of an end of a flow. The caller closes its
// Meter, which may be nil. Peer is -1 where there is none.
type FlowCopy struct {
	ID                         core.FlowID
	Peer, PID                  int
	Name, Program, IPCP, Layer string
	From, CN                   string
	Cipher                     crypt.Cipher
	State                      FlowState
	QoS                        core.QoS
	Path                       ipcp.Path
	Since                      time.Time
	Asked                      bool
	Meter                      Meter
}

// Look returns a copy of f.
func (f *Flow) Look() FlowCopy {
	c := FlowCopy{
		ID: f.ID, Peer: -1, Name: f.Name, IPCP: f.Provider.Name, Layer: f.Provider.Layer,
		From: f.From, State: f.state, QoS: f.QoS, Path: f.Path, Since: f.Since, Asked: f.Asked,
		Cipher: f.Cipher, CN: f.CN,
	}
	if f.Peer != nil {
		c.Peer = int(f.Peer.ID)
	}
	if f.User != nil {
		c.PID, c.Program = f.User.PID, f.User.Program
	}
	if f.Meter != nil {
		c.Meter = f.Meter.Share()
	}
	return c
}

// BoundBy tells why p is bound to name: by bind (process), as an instance of a
// program or by a listener of its own.
func (p *Process) BoundBy(name string) string {
	why := p.bound[name]
	switch {
	case why == nil:
		return ""
	case why.asked:
		return "process"
	case why.program, why.started != nil:
		return "program"
	}
	return "listener"
}
