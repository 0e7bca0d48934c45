// Package carry is what all layers across machines share:
//   - requests that wait for an answer, and endpoint ids
//   - the order of the calls about one flow
//   - the way of packets between the memory of flows and the wire
//   - keepalives, and the time-out of silent peers
//   - flows within one system
//
// A layer type adds the form of its messages, a directory and a wire: see Out.
//
// Two goroutines serve all flows. One takes packets that processes wrote to the wire.
// The other is the type's own reader: it calls Requested, Replied, Deliver and Left.
//
// A decision about a flow is made under Flows.mu. What follows from it (calls of
// the Host, of Out, of a Flow, and answers) is queued as it is decided and carried
// out in that order, outside the lock: see Flows.unlock. So the Host hears nothing
// of an id after it was told that the id is free.
//
// The order of locks is life.mu, Flows.mu, then the locks of a Set. The way of a packet
// takes no lock of this package.
package carry

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/core/logs"
)

// Out is what a layer type does on its wire. P is the type of an address: where the
// other end of a flow is. Endpoint ids are as the type has them on the wire: eid is the
// id of this end, remote that of the other. Several goroutines call the methods at once.
// A method keeps no argument after it returns.
type Out[P comparable] interface {
	// Find returns where dst is, as far as the directory knows now. It does not wait.
	// If the directory does not know, the error is core.ErrName.
	Find(dst core.Hash) (P, error)
	// Request asks the system at to for a flow to dst.
	Request(to P, eid uint64, dst core.Hash, qos core.QoS, data []byte) error
	// Reply answers a request of to. code is 0 where the flow is accepted;
	// else eid has no meaning.
	Reply(to P, remote, eid uint64, code core.Errno, data []byte)
	// Bye says that the flow has ended. It is for o7s systems alone.
	Bye(to P, remote uint64)
	// Carry sends packets, each of 1 to Path.Max bytes, and returns how many
	// it took. Fewer than all says that the wire is full: the others come again
	// after Resume. The packets are in shared memory, and may change during the call.
	Carry(to P, remote, eid uint64, packets [][]byte) (taken int)
	// Alive sends a packet of no bytes.
	Alive(to P, remote, eid uint64)
}

// Config describes a layer type to New.
type Config[P comparable] struct {
	IDs IDs
	// Path returns what is known of the way to p.
	Path func(p P) ipcp.Path
	// Text returns p as people read it.
	Text func(p P) string
	// Ours reports whether the data of a request or a reply shows that an o7s
	// system sent it.
	Ours func(data []byte) bool
	// Silent says that a request for a hash that is not registered here gets
	// no answer: another station may have it.
	Silent bool
	// Anonymous says that the wire does not tell where a packet, a reply or a Bye
	// comes from. Only the endpoint id says which flow it is for. The argument from
	// of Deliver, Replied and Left has no meaning.
	Anonymous bool
	// ReplyAfter is the least time between a request of a system that is not
	// ours and the answer.
	ReplyAfter time.Duration
}

// The bounds on what comes from outside.
const (
	// maxPending bounds the requests that no process has answered yet: see
	// waiting.
	maxPending = 1024
	// answerTime is how long a process may take to answer a request. The C
	// prototype waits 20 s for it.
	answerTime = 18 * time.Second
	// repeatTime is how long a request that was answered is kept. If it comes again
	// it gets the same answer, and makes no second flow.
	repeatTime = 20 * time.Second
	// maxPast bounds the requests that are over and remembered for repeatTime.
	maxPast = 4096
	// maxEarly and maxEarlyBytes bound the packets that are kept because they
	// came before their flow was up: of one flow, and bytes of all flows.
	maxEarly      = 64
	maxEarlyBytes = 1 << 20
	// drainTime bounds how long packets that a process wrote before it closed the
	// flow are still sent.
	drainTime = time.Second
	// byeAgain is how long after a Bye it is sent once more.
	byeAgain = 100 * time.Millisecond
)

