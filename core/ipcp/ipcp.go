// Package ipcp says what an IPC process is: what a layer type implements
// (Type, Ops), what it is given (Host), and the lifecycle, call order and log
// lines around it (Process). It knows no layer type and no socket.
//
// A flow call answers through a function, once, which the caller of the call
// gives it: an allocation is a chain of calls through several processes, and
// none of them keeps a goroutine waiting. The administrator's calls are rare
// and simply block.
package ipcp

import (
	"context"
	"strings"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/ipcp/port"
	"o7s/core/logs"
	"o7s/core/view"
)

// Type is a layer type: local, unicast, udp4.
type Type struct {
	// Name is the word of the command line, and after "ipcpd-" the name of
	// the process and of its log component.
	Name string
	// Rank orders the layers of one system: a name that several know is
	// reached through the lowest.
	Rank int
	// Far says that the other end of a flow may be on another system.
	Far bool
	// Does is what its Ops can do beyond the calls that every Ops has.
	Does Ability
	// Hashes are the directory hashes that a layer may use, the default
	// first; nil is hash.SHA3.
	Hashes []hash.Algorithm
	// Options are what can be chosen when a layer is bootstrapped, beyond
	// its name and its hash, in the order in which help shows them.
	Options []Option
	// Check refuses settings that each are allowed and together are not.
	Check func(Settings) error
	// New makes an IPCP of this type, in no layer yet.
	New func(Env) Ops
}

// Find returns the one of types that word means: the one called so, else the
// first whose name begins with it.
func Find(types []Type, word string) (Type, bool) {
	for _, t := range types {
		if t.Name == word {
			return t, true
		}
	}
	for _, t := range types {
		if word != "" && strings.HasPrefix(t.Name, word) {
			return t, true
		}
	}
	return Type{}, false
}

// Env is what an IPCP is given for its whole life.
type Env struct {
	Name  string // of the IPCP
	Host  Host
	Ports port.Opener  // the sockets of this machine
	Clock clock.Clock  // for all timers
	Log   *logs.Logger // Ops writes as component ipcpd-TYPE
}

// Config describes a layer and the IPCP's place in it.
type Config struct {
	Layer    string
	Hash     hash.Algorithm // of the layer's directory
	Settings Settings
}

// Draft is a Config as people write it, before a Type has checked it.
type Draft struct {
	Layer    string
	Hash     string // "" is the type's default
	Settings []Setting
}

// MaxData is the most bytes of Data in a request or a reply. Both sides of each
// link check it.
const MaxData = 2000

// AllocRequest asks the layer for a flow from Flow, this system's end, to the
// process that the layer knows under Dst.
type AllocRequest struct {
	Flow core.FlowID
	Dst  core.Hash
	QoS  core.QoS
	Data []byte // for the IRMd of the other system; the layer does not look into it
	// Again repeats an earlier request for the same Flow, with fresh Data.
	Again bool
}

// AllocResponse is this system's answer to a request that arrived: Flow is
// the end that Host.FlowReqArr gave it, Code is 0 where a process accepts.
type AllocResponse struct {
	Flow core.FlowID
	Code core.Errno
	Data []byte // for the IRMd that asked
}

// DeallocRequest says that the process has given up the end Flow. Tell is set
// where the other system understands the layer's message that a flow has ended.
type DeallocRequest struct {
	Flow core.FlowID
	Tell bool
}

// Arrival is a request for a flow to Dst that came from another process.
type Arrival struct {
	Dst  core.Hash
	QoS  core.QoS
	Data []byte // AllocRequest.Data of the system that asks
	Path Path
	From string // where it comes from, for people: an address; "" on this system
}

// AllocReply is the answer to a FlowAlloc: Code is 0 where the other end has
// accepted.
type AllocReply struct {
	Flow core.FlowID
	Code core.Errno
	Data []byte // AllocResponse.Data of the system that answers
	Path Path
	From string // where the other end is, for people; "" on this system
}

// Path is what a layer knows of the way between the ends of a flow. It is zero
// where both ends are on one system.
type Path struct {
	// MPL bounds how long a packet may be under way.
	MPL time.Duration
	// Max is the largest packet in bytes. Best is the largest that needs no
	// fragments below.
	Max, Best int
}

