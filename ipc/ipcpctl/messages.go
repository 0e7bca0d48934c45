// Package ipcpctl is the link between the IRMd and an IPCP: its messages, and
// ipcp.Control and ipcp.Host across it. It decides nothing: packages core/irm
// and core/ipcp do.
package ipcpctl

import (
	"time"

	"o7s/core"
	"o7s/core/hash"
	"o7s/ipc/rpc"
)

// Stall is how long either end of the link may read nothing while something
// waits for it. That of an IPCP that is held up ends many flows.
const Stall = 10 * time.Second

// What the IRMd asks of an IPCP: the methods of ipcp.Control.
var (
	Bootstrap     = rpc.Method[BootstrapReq, rpc.Empty]{Name: "bootstrap"}
	Register      = rpc.Method[HashReq, rpc.Empty]{Name: "register"}
	Unregister    = rpc.Method[HashReq, rpc.Empty]{Name: "unregister"}
	Query         = rpc.Method[HashReq, rpc.Empty]{Name: "query"}
	FlowAlloc     = rpc.Method[AllocReq, rpc.Empty]{Name: "flow.alloc"}
	FlowAllocResp = rpc.Method[AnswerReq, rpc.Empty]{Name: "flow.alloc-resp"}
	FlowDealloc   = rpc.Method[FlowReq, rpc.Empty]{Name: "flow.dealloc"}
)

// What an IPCP tells the IRMd: the methods of ipcp.Host.
var (
	FlowReqArr     = rpc.Method[ReqArr, FlowReq]{Name: "flow.req-arrived"}
	FlowAllocReply = rpc.Method[AnswerReq, rpc.Empty]{Name: "flow.alloc-reply"}
	FlowReleased   = rpc.Method[FlowReq, rpc.Empty]{Name: "flow.released"}

	// Splice is a notification: an IRMd that refuses it refuses the
	// FlowAllocReply that follows.
	Splice = rpc.Method[SpliceMsg, rpc.Empty]{Name: "flow.splice"}

	// Attach is answered with two descriptors: the flow's memory and the
	// IPCP's end of its bell.
	Attach = rpc.Method[FlowReq, Memory]{Name: "flow.attach"}
)

type (
	// BootstrapReq is ipcp.Config.
	BootstrapReq struct {
		Layer string
		Hash  hash.Algorithm
	}

	// HashReq names what a layer's directory knows.
	HashReq struct{ Hash core.Hash }

	// AllocReq is ipcp.AllocRequest.
	AllocReq struct {
		Flow core.FlowID
		Dst  core.Hash
		QoS  core.QoS
	}

	// AnswerReq is the answer to an allocation: 0, or why not.
	AnswerReq struct {
		Flow core.FlowID
		Code core.Errno
	}

	// FlowReq names an end of a flow.
	FlowReq struct{ Flow core.FlowID }

	// ReqArr announces a request that arrived.
	ReqArr struct {
		Dst core.Hash
		QoS core.QoS
	}

	// SpliceMsg names the two ends of one flow.
	SpliceMsg struct{ A, B core.FlowID }

	// Memory says which side of a flow's memory comes, and how large the
	// rings are, in bytes.
	Memory struct{ Side, Ring int }
)
