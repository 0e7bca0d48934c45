package unicast

import (
	"sync"
	"sync/atomic"
	"time"

	"o7s/core/clock"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/fa"
	"o7s/core/ipcp/unicast/mbecn"
)

// congestion holds the congestion on the way of each flow.
type congestion struct {
	marked atomic.Int64 // flows whose receiver's level is not 0

	mu    sync.Mutex // guards the fields below
	flows map[uint64]*flowCongestion
	timer clock.Timer
	ended bool
}

// flowCongestion is the congestion on the way of one flow. Its lock comes after
// congestion.mu.
type flowCongestion struct {
	mu  sync.Mutex
	in  mbecn.Receiver
	out mbecn.Sender
}

// congestionSweep is how often flows that are over are removed.
const congestionSweep = 10 * time.Second

func (c *congestion) init() { c.flows = make(map[uint64]*flowCongestion) }

func (c *congestion) start(l *layer) {
	c.timer = l.env.Clock.AfterFunc(congestionSweep, func() { c.sweep(l) })
}

func (c *congestion) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.timer.Stop()
}

func (c *congestion) sweep(l *layer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	for eid, fl := range c.flows {
		if _, _, ok := l.Other(eid); !ok {
			fl.mu.Lock()
			if !fl.in.Quiet() {
				c.marked.Add(-1)
			}
			fl.mu.Unlock()
			delete(c.flows, eid)
		}
	}
	c.timer.Reset(congestionSweep)
}

// flow returns the congestion of the flow of eid, which is up.
func (c *congestion) flow(eid uint64) *flowCongestion {
	c.mu.Lock()
	defer c.mu.Unlock()
	fl := c.flows[eid]
	if fl == nil {
		fl = &flowCongestion{}
		c.flows[eid] = fl
	}
	return fl
}

// update takes the level of congestion that the receiver of the flow of eid tells.
func (c *congestion) update(eid uint64, ece uint16) {
	c.mu.Lock()
	fl := c.flows[eid]
	c.mu.Unlock()
	if fl == nil {
		return // the flow has sent nothing
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.out.Update(ece)
}

// received takes the mark of a packet for the flow of eid. It tells the sender of the
// flow if the level of congestion calls for that.
func (c *congestion) received(l *layer, eid uint64, ecn uint8) {
	if !l.opt.ecn || ecn == 0 && c.marked.Load() == 0 {
		return
	}
	to, remote, ok := l.Other(eid)
	if !ok {
		return
	}
	fl := c.flow(eid)
	fl.mu.Lock()
	quiet := fl.in.Quiet()
	ece, tell := fl.in.Packet(ecn)
	switch {
	case quiet && !fl.in.Quiet():
		c.marked.Add(1)
	case !quiet && fl.in.Quiet():
		c.marked.Add(-1)
	}
	fl.mu.Unlock()
	if tell {
		m := &fa.Message{Code: fa.Update, Receiver: remote, ECE: ece}
		_ = l.send(to, dt.FlowAllocator, m.Append(nil)) // if it is lost, the next update has the level
	}
}