// Flows is the flows of one IPCP. It implements the flow calls of ipcp.Ops, and
// the directory of the names that are registered here. It is safe for concurrent
// use.
type Flows[P comparable] struct {
	host  ipcp.Host
	clock clock.Clock
	log   *logs.Logger
	cfg   Config[P]
	out   Out[P]
	loop  ipcp.Ops // the flows within this system

	life  life
	set   ipcp.Set
	wg    sync.WaitGroup // of pump
	slots slots[P]

	maxWaiting int // bounds waiting

	// Only the reader uses these.
	tick  int64      // the time of this batch; 0: not known yet
	dirty []*flow[P] // with packets that Flush has to publish

	mu      sync.Mutex // guards the fields below and the flows' own
	own     map[core.Hash]bool
	byID    map[core.FlowID]*flow[P]
	asked   map[request[P]]*flow[P] // that came from outside
	waiting waiting[P]              // of these, those that no process has answered
	past    []past[P]               // of asked, those that are over, the longest ago first
	lines   logs.Limiter            // about requests from outside
	early   int                     // bytes of packets that came before their flows were up
	sweeper clock.Timer
	greeter Greeter[P]  // nil: the wire tells nothing
	peers   map[P]*peer // the o7s systems that flows go to
	stopped bool
	todo    []func()   // what follows from the decisions so far
	gone    []*flow[P] // flows that are over; they leave byID when todo is done
	working bool       // a goroutine does todo
	idle    sync.Cond

	count Counters
}

// request names a request that came from outside.
type request[P comparable] struct {
	from   P
	remote uint64
}

// past is a request that came from outside and whose flow is over.
type past[P comparable] struct {
	fl    *flow[P]
	until time.Time // when it is forgotten
}

// Counters count what passed and what was dropped. All are packets but
// Requests.
type Counters struct {
	Sent, Received atomic.Uint64
	Full           atomic.Uint64 // the process did not read
	Stray          atomic.Uint64 // for no flow, or not from its other end
	TooLarge       atomic.Uint64 // for the path
	Requests       atomic.Uint64 // refused for want of room
}

// state is where a flow is in its life.
//
//	asking -------\                      /--> draining --\
//	               > attaching --> up --+                 > over
//	announcing -> arrived --/            \--> ended -----/
//
// From each of them a flow may be over at once.
type state uint8

const (
	asking     state = iota // the other end has not answered
	announcing              // the host has not given an id yet
	arrived                 // no process has answered yet
	attaching               // accepted; the memory is on its way
	up
	draining // the process has left; what it wrote is still carried
	ended    // the other end has gone; the process still holds its end
	over
)

// flow is one end of a flow.
type flow[P comparable] struct {
	eid  uint64
	peer P
	qos  core.QoS

	mem    ipcp.Flow // set before up
	remote uint64    // set before up
	live   atomic.Bool
	sent   atomic.Int64 // ns of the clock, when something was last sent
	heard  atomic.Int64 // and received
	called atomic.Bool  // a keepalive came since the last sweep

	isDirty bool // the reader's

	resumes atomic.Uint64 // calls of Resume

	full, tooLarge atomic.Uint64 // as the Counters, of this flow

	// Guarded by Flows.mu.
	state   state
	id      core.FlowID
	hasID   bool
	dst     core.Hash
	server  bool   // the request came from outside
	ours    bool   // the other system is an o7s one
	system  string // that the request came from: Arrival.System
	since   time.Time
	oapID   string        // of the request that came
	reply   []byte        // that accepted it
	refusal core.Errno    // once it is over: what the request is answered when it comes again
	early   []earlyPacket // that came before it was up
	hungUp  bool          // and then its end
	silent  bool          // the process writes no more
	parked  bool          // waits for Resume
	calls   int64         // ns of the clock, when a keepalive was last sent
	tell    bool          // Bye is due
	leave   func(error)   // the done of FlowDealloc
	drain   clock.Timer   // bounds draining
}

