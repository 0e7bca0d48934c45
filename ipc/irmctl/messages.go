// Package irmctl is the administration of a system for programs: a [Client] does what
// the command irm does, with a method for each of its commands. The IRMd judges each
// call by the uid of the caller; what is listed is open to everybody.
//
//	c, err := irmctl.Dial(ctx)
//	if err != nil {
//		return err // core.ErrIRMd: it says how to start one
//	}
//	defer c.Close()
//	err = c.RegisterName(ctx, irmctl.RegisterReq{Name: "oping-server", Layers: []string{"local-layer"}})
//
// The errors are those of package core, with words that say what to do. The package
// also holds the messages that processes and the IRMd exchange; programs need none of
// them but the arguments of Client's methods. It decides nothing: package core/irm
// does.
package irmctl

import (
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/ipcp"
	"o7s/ipc/rpc"
)

// Socket is the name of the IRMd's socket in its runtime directory.
const Socket = "irmd.sock"

// MaxCalls is how many calls of one process the IRMd leaves unanswered at a
// time; it refuses more with core.ErrLimit.
const MaxCalls = 4096

// What an administrator asks of the IRMd. Each call is judged by the uid of
// its sender; a refusal is core.ErrPermission and says who would be allowed.
var (
	CreateIPCP     = rpc.Method[IPCPReq, PID]{Name: "ipcp.create"}
	BootstrapIPCP  = rpc.Method[BootstrapReq, PID]{Name: "ipcp.bootstrap"}
	EnrollIPCP     = rpc.Method[EnrollReq, PID]{Name: "ipcp.enroll"}
	ConnectIPCP    = rpc.Method[ConnectReq, rpc.Empty]{Name: "ipcp.connect"}
	DisconnectIPCP = rpc.Method[ConnectReq, rpc.Empty]{Name: "ipcp.disconnect"}
	DestroyIPCP    = rpc.Method[IPCPReq, rpc.Empty]{Name: "ipcp.destroy"}
	BindProcess    = rpc.Method[BindReq, rpc.Empty]{Name: "bind.process"}
	UnbindProcess  = rpc.Method[BindReq, rpc.Empty]{Name: "unbind.process"}
	CreateName     = rpc.Method[NameReq, rpc.Empty]{Name: "name.create"}
	DestroyName    = rpc.Method[NameReq, rpc.Empty]{Name: "name.destroy"}
	RegisterName   = rpc.Method[RegisterReq, rpc.Empty]{Name: "name.register"}
	UnregisterName = rpc.Method[RegisterReq, rpc.Empty]{Name: "name.unregister"}
)

// What a process asks of the IRMd for its flows.
var (
	// Announce puts the process into the IRMd's table, for the life of its
	// connection. It comes before any other of these calls.
	Announce = rpc.Method[AnnounceReq, rpc.Empty]{Name: "announce"}

	// Alloc allocates a flow. Two descriptors come with the answer: the
	// flow's memory, and this end of its bell.
	Alloc = rpc.Method[AllocReq, Flow]{Name: "flow.alloc"}

	// Listen makes a listener and gives it its first credit; the answer to
	// Arrived, or Accept, gives it more. Each flow that arrives takes one.
	Listen   = rpc.Method[ListenReq, rpc.Empty]{Name: "flow.listen"}
	Accept   = rpc.Method[AcceptReq, rpc.Empty]{Name: "flow.accept"}
	Unlisten = rpc.Method[Listener, rpc.Empty]{Name: "flow.unlisten"}

	// Dealloc gives up this process's end of a flow. The answer to the call
	// comes when the IPCP has released the end too.
	Dealloc = rpc.Method[FlowRef, rpc.Empty]{Name: "flow.dealloc"}
)

