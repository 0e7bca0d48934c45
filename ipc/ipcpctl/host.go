package ipcpctl

import (
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc/flow"
	"o7s/ipc/rpc"
)

// Host is ipcp.Host across a link to the IRMd. Its functions are called on the
// link's reader.
type Host struct {
	link  *rpc.Link
	ready chan struct{} // closed when link is set
}

var _ ipcp.Host = (*Host)(nil)

// NewHost returns a Host without a link.
func NewHost() *Host { return &Host{ready: make(chan struct{})} }

// SetLink gives h its link, once. The link's handlers may be running already:
// what they tell the IRMd waits for it.
func (h *Host) SetLink(l *rpc.Link) {
	h.link = l
	close(h.ready)
}

func (h *Host) irmd() *rpc.Link {
	<-h.ready
	return h.link
}

// FlowReqArr implements ipcp.Host.
func (h *Host) FlowReqArr(a ipcp.Arrival, got func(core.FlowID, error)) {
	rpc.Go(h.irmd(), FlowReqArr, &a, func(r *rpc.Reply[FlowReq], err error) {
		if err != nil {
			got(0, err)
			return
		}
		got(r.Body.Flow, nil)
	})
}

// FlowAllocReply implements ipcp.Host.
func (h *Host) FlowAllocReply(r ipcp.AllocReply, done func(error)) {
	rpc.Go(h.irmd(), FlowAllocReply, &r, outcome(done))
}

// FlowDealloc implements ipcp.Host.
func (h *Host) FlowDealloc(id core.FlowID, done func(error)) {
	rpc.Go(h.irmd(), FlowReleased, &FlowReq{id}, outcome(done))
}

// FlowEnd implements ipcp.Host.
func (h *Host) FlowEnd(id core.FlowID, code core.Errno) {
	_ = rpc.Notify(h.irmd(), FlowEnd, &EndMsg{id, code}) // an IRMd that has gone needs no word
}

// Splice implements ipcp.Host.
func (h *Host) Splice(a, b core.FlowID) error {
	return rpc.Notify(h.irmd(), Splice, &SpliceMsg{a, b})
}

// Attach implements ipcp.Host.
func (h *Host) Attach(id core.FlowID, got func(ipcp.Flow, error)) {
	rpc.Go(h.irmd(), Attach, &FlowReq{id}, func(r *rpc.Reply[Memory], err error) {
		if err != nil {
			got(nil, err)
			return
		}
		end, err := flow.OpenReceived(r.Body.Side, r.TakeFiles(), r.Body.Ring)
		if err != nil {
			got(nil, err)
			return
		}
		got(end, nil)
	})
}

// NewSet implements ipcp.Host.
func (h *Host) NewSet() (ipcp.Set, error) {
	s, err := flow.NewSet()
	if err != nil {
		return nil, err
	}
	return flowSet{s}, nil
}

// flowSet is ipcp.Set of the flows that Attach gives, which are flow.Ends.
// Another kind of flow is no member: Add refuses it.
type flowSet struct{ *flow.Set }

// Add implements ipcp.Set.
func (s flowSet) Add(f ipcp.Flow, v any) error {
	e, ok := f.(*flow.End)
	if !ok {
		return fmt.Errorf("%w: add a %T, which Attach did not give, to a set of flows", core.ErrUsage, f)
	}
	return s.Set.Add(e, v)
}

// Remove implements ipcp.Set.
func (s flowSet) Remove(f ipcp.Flow) {
	if e, ok := f.(*flow.End); ok {
		s.Set.Remove(e)
	}
}

// Room implements ipcp.Set.
func (s flowSet) Room(f ipcp.Flow, n int) {
	if e, ok := f.(*flow.End); ok {
		s.Set.Room(e, n)
	}
}

// Park implements ipcp.Set.
func (s flowSet) Park(f ipcp.Flow) {
	if e, ok := f.(*flow.End); ok {
		s.Set.Park(e)
	}
}

// Unpark implements ipcp.Set.
func (s flowSet) Unpark(f ipcp.Flow) {
	if e, ok := f.(*flow.End); ok {
		s.Set.Unpark(e)
	}
}
