package irmd

import (
	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/irm"
	"o7s/ipc/ipcpctl"
	"o7s/ipc/rpc"
)

// ipcpMux returns the handlers of what the IPCP i tells the IRM.
func ipcpMux(m *irm.Manager, i irm.IPCP) *rpc.Mux {
	mux := rpc.NewMux()
	rpc.Handle(mux, ipcpctl.FlowReqArr, func(call *rpc.Call[ipcpctl.FlowReq], r *ipcp.Arrival) {
		m.AwaitRoom()
		m.FlowReqArr(i, *r, func(id core.FlowID, err error) {
			if err != nil {
				call.Fail(err)
				return
			}
			_ = call.Reply(&ipcpctl.FlowReq{Flow: id}) // an IPCP that has gone loses its flows
		})
	})
	handle(m, mux, ipcpctl.FlowAllocReply, func(r *ipcp.AllocReply) error { return m.FlowAllocReply(i, *r) })
	handle(m, mux, ipcpctl.FlowReleased, func(r *ipcpctl.FlowReq) error { return m.ProviderDealloc(i, r.Flow) })
	handle(m, mux, ipcpctl.FlowEnd, func(r *ipcpctl.EndMsg) error { return m.FlowEnd(i, r.Flow, r.Code) })
	handle(m, mux, ipcpctl.Splice, func(r *ipcpctl.SpliceMsg) error { return m.Splice(i, r.A, r.B) })
	rpc.Handle(mux, ipcpctl.Attach, func(call *rpc.Call[ipcpctl.Memory], r *ipcpctl.FlowReq) {
		m.AwaitRoom()
		theirs, err := m.Attach(i, r.Flow)
		if err != nil {
			call.Fail(err)
			return
		}
		defer theirs.Close()
		e := theirs.(*end) // this program's memory makes no other
		_ = call.Reply(&ipcpctl.Memory{Side: e.side, Ring: e.kit.Ring}, e.kit.Mem, e.kit.Bell[e.side])
	})
	return mux
}

// handle registers a call that is answered with nothing, once what follows from it
// is done.
func handle[Req any](m *irm.Manager, mux *rpc.Mux, method rpc.Method[Req, rpc.Empty], f func(*Req) error) {
	rpc.Handle(mux, method, func(call *rpc.Call[rpc.Empty], r *Req) {
		m.AwaitRoom()
		err := f(r)
		m.After(func() { answer(call, err) })
	})
}

func answer(call *rpc.Call[rpc.Empty], err error) {
	if err != nil {
		call.Fail(err)
		return
	}
	_ = call.Reply(nil)
}