// What the IRMd tells a process, unasked.
var (
	// Arrived hands a listener a flow, with the two descriptors of Alloc.
	// The answer says that the process has it, and accepts again.
	Arrived = rpc.Method[ArrivedMsg, Credit]{Name: "flow.arrived"}

	// FlowFacts asks the process how its end of a flow stands.
	FlowFacts = rpc.Method[FlowRef, Facts]{Name: "flow.facts"}

	// Down says that a flow ends here, and why.
	Down = rpc.Method[DownMsg, rpc.Empty]{Name: "flow.down"}
)

type (
	// PID is the answer to a call that starts or finds a process.
	PID struct{ PID int }

	// IPCPReq names an IPCP. Only create looks at Type.
	IPCPReq struct{ Name, Type string }

	// BootstrapReq makes the IPCP called Name the first member of a layer. An
	// IPCP that does not exist is created, of Type.
	BootstrapReq struct {
		Name, Type string
		Draft      ipcp.Draft
		Autobind   bool // bind it to its own name and to the layer's
	}

	// EnrollReq makes the IPCP called Name a member of a layer that exists. An
	// IPCP that does not exist is created. It is of Type or, if that is "",
	// of the first type that can enroll.
	EnrollReq struct {
		Name, Type string
		Enrollment ipcp.Enrollment
		Autobind   bool // bind it to its own name and to the layer's
	}

	// ConnectReq connects the IPCP called Name to another member of its
	// layer, or disconnects it. Without a Component it is about all of them.
	ConnectReq struct {
		Name       string
		Connection ipcp.Connection
	}

	// Page asks for the part of a sorted list that follows After; "" is the
	// start.
	Page struct{ After string }

	// BindReq ties a process to a name; an empty Name, to unbind, means all.
	BindReq struct {
		PID  int
		Name string
	}

	// NameReq names a name. Policy is "", round-robin or spillover.
	NameReq struct{ Name, Policy string }

	// RegisterReq names a name, and the layers and IPCPs to register it
	// with; each may hold the wildcard *.
	RegisterReq struct {
		Name   string
		Layers []string
		IPCPs  []string
	}

	// AnnounceReq says which program the process runs: the path by which it
	// was invoked, and the applet where the first argument chose one.
	AnnounceReq struct{ Path, Applet string }

	// AllocReq asks for a flow to Name. A Timeout of 0 is core.AllocTimeout.
	AllocReq struct {
		Name    string
		QoS     core.QoS
		Timeout time.Duration
	}

	// Flow is one end of a flow: its memory has a ring of Ring bytes in each
	// direction, of which Side, 0 or 1, says which this end writes.
	Flow struct {
		ID   core.FlowID
		Side int
		Ring int
		QoS  core.QoS

		// Path is what the way to the other end carries, where that is on
		// another system; else zero. Ours says that system is an o7s one.
		Path ipcp.Path
		Ours bool

		// Cipher encrypts the packets, under the key that a third descriptor
		// brings: see KeyFile. 0 is none. CN is the common name that the other
		// end has proved to have.
		Cipher crypt.Cipher
		CN     string
	}

	// ListenReq accepts for Name, or for the names bound to the process
	// where it is "". ID is the process's own number for the listener.
	// Credit is how many flows may arrive before the next Accept. The name
	// is registered in Layers first.
	ListenReq struct {
		ID     uint32
		Name   string
		Credit int
		Layers []string
	}

	// Listener is a listener of the process that asks.
	Listener struct{ ID uint32 }

	// AcceptReq lets Credit more flows arrive.
	AcceptReq struct {
		Listener uint32
		Credit   int
	}

	// Credit is how many more flows may arrive at a listener.
	Credit struct{ N int }

	// FlowRef names a flow of the process that asks.
	FlowRef struct{ ID core.FlowID }

	// ArrivedMsg is a flow for a listener, and the name it was asked under.
	ArrivedMsg struct {
		Listener uint32
		Name     string
		Flow     Flow
	}

	// DownMsg says why a flow ends.
	DownMsg struct {
		ID   core.FlowID
		Code core.Errno
	}
)
