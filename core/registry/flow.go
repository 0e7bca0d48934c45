package registry

import (
	"fmt"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/ipcp"
	"o7s/core/oap"
)

// FlowState is where one end of a flow is in its life. A process and an IPCP
// hold each end; both must release it before its id is free.
//
//	AllocPending --reply--> Allocated <--response-- ReqArrived
//	     |    \              /     \                 /   |
//	     |  process      process   IPCP           IPCP   |
//	     |      \          /         \             /     |
//	   refused   UserGone            ProviderGone      refused
//	     |          |  IPCP              |  process      |
//	     +----------+---> Deallocated <--+---------------+
//
// An end that is Allocated may be Ended before it is released.
type FlowState int

const (
	AllocPending FlowState = iota // the process asked, the IPCP has not answered
	ReqArrived                    // the IPCP asked, the process has not answered
	Allocated
	Ended        // the other end, or the layer, has ended it; both still hold it
	UserGone     // the process has released it: partly deallocated
	ProviderGone // the IPCP has released it: partly deallocated
	Deallocated  // the id is free
)

func (s FlowState) String() string {
	return [...]string{"alloc-pending", "req-arrived", "allocated", "ended", "user-gone", "provider-gone", "deallocated"}[s]
}

var nextFlowState = map[FlowState][]FlowState{
	AllocPending: {Allocated, UserGone, ProviderGone, Deallocated},
	ReqArrived:   {Allocated, UserGone, ProviderGone, Deallocated},
	Allocated:    {Ended, UserGone, ProviderGone},
	Ended:        {UserGone, ProviderGone},
	UserGone:     {Deallocated},
	ProviderGone: {Deallocated},
}

// Flow is one end of a flow.
type Flow struct {
	ID       core.FlowID
	Name     string // that it was asked under
	QoS      core.QoS
	User     *Process // nil while no process has accepted
	Provider *IPCP
	Listener *Listener // that accepts it; nil at the end that asked

	// Peer is the other end where the layer has spliced the two.
	Peer *Flow
	// From, Path and Ours are of a flow whose other end is on another system:
	// where that is, for people, what the way there carries, and whether it is
	// an o7s system.
	From string
	Path ipcp.Path
	Ours bool
	// Cipher protects the packets, 0: none does; Secret holds its key for the
	// process. CN is the common name that the other end has proved to have.
	Cipher crypt.Cipher
	Secret *Secret
	CN     string
	// Since is when the flow was asked for.
	Since time.Time
	// Asked is set at the end of the process that asked for the flow.
	Asked bool
	// Meter counts what passes in the memory; nil where there is none.
	Meter Meter

	r      *Registry
	state  FlowState
	end    End    // see Attach
	answer []byte // see Reply
}

// HandedFlow is a flow as its process gets it.
type HandedFlow struct {
	ID     core.FlowID
	Name   string // that it was asked under
	QoS    core.QoS
	Path   ipcp.Path
	Ours   bool
	Cipher crypt.Cipher
	CN     string
	Secret *Secret // nil where Cipher is 0
	End    End     // of its memory
}

// Handed returns f as its process gets it, with the process's end of its memory.
func (f *Flow) Handed(e End) HandedFlow {
	return HandedFlow{f.ID, f.Name, f.QoS, f.Path, f.Ours, f.Cipher, f.CN, f.Secret, e}
}

// Came notes where the other end of f is, and what the way there carries.
func (f *Flow) Came(from string, path ipcp.Path) { f.From, f.Path = from, path }

// Reply keeps what this system's IRMd says to the IRMd that asked for f. TakeReply
// returns it, once.
func (f *Flow) Reply(data []byte) { f.answer = data }

// TakeReply implements the other half of Reply.
func (f *Flow) TakeReply() (data []byte) {
	data, f.answer = f.answer, nil
	return data
}

// Attach gives f the process's end of its memory. TakeEnd returns that, once; nil
// where there is none.
func (f *Flow) Attach(e End) { f.end = e }

// Attached reports whether f has an end that nobody has taken.
func (f *Flow) Attached() bool { return f.end != nil }

// TakeEnd implements the other half of Attach.
func (f *Flow) TakeEnd() (e End) {
	e, f.end = f.end, nil
	return e
}

// Agree notes what a handshake has agreed on, of which f takes the key.
func (f *Flow) Agree(s *oap.Session) {
	f.Ours, f.Cipher, f.Secret, f.CN = s.Ours, s.Cipher, NewSecret(s.Key), s.Peer
}

// State returns the state.
func (f *Flow) State() FlowState { return f.state }

// SetState moves f to another state, or is core.ErrState if there is no such
// move: then nothing has changed.
func (f *Flow) SetState(to FlowState) error {
	if !slices.Contains(nextFlowState[f.state], to) {
		return fmt.Errorf("%w: flow %d is %v and does not become %v", core.ErrState, f.ID, f.state, to)
	}
	f.state = to
	switch to {
	case Allocated:
		f.r.flowChanged("flow.allocated", f, "")
	case UserGone, ProviderGone:
		f.r.flowChanged("flow.deallocating", f, "")
	}
	return nil
}

// NewFlow makes an end with the lowest free id: AllocPending for user, or
// ReqArrived where that is nil.
func (r *Registry) NewFlow(user *Process, provider *IPCP, name string, qos core.QoS) *Flow {
	f := &Flow{ID: core.FlowID(r.ids.Take()), Name: name, QoS: qos, Provider: provider, Since: time.Now(), r: r, state: ReqArrived}
	if user != nil {
		f.state, f.Asked = AllocPending, true
		r.assign(f, user)
	}
	r.flows[f.ID] = f
	provider.flows[f.ID] = f
	r.flowChanged("flow.requested", f, "")
	return f
}

// Send gives f to the process of l, to which it is on its way until Arrived.
func (r *Registry) Send(f *Flow, l *Listener) {
	f.Listener = l
	l.Process.Arriving++
	r.assign(f, l.Process)
}

// assign gives f to the process p.
func (r *Registry) assign(f *Flow, p *Process) {
	f.User = p
	p.flows[f.ID] = f
	r.count(p.Owner(), Flows, 1)
}

// Splice notes that a and b are the two ends of one flow.
func (r *Registry) Splice(a, b *Flow) { a.Peer, b.Peer = b, a }

// Flow returns the end with that id, or nil.
func (r *Registry) Flow(id core.FlowID) *Flow { return r.flows[id] }

// Flows returns all ends, in no order.
func (r *Registry) Flows() map[core.FlowID]*Flow { return r.flows }

// RemoveFlow ends f, whatever its state, and frees its id. The caller closes
// its end of the memory. A flow that is removed already is left alone.
func (r *Registry) RemoveFlow(f *Flow) {
	if f.state == Deallocated {
		return
	}
	if f.state == ReqArrived {
		r.unwait(f)
	}
	f.state = Deallocated
	delete(r.flows, f.ID)
	delete(f.Provider.flows, f.ID)
	if f.User != nil {
		delete(f.User.flows, f.ID)
		r.count(f.User.Owner(), Flows, -1)
	}
	if f.Peer != nil {
		f.Peer.Peer = nil
		f.Peer = nil
	}
	if !r.fault("an id is never free again") {
		r.ids.Release(int(f.ID))
	}
	r.flowChanged("flow.deallocated", f, "")
}
