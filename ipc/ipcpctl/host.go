package ipcpctl

import (
	"sync/atomic"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc/flow"
	"o7s/ipc/rpc"
)

// Host is ipcp.Host across a link to the IRMd. Its functions are called on the
// link's reader.
type Host struct{ link atomic.Pointer[rpc.Link] }

var _ ipcp.Host = (*Host)(nil)

// SetLink gives h its link, whose handlers may be running already. Until then
// the IPCP is in no layer, and has nothing to tell.
func (h *Host) SetLink(l *rpc.Link) { h.link.Store(l) }

// FlowReqArr implements ipcp.Host.
func (h *Host) FlowReqArr(dst core.Hash, qos core.QoS, got func(core.FlowID, error)) {
	rpc.Go(h.link.Load(), FlowReqArr, &ReqArr{dst, qos}, func(r *rpc.Reply[FlowReq], err error) {
		if err != nil {
			got(0, err)
			return
		}
		got(r.Body.Flow, nil)
	})
}

// FlowAllocReply implements ipcp.Host.
func (h *Host) FlowAllocReply(id core.FlowID, code core.Errno, done func(error)) {
	rpc.Go(h.link.Load(), FlowAllocReply, &AnswerReq{id, code}, outcome(done))
}

// FlowDealloc implements ipcp.Host.
func (h *Host) FlowDealloc(id core.FlowID, done func(error)) {
	rpc.Go(h.link.Load(), FlowReleased, &FlowReq{id}, outcome(done))
}

// Splice implements ipcp.Host.
func (h *Host) Splice(a, b core.FlowID) error {
	return rpc.Notify(h.link.Load(), Splice, &SpliceMsg{a, b})
}

// Attach implements ipcp.Host.
func (h *Host) Attach(id core.FlowID, got func(ipcp.Flow, error)) {
	rpc.Go(h.link.Load(), Attach, &FlowReq{id}, func(r *rpc.Reply[Memory], err error) {
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
