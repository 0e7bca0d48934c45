// Package ipcp says what an IPC process is: what a layer type implements
// (Type, Ops), what it is given (Host), and the lifecycle, call order and log
// lines around it (Process). It knows no layer type and no socket.
//
// The caller of a flow call passes a function, and the call answers through it,
// once. An allocation is a chain of such calls through several processes, and no
// goroutine waits in any of them. An administrator's calls are rare: they block.
package ipcp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
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
	// Name is the word for the type on the command line. The process of an
	// IPCP, and its log component, are called "ipcpd-" and Name.
	Name string
	// Rank orders the layers of one system. A name that several layers know
	// is reached through the layer of the lowest rank.
	Rank int
	// Far says that the other end of a flow may be on another system.
	Far bool
	// Does is what layers of the type can do.
	Does Ability
	// Hashes are the directory hashes that a layer may use, the default
	// first; nil is hash.SHA3.
	Hashes []hash.Algorithm
	// Options are what can be chosen when a layer is bootstrapped, beyond
	// its name and its hash, in the order in which help shows them.
	Options []Option
	// Check returns why settings are refused that are allowed one by one,
	// but not together. It may be nil.
	Check func(Settings) error
	// New makes an IPCP of this type. It is in no layer yet.
	New func(Env) Ops
}

// NotBuiltIn returns the end of a message about word, which means none of types. It
// says so where the C prototype has a type of that name, and only this executable lacks
// it. Else it is "".
func NotBuiltIn(types []Type, word string) string {
	all := []string{"local", "unicast", "broadcast", "eth-llc", "eth-dix", "udp4", "udp6"}
	if _, ok := Find(types, word); ok || !slices.Contains(all, word) {
		return ""
	}
	return fmt.Sprintf("; the word is right, but this executable has no layer type %s", word)
}

// Find returns the type that word means: the type of that name, or else the
// first type whose name begins with word.
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
	Net   Net          // the flows that it uses, as any process; nil: it can use none
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

// MaxData is the largest Data of a request or a reply, in bytes. Both ends of
// each link check it.
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

// AllocResponse is this system's answer to a request that arrived. Flow is the
// end that Host.FlowReqArr gave for it. Code is 0 if a process accepts.
type AllocResponse struct {
	Flow core.FlowID
	Code core.Errno
	Data []byte // for the IRMd that asked
}

// DeallocRequest says that the process has given up the end Flow. Tell is set
// if the other system understands the layer's message for the end of a flow.
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

// System returns which system a comes from: From, of an IP address without the port,
// and of an IPv6 address the first 64 bits alone, since one host may have all the others.
// One that forges addresses counts as many systems.
func (a *Arrival) System() string {
	ap, err := netip.ParseAddrPort(a.From)
	if err != nil {
		return a.From
	}
	addr := ap.Addr().Unmap()
	p, _ := addr.Prefix(min(addr.BitLen(), 64)) // no error for so many bits
	return p.String()
}

// AllocReply is the answer to a FlowAlloc. Code is 0 if the other end has
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

// Control is what the IRMd asks of an IPCP. Process implements it with a layer
// type's Ops. A link carries it to another process.
//
// A flow call calls its done exactly once, with nil or with why it failed. It
// may do so on any goroutine and before it returns. A done must not block, and
// the caller must hold no lock that done takes.
//
// A call that the layer type can't do returns core.ErrNotSupported.
type Control interface {
	// Bootstrap makes the IPCP the first member of a layer. It returns the
	// Config in force, which may differ: some types have one hash only.
	Bootstrap(ctx context.Context, cfg Config) (Config, error)
	// Enroll makes the IPCP a member of a layer that exists, through one of
	// its members. It returns the Config in force, which is the layer's.
	// After an error the IPCP is still in no layer.
	Enroll(ctx context.Context, e Enrollment) (Config, error)
	// Connect connects one component of this member to another member's;
	// Disconnect ends that.
	Connect(ctx context.Context, c Connection) error
	Disconnect(ctx context.Context, c Connection) error
	// Register tells the layer's directory that h is reachable here;
	// Unregister removes it. Both are idempotent.
	Register(ctx context.Context, h core.Hash) error
	Unregister(ctx context.Context, h core.Hash) error
	// Query returns nil if the layer knows h, else core.ErrName.
	Query(ctx context.Context, h core.Hash) error
	// FlowAlloc starts an allocation. It is done when the layer has accepted
	// the request. The answer comes through Host.FlowAllocReply, at once or
	// seconds later.
	FlowAlloc(req AllocRequest, done func(error))
	// FlowAllocResp answers a request that arrived. The IRMd may call it as
	// soon as it has answered Host.FlowReqArr.
	FlowAllocResp(resp AllocResponse, done func(error))
	// FlowDealloc says that the process has given up an end. The layer
	// releases the end too, calls Host.FlowDealloc, and then done.
	FlowDealloc(req DeallocRequest, done func(error))
	// Show returns facts about the IPCP for people: see Shower. It returns
	// none if the type has none.
	Show(ctx context.Context) ([]view.Fact, error)
	// ShowFlow returns facts about the IPCP's end of a flow for people: see
	// FlowShower. It returns none if the type has none.
	ShowFlow(ctx context.Context, id core.FlowID) ([]view.Fact, error)
}

// Ops is what a layer type implements. Its calls are those of Control. Process
// makes them only in the states that allow them: Bootstrap, or Enroll of an
// Enroller, succeeds once and comes first. What only some types can do is in
// Enroller, Connecter, Joiner, Shower and FlowShower.
type Ops interface {
	Bootstrap(ctx context.Context, cfg Config) (Config, error)
	Register(ctx context.Context, h core.Hash) error
	Unregister(ctx context.Context, h core.Hash) error
	Query(ctx context.Context, h core.Hash) error
	FlowAlloc(req AllocRequest, done func(error))
	FlowAllocResp(resp AllocResponse, done func(error))
	FlowDealloc(req DeallocRequest, done func(error))
	// Run does the layer's own work until ctx ends. It returns when all its
	// goroutines have ended.
	Run(ctx context.Context) error
}

// Host gives a layer type access to the IRMd and to the memory of the flows that
// the layer provides. Host calls the functions that are passed to it exactly
// once; they must not block. Calls and answers keep their order.
type Host interface {
	// FlowReqArr announces a request for a flow. got receives the id of this
	// system's new end, or why there is none. A process's answer comes
	// through FlowAllocResp.
	FlowReqArr(a Arrival, got func(core.FlowID, error))
	// FlowAllocReply brings the answer to FlowAlloc.
	FlowAllocReply(r AllocReply, done func(error))
	// FlowDealloc says that the layer has released the end id: after
	// FlowDealloc of Control, or because the flow ended in the layer.
	FlowDealloc(id core.FlowID, done func(error))
	// FlowEnd says that the flow of the end id has ended, and why. The IRMd
	// tells the process. The layer keeps the end until FlowDealloc of
	// Control.
	FlowEnd(id core.FlowID, code core.Errno)
	// Splice joins the two ends of a flow on this system. Both processes
	// then share one memory, and the layer sees no packet. The layer calls
	// Splice before FlowAllocReply.
	Splice(a, b core.FlowID) error
	// Attach gives the layer its own end of the memory of id, so that the
	// layer carries the packets itself. The layer calls Attach before
	// FlowAllocReply or before the done of FlowAllocResp. It must Close what
	// it got.
	Attach(id core.FlowID, got func(Flow, error))
	// NewSet returns an empty Set for the flows that Attach gives.
	NewSet() (Set, error)
}
