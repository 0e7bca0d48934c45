package unicast

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/linkstate"
	"o7s/core/ipcp/unicast/mbecn"
)

// counters count packets that passed and that were dropped.
type counters struct {
	forwarded            atomic.Uint64
	bad                  atomic.Uint64 // malformed packets and messages
	noWay, ttl           atomic.Uint64
	full, large, control atomic.Uint64
}

// visitPackets is how many packets are taken of one flow at a time.
const visitPackets = 64

// read takes packets from the flows to other members, until the set is closed.
func (l *layer) read() {
	r := reader{l: l}
	batch := make([][]byte, visitPackets)
	for {
		v, err := l.set.Wait(context.Background())
		if err != nil {
			return
		}
		r.visit(v.(*adjacency), batch)
	}
}

// reader is the state of read.
type reader struct {
	l     *layer
	dirty []*adjacency // with packets that are not published
}

func (r *reader) visit(a *adjacency, batch [][]byte) {
	l := r.l
	a.resume(l)
	n, err := a.flow.Look(batch)
	if err != nil {
		l.ended(a, err)
		return
	}
	for _, p := range batch[:n] {
		if a.component == ipcp.Management {
			l.mu.Lock()
			if !l.closed {
				l.links.Receive(a.port, bytes.Clone(p))
			}
			l.mu.Unlock()
		} else {
			r.packet(p)
		}
	}
	a.flow.Drop(n)
	for i, to := range r.dirty {
		to.transit = false
		to.flow.Publish()
		r.dirty[i] = nil
	}
	r.dirty = r.dirty[:0]
	l.Flush()
}

// packet takes one packet of data transfer. It is in memory that the other member can
// change at any time.
func (r *reader) packet(p []byte) {
	l := r.l
	h, err := dt.Parse(p)
	if err != nil || h.Cube >= cubes || h.TTL == 0 {
		l.count.bad.Add(1)
		return
	}
	body := p[dt.HeaderLen:]
	if uint64(h.Dst) != l.own {
		r.forward(h, body)
		return
	}
	switch {
	case h.EID >= dt.FirstFlow:
		l.cong.received(l, h.EID, h.ECN)
		l.Deliver(0, 0, h.EID, body)
	case h.EID == dt.FlowAllocator:
		l.allocator(bytes.Clone(body))
	case h.EID == dt.Directory:
		b := bytes.Clone(body)
		l.mu.Lock()
		if !l.closed {
			l.dir.Receive(b)
		}
		l.mu.Unlock()
	default:
		l.count.bad.Add(1)
	}
}

// forward sends a packet to the next member. It drops a packet that finds no room, so
// that a neighbour which does not read does not stop the others.
func (r *reader) forward(h dt.Header, body []byte) {
	l := r.l
	if h.TTL--; h.TTL == 0 {
		l.count.ttl.Add(1)
		return
	}
	hop := l.table.Load().Next(h.Dst)
	if hop == nil {
		l.count.noWay.Add(1)
		return
	}
	a := hop.Flow.(*adjacency)
	if !a.transit {
		a.transit = true
		a.excess, a.put = a.look(l, a.put), 0
		r.dirty = append(r.dirty, a)
	}
	h.ECN = mbecn.Mark(h.ECN, a.excess, a.best)
	switch l.put(a, h, body) {
	case sent:
		a.put += dt.HeaderLen + len(body)
		l.count.forwarded.Add(1)
	case noRoom:
		a.lost()
	}
}

type outcome uint8

const (
	sent outcome = iota
	noRoom
	lost
)

// put writes a packet to the flow of a, and does not publish it.
func (l *layer) put(a *adjacency, h dt.Header, body []byte) outcome {
	if dt.HeaderLen+len(body) > a.hop.Max {
		l.count.large.Add(1)
		return lost
	}
	var head [dt.HeaderLen]byte
	h.Put(&head)
	ok, err := a.flow.Put(head[:], body)
	switch {
	case err != nil:
		l.count.noWay.Add(1)
		a.hop.SetDown() // read finds out why
		return lost
	case !ok:
		l.count.full.Add(1)
		return noRoom
	}
	return sent
}

// send sends a message of a component, or a packet of no bytes.
func (l *layer) send(to uint64, eid uint64, body []byte) error {
	hop := l.table.Load().Next(uint32(to))
	if hop == nil {
		l.count.control.Add(1)
		return fmt.Errorf("%w: member %s: %w", core.ErrIPCP, addrText(to), errNoWay)
	}
	a := hop.Flow.(*adjacency)
	if l.put(a, dt.Header{Dst: uint32(to), TTL: l.opt.ttl, EID: eid}, body) != sent {
		l.count.control.Add(1)
		return fmt.Errorf("%w: the flow to the next member takes nothing now", core.ErrLimit)
	}
	a.flow.Publish()
	return nil
}

