// Package ipcpctl is the link between the IRMd and an IPCP: its messages, and
// ipcp.Control and ipcp.Host across it. It decides nothing: packages core/irm
// and core/ipcp do.
package ipcpctl

import (
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/view"
	"o7s/ipc/rpc"
)

// Stall is how long either end of the link may read nothing while a message waits
// for it; then the link ends. It is long, because the end of an IPCP's link ends
// many flows.
const Stall = 10 * time.Second

// What the IRMd asks of an IPCP: the methods of ipcp.Control.
var (
	Bootstrap     = rpc.Method[ipcp.Config, ipcp.Config]{Name: "bootstrap"}
	Enroll        = rpc.Method[ipcp.Enrollment, ipcp.Config]{Name: "enroll"}
	Connect       = rpc.Method[ipcp.Connection, rpc.Empty]{Name: "connect"}
	Disconnect    = rpc.Method[ipcp.Connection, rpc.Empty]{Name: "disconnect"}
	Register      = rpc.Method[HashReq, rpc.Empty]{Name: "register"}
	Unregister    = rpc.Method[HashReq, rpc.Empty]{Name: "unregister"}
	Query         = rpc.Method[HashReq, rpc.Empty]{Name: "query"}
	FlowAlloc     = rpc.Method[ipcp.AllocRequest, rpc.Empty]{Name: "flow.alloc"}
	FlowAllocResp = rpc.Method[ipcp.AllocResponse, rpc.Empty]{Name: "flow.alloc-resp"}
	FlowDealloc   = rpc.Method[ipcp.DeallocRequest, rpc.Empty]{Name: "flow.dealloc"}
	Show          = rpc.Method[rpc.Empty, Facts]{Name: "show"}
	ShowFlow      = rpc.Method[FlowReq, Facts]{Name: "show.flow"}
)

// What an IPCP tells the IRMd: the methods of ipcp.Host.
var (
	FlowReqArr     = rpc.Method[ipcp.Arrival, FlowReq]{Name: "flow.req-arrived"}
	FlowAllocReply = rpc.Method[ipcp.AllocReply, rpc.Empty]{Name: "flow.alloc-reply"}
	FlowReleased   = rpc.Method[FlowReq, rpc.Empty]{Name: "flow.released"}

	// FlowEnd is a notification.
	FlowEnd = rpc.Method[EndMsg, rpc.Empty]{Name: "flow.end"}

	// Splice is a notification: an IRMd that refuses it refuses the
	// FlowAllocReply that follows.
	Splice = rpc.Method[SpliceMsg, rpc.Empty]{Name: "flow.splice"}

	// Attach is answered with two descriptors: the flow's memory and the
	// IPCP's end of its bell.
	Attach = rpc.Method[FlowReq, Memory]{Name: "flow.attach"}
)

type (
	// HashReq names what a layer's directory knows.
	HashReq struct{ Hash core.Hash }

	// Facts are what Show and ShowFlow of ipcp.Control return.
	Facts struct{ List []view.Fact }

	// FlowReq names an end of a flow.
	FlowReq struct{ Flow core.FlowID }

	// EndMsg says why a flow has ended.
	EndMsg struct {
		Flow core.FlowID
		Code core.Errno
	}

	// SpliceMsg names the two ends of one flow.
	SpliceMsg struct{ A, B core.FlowID }

	// Memory says which side of a flow's memory comes, and how large the
	// rings are, in bytes.
	Memory struct{ Side, Ring int }
)