// Control is what the IRMd asks of an IPCP. Process implements it over a
// layer type's Ops, a link to another process passes it on.
//
// The done of a flow call is called exactly once, with nil or the reason of
// failure, on any goroutine, possibly before the call returns; it must not
// block. The caller holds no lock that done takes.
//
// The error of a call that needs an ability which the type lacks is
// core.ErrNotSupported.
type Control interface {
	// Bootstrap makes the IPCP the first member of a layer. It returns the
	// Config in force, which may differ: some types have one hash only.
	Bootstrap(ctx context.Context, cfg Config) (Config, error)
	// Enroll makes the IPCP a member of a layer that exists, through one of
	// its members. It returns the Config in force, which is the layer's.
	// After an error the IPCP is in no layer still.
	Enroll(ctx context.Context, e Enrollment) (Config, error)
	// Connect connects one component of this member to another member's;
	// Disconnect ends that.
	Connect(ctx context.Context, c Connection) error
	Disconnect(ctx context.Context, c Connection) error
	// Register makes the layer's directory know h as reachable here;
	// Unregister takes it back. Both are idempotent.
	Register(ctx context.Context, h core.Hash) error
	Unregister(ctx context.Context, h core.Hash) error
	// Query returns nil if the layer knows h, else core.ErrName.
	Query(ctx context.Context, h core.Hash) error
	// FlowAlloc starts an allocation. It is done when the layer has taken
	// the request; the answer comes by Host.FlowAllocReply, now or seconds
	// later.
	FlowAlloc(req AllocRequest, done func(error))
	// FlowAllocResp answers a request that arrived. It may come as soon as
	// Host.FlowReqArr has given its answer.
	FlowAllocResp(resp AllocResponse, done func(error))
	// FlowDealloc says that the process has given up an end. The layer lets
	// go of it too, says so by Host.FlowDealloc, and is done.
	FlowDealloc(req DeallocRequest, done func(error))
	// Show returns what the IPCP tells people of its inside; nothing where
	// its type is no Shower.
	Show(ctx context.Context) ([]view.Fact, error)
}

// Ops is what a layer type implements. Process calls it only in the states
// that allow it: Bootstrap, or Enroll where there is one, once and first. Its
// calls are those of Control. What only some types can do is in Enroller,
// Connecter, Joiner and Shower.
type Ops interface {
	Bootstrap(ctx context.Context, cfg Config) (Config, error)
	Register(ctx context.Context, h core.Hash) error
	Unregister(ctx context.Context, h core.Hash) error
	Query(ctx context.Context, h core.Hash) error
	FlowAlloc(req AllocRequest, done func(error))
	FlowAllocResp(resp AllocResponse, done func(error))
	FlowDealloc(req DeallocRequest, done func(error))
	// Run does the layer's own work until ctx ends, and returns when none
	// of its goroutines is left.
	Run(ctx context.Context) error
}

// Host is what a layer type is given: its way to the IRMd and to the memory
// of the flows it provides. The functions passed to it are called exactly
// once and must not block; calls and answers keep their order.
type Host interface {
	// FlowReqArr announces a request for a flow. got gets the id of this
	// system's new end, or why there is none; a process's answer comes by
	// FlowAllocResp.
	FlowReqArr(a Arrival, got func(core.FlowID, error))
	// FlowAllocReply brings the answer to FlowAlloc.
	FlowAllocReply(r AllocReply, done func(error))
	// FlowDealloc says that the layer has let go of the end id, after
	// FlowDealloc of Control or because the flow ended in the layer.
	FlowDealloc(id core.FlowID, done func(error))
	// FlowEnd says that the flow of the end id has ended, and why: the
	// process learns it. The layer keeps the end until FlowDealloc of
	// Control.
	FlowEnd(id core.FlowID, code core.Errno)
	// Splice joins the two ends of a flow on this system: both processes
	// then share one memory, and the layer sees no packet. It comes before
	// FlowAllocReply.
	Splice(a, b core.FlowID) error
	// Attach gives the layer its own end of the memory of id, to carry the
	// packets itself. It comes before FlowAllocReply or the done of
	// FlowAllocResp; the layer must Close what it got.
	Attach(id core.FlowID, got func(Flow, error))
	// NewSet returns an empty Set for the flows that Attach gives.
	NewSet() (Set, error)
}