// Carry implements carry.Out. A flow has to wait if its way has no room, or if it has
// sent enough for now.
func (l *layer) Carry(to uint64, remote, eid uint64, packets [][]byte) (taken int) {
	table := *l.table.Load()
	var fl *flowCongestion // nil: nothing bounds the flow
	var now int64
	if l.opt.ecn {
		now = l.env.Clock.Now().UnixNano()
		fl = l.cong.flow(eid)
		fl.mu.Lock()
		defer fl.mu.Unlock()
	}
	for _, p := range packets {
		if fl != nil {
			if wait := fl.out.Allow(now); wait > 0 {
				l.env.Clock.AfterFunc(wait, func() { l.Resume(eid) })
				break
			}
		}
		hop := table.Next(uint32(to))
		if hop == nil {
			l.count.noWay.Add(1)
			taken++
			continue
		}
		a := hop.Flow.(*adjacency)
		h := dt.Header{Dst: uint32(to), TTL: l.opt.ttl, EID: remote}
		if !a.own {
			a.own = true
			l.carry.dirty = append(l.carry.dirty, a)
			a.ownExcess, a.ownPut = a.look(l, a.ownPut), 0
		}
		h.ECN = mbecn.Mark(0, a.ownExcess, a.best)
		what := l.put(a, h, p)
		if what == noRoom {
			l.count.full.Add(^uint64(0)) // not dropped: it is carried later
			a.await(l, eid, dt.HeaderLen+len(p))
			break
		}
		a.ownPut += dt.HeaderLen + len(p)
		if fl != nil {
			fl.out.Sent(len(p))
		}
		taken++
	}
	for i, a := range l.carry.dirty {
		a.own = false
		a.flow.Publish()
		l.carry.dirty[i] = nil
	}
	l.carry.dirty = l.carry.dirty[:0]
	return taken
}

// adjacency is a flow to another member. It is an ipcp.Lower, so that a dt.Hop
// leads to it.
type adjacency struct {
	ipcp.Lower
	flow      ipcp.Lower // the same
	hop       *dt.Hop
	port      linkstate.Port
	addr      uint64 // of the other member
	name      string // that was dialled; "": it came from there
	component string
	best      int // bytes of a packet that the flow carries well

	// Only read uses these.
	transit bool // it holds packets that are not published
	excess  int  // bytes that waited too long before these packets
	put     int  // bytes of these packets

	// The same for packets of this member's own flows. Only the pump uses them.
	own       bool
	ownExcess int
	ownPut    int

	waits   atomic.Bool
	mu      sync.Mutex
	queue   mbecn.Queue
	waiting map[uint64]bool // endpoint ids of flows that wait for room
	behind  bool            // updates were lost for want of room
}

// look returns how many bytes wait on a for too long. put bytes were written to a since
// the same goroutine called look.
func (a *adjacency) look(l *layer, put int) int {
	if !l.opt.ecn {
		return 0
	}
	unread, now := a.flow.Unread(), l.env.Clock.Now().UnixNano()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queue.Excess(now, unread, put)
}

// lost says that a packet found no room.
func (a *adjacency) lost() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue.Lost()
}

// await makes the flow of eid resume when a packet of n bytes fits.
func (a *adjacency) await(l *layer, eid uint64, n int) {
	a.mu.Lock()
	if a.waiting == nil {
		a.waiting = make(map[uint64]bool)
	}
	a.waiting[eid] = true
	a.waits.Store(true)
	a.mu.Unlock()
	a.flow.Publish() // else the other member would not read, and so make no room
	l.set.Room(a.flow, n)
}

// resume continues the flows, and the updates, that wait for room on a.
func (a *adjacency) resume(l *layer) {
	if !a.waits.Load() {
		return
	}
	a.mu.Lock()
	waiting, behind := a.waiting, a.behind
	a.waiting, a.behind = nil, false
	a.waits.Store(false)
	a.mu.Unlock()
	for eid := range waiting {
		l.Resume(eid)
	}
	if behind {
		l.mu.Lock()
		if !l.closed {
			l.links.Resync(a.port)
		}
		l.mu.Unlock()
	}
}

// Send implements linkstate.Out; l.mu is held.
func (l *layer) Send(to linkstate.Port, update []byte) bool {
	a := l.ports[to]
	if a == nil {
		return true
	}
	ok, err := a.flow.Put(nil, update)
	if err != nil {
		return true // the flow has ended, and read removes it
	}
	if !ok {
		a.mu.Lock()
		a.behind = true
		a.waits.Store(true)
		a.mu.Unlock()
		l.set.Room(a.flow, linkstate.Len)
		return false
	}
	a.flow.Publish()
	return true
}
