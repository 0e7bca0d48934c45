// Package lossy is a layer type for tests only: a far type whose two ends are both
// on this system, so that a test needs one IRMd and no network. Of the packets
// that it carries in each direction some are lost and some come after the one that
// follows, always the same ones. Tools that count what is lost and late are tested
// with it.
package lossy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/carry"
	"o7s/core/oap"
	"o7s/core/view"
)

// Type describes the lossy layer.
var Type = ipcp.Type{Name: "lossy", Rank: 2, Far: true, Does: ipcp.Provides, New: newLayer}

// side says which end of a flow is meant: the one that asked, or the other.
type side int

const (
	client side = iota
	server
)

// layer implements ipcp.Ops. The names, and the server's end of each flow, are with
// ends[server]; the client's end is with ends[client], which has no names: so each
// request crosses the wire, which is the call of a method of the other one.
type layer struct{ ends [2]*end }

// end is one end of the wire. It implements carry.Out for its flows.
type end struct {
	*carry.Flows[side]
	side side
	peer *end

	mu   sync.Mutex            // guards sent, and the peer's Deliver and Flush
	sent map[uint64]*direction // by the endpoint id at the peer
}

// direction is what has become of the packets of one direction of a flow.
type direction struct {
	back uint64 // the endpoint id of the other direction
	n    int    // packets so far
	held []byte // comes after the next one; nil: none
}

var (
	_ ipcp.Shower     = (*layer)(nil)
	_ carry.Out[side] = (*end)(nil)
)

func newLayer(env ipcp.Env) ipcp.Ops {
	l := &layer{}
	for i := range l.ends {
		e := &end{side: side(i), sent: make(map[uint64]*direction)}
		e.Flows = carry.New(env, carry.Config[side]{
			IDs: carry.IDs31, Ours: oap.Ours,
			Path: func(side) ipcp.Path { return ipcp.Path{MPL: time.Second, Max: core.MaxPacket, Best: core.MaxPacket} },
			Text: func(s side) string { return [...]string{"the client's end", "the server's end"}[s] },
		}, e)
		l.ends[i] = e
	}
	l.ends[client].peer, l.ends[server].peer = l.ends[server], l.ends[client]
	return l
}

// Bootstrap implements ipcp.Ops.
func (l *layer) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	for _, e := range l.ends {
		if err := e.Begin(func() error { return nil }, func() {}); err != nil {
			return ipcp.Config{}, err
		}
	}
	return cfg, nil
}

// Run implements ipcp.Ops.
func (l *layer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, e := range l.ends {
		wg.Go(func() { e.Serve(ctx, func() {}, func() {}) })
	}
	wg.Wait()
	return nil
}

// Register implements ipcp.Ops.
func (l *layer) Register(ctx context.Context, h core.Hash) error {
	return l.ends[server].Register(ctx, h)
}

// Unregister implements ipcp.Ops.
func (l *layer) Unregister(ctx context.Context, h core.Hash) error {
	return l.ends[server].Unregister(ctx, h)
}

// Query implements ipcp.Ops.
func (l *layer) Query(_ context.Context, h core.Hash) error {
	_, err := l.ends[client].Find(h)
	return err
}

// FlowAlloc implements ipcp.Ops.
func (l *layer) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	l.ends[client].FlowAlloc(req, done)
}

// FlowAllocResp implements ipcp.Ops.
func (l *layer) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	l.either(done, func(e *end, done func(error)) { e.FlowAllocResp(resp, done) })
}

// FlowDealloc implements ipcp.Ops.
func (l *layer) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	l.either(done, func(e *end, done func(error)) { e.FlowDealloc(req, done) })
}

// either calls f for the end that has the flow.
func (l *layer) either(done func(error), f func(*end, func(error))) {
	e := l.ends[server]
	f(e, func(err error) {
		if errors.Is(err, core.ErrNotFound) {
			f(e.peer, done)
			return
		}
		done(err)
	})
}

// Show implements ipcp.Shower.
func (l *layer) Show() []view.Fact { return l.ends[server].Facts() }

// Find implements carry.Out.
func (e *end) Find(dst core.Hash) (side, error) {
	if !e.peer.Registered(dst) {
		return 0, fmt.Errorf("%w: %v is not registered in the layer", core.ErrName, dst)
	}
	return e.peer.side, nil
}

// Request implements carry.Out.
func (e *end) Request(_ side, eid uint64, dst core.Hash, qos core.QoS, data []byte) error {
	e.peer.Requested(e.side, eid, dst, qos, data)
	return nil
}

// Reply implements carry.Out.
func (e *end) Reply(_ side, remote, eid uint64, code core.Errno, data []byte) {
	if code == 0 {
		e.begin(remote, eid)
		e.peer.begin(eid, remote)
	}
	e.peer.Replied(e.side, remote, eid, code, data)
}

// begin begins the direction to the endpoint id remote, unless there is one.
func (e *end) begin(remote, eid uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sent[remote] == nil {
		e.sent[remote] = &direction{back: eid}
	}
}

// Bye implements carry.Out.
func (e *end) Bye(_ side, remote uint64) {
	if d := e.finish(remote); d != nil {
		e.peer.finish(d.back)
	}
	e.peer.Left(e.side, remote)
}

// finish ends the direction to the endpoint id remote.
func (e *end) finish(remote uint64) *direction {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.sent[remote]
	delete(e.sent, remote)
	return d
}

// Of each Every packets, counted from 0 in each direction of a flow, one is
// lost and one is late.
const (
	Every = 50
	Lost  = 20 // the number of the one that is lost
	Late  = 40 // the number of the one that comes after its successor
)

// Carry implements carry.Out. What is sent after a Bye is lost.
func (e *end) Carry(_ side, remote, eid uint64, packets [][]byte) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.sent[remote]
	if d == nil {
		return len(packets)
	}
	for _, p := range packets {
		d.pass(p, func(p []byte) { e.peer.Deliver(e.side, eid, remote, p) })
	}
	e.peer.Flush()
	return len(packets)
}

// pass calls deliver with what arrives once p is sent.
func (d *direction) pass(p []byte, deliver func([]byte)) {
	n := d.n % Every
	d.n++
	switch n {
	case Lost:
		return
	case Late:
		d.held = bytes.Clone(p)
		return
	}
	deliver(p)
	if d.held != nil {
		deliver(d.held)
		d.held = nil
	}
}

// Alive implements carry.Out.
func (e *end) Alive(_ side, remote, eid uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peer.Deliver(e.side, eid, remote, nil)
	e.peer.Flush()
}