// New returns the flows of an IPCP that is in no layer yet.
func New[P comparable](env ipcp.Env, cfg Config[P], out Out[P]) *Flows[P] {
	f := &Flows[P]{
		host: env.Host, clock: env.Clock, log: env.Log, cfg: cfg, out: out,
		loop:  local.Type.New(env),
		life:  life{up: make(chan struct{})},
		own:   make(map[core.Hash]bool),
		byID:  make(map[core.FlowID]*flow[P]),
		asked: make(map[request[P]]*flow[P]),
		peers: make(map[P]*peer),
	}
	f.greeter, _ = out.(Greeter[P])
	f.idle.L = &f.mu
	f.slots.init(cfg.IDs)
	// Requests that nobody answers leave ids for the flows of others.
	f.maxWaiting = int(min(maxPending, cfg.IDs.n()/2))
	return f
}

// start begins to carry.
func (f *Flows[P]) start() error {
	set, err := f.host.NewSet()
	if err != nil {
		return err
	}
	f.set = set
	f.wg.Go(f.pump)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweeper = f.clock.AfterFunc(sweepMax, f.sweep)
	return nil
}

// stop ends all flows, as the death of the IPCP does, and waits until no packet is
// carried any more. The wire must still be open, since other o7s systems are told.
func (f *Flows[P]) stop() {
	f.mu.Lock()
	f.stopped = true
	f.sweeper.Stop()
	all := f.slots.all()
	for _, fl := range all {
		was, leave := fl.state, fl.leave
		f.forgetLocked(fl, core.ErrNotAllocated)
		if (was == up || was == draining) && fl.ours {
			f.then(func() { f.out.Bye(fl.peer, fl.remote) })
		}
		if leave != nil && was != attaching { // else Attach answers
			f.then(func() { leave(errStopped) })
		}
	}
	f.unlock()
	f.mu.Lock()
	for f.working {
		f.idle.Wait()
	}
	f.mu.Unlock()
	f.set.Close()
	f.wg.Wait() // so that no packet is taken from a flow that is aborted below
	for _, fl := range all {
		if fl.mem != nil {
			fl.mem.Abort()
		}
	}
}

var errStopped = fmt.Errorf("%w: the IPCP ends", core.ErrState)

// then queues do, which follows from a decision; f.mu is held.
func (f *Flows[P]) then(do func()) { f.todo = append(f.todo, do) }

// unlock unlocks f.mu and does what follows from the decisions that were made under it.
// If another goroutine does so at the moment, that one does these too.
func (f *Flows[P]) unlock() {
	if f.working {
		f.mu.Unlock()
		return
	}
	f.working = true
	for len(f.todo)+len(f.gone) > 0 {
		todo, gone := f.todo, f.gone
		f.todo, f.gone = nil, nil
		f.mu.Unlock()
		for _, do := range todo {
			do()
		}
		f.mu.Lock()
		for _, fl := range gone {
			if f.byID[fl.id] == fl {
				delete(f.byID, fl.id)
			}
		}
	}
	f.working = false
	f.idle.Broadcast()
	f.mu.Unlock()
}

// Register makes h a name of this system. Unregister takes it back. Both are
// idempotent.
func (f *Flows[P]) Register(ctx context.Context, h core.Hash) error {
	f.mu.Lock()
	f.own[h] = true
	f.mu.Unlock()
	return f.loop.Register(ctx, h)
}

// Unregister takes back what Register did.
func (f *Flows[P]) Unregister(ctx context.Context, h core.Hash) error {
	f.mu.Lock()
	delete(f.own, h)
	f.mu.Unlock()
	return f.loop.Unregister(ctx, h)
}

// Registered reports whether h is a name of this system.
func (f *Flows[P]) Registered(h core.Hash) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.own[h]
}

// Names returns how many names are registered here.
func (f *Flows[P]) Names() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.own)
}

// Count returns the counters.
func (f *Flows[P]) Count() *Counters { return &f.count }

func (f *Flows[P]) now() int64 { return f.clock.Now().UnixNano() }
