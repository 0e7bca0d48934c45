package carry

import (
	"bytes"
	"errors"
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
)

// FlowAlloc implements ipcp.Ops.
func (f *Flows[P]) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	if req.Again {
		f.again(req, done)
		return
	}
	if f.Registered(req.Dst) {
		f.loop.FlowAlloc(req, done)
		return
	}
	to, err := f.out.Find(req.Dst)
	f.mu.Lock()
	defer f.unlock()
	old := f.byID[req.Flow]
	switch {
	case err != nil:
	case f.stopped:
		err = errStopped
	case old != nil && old.state != over:
		err = fmt.Errorf("%w: flow %d is in use", core.ErrState, req.Flow)
	}
	fl := &flow[P]{state: asking, id: req.Flow, hasID: true, dst: req.Dst, peer: to, qos: req.QoS, since: f.clock.Now()}
	if err == nil {
		err = f.slots.add(fl)
	}
	if err != nil {
		f.then(func() { done(err) })
		return
	}
	f.byID[req.Flow] = fl
	f.then(func() { f.request(fl, to, req.Data, done) })
}

// request sends the request of fl.
func (f *Flows[P]) request(fl *flow[P], to P, data []byte, done func(error)) {
	f.log.Debugf("Requesting flow to %v from %s, endpoint id %d.", fl.dst, f.cfg.Text(to), fl.eid)
	err := f.out.Request(to, fl.eid, fl.dst, wire(fl.qos), data)
	if err != nil {
		f.mu.Lock()
		if fl.state == asking {
			f.forgetLocked(fl, 0)
		}
		f.mu.Unlock()
	}
	done(err)
}

// again sends a request once more, unless it is answered. The IRMd decides when,
// because the data of a request must be new each time and only the IRMd can make it.
func (f *Flows[P]) again(req ipcp.AllocRequest, done func(error)) {
	f.mu.Lock()
	defer f.unlock()
	if fl := f.byID[req.Flow]; fl != nil && fl.state == asking {
		f.then(func() { f.requestAgain(fl, req.Data) })
	}
	f.then(func() { done(nil) })
}

// requestAgain sends a request once more, to where its name is now.
func (f *Flows[P]) requestAgain(fl *flow[P], data []byte) {
	to, err := f.out.Find(fl.dst)
	f.mu.Lock()
	if err == nil && fl.state == asking {
		fl.peer = to // the name may have moved
	}
	to = fl.peer
	f.mu.Unlock()
	if r, ok := f.out.(Refresher); ok {
		r.Refresh(fl.dst)
	}
	_ = f.out.Request(to, fl.eid, fl.dst, wire(fl.qos), data) // an error is like a request that is lost
}

// wire returns q as it is sent to the other end. The C prototype never checks the bits
// of packets that are in order, so no request may ask for that.
func wire(q core.QoS) core.QoS {
	if q.InOrder {
		q.BER = 1
	}
	return q
}

// unwire returns q, which another system has asked for, as programs know it: the
// reverse of wire.
func unwire(q core.QoS) core.QoS {
	if q.InOrder {
		q.BER = 0
	}
	return q
}

// Refresher is an Out whose directory can look for a name again. It does so when no
// answer came from the place where it found the name.
type Refresher interface{ Refresh(dst core.Hash) }

// Replied is called by the reader: from has answered the request of eid. code is 0 if
// it accepts, and then remote is the other end's id.
func (f *Flows[P]) Replied(from P, eid, remote uint64, code core.Errno, data []byte) {
	fl := f.slots.find(eid)
	f.mu.Lock()
	defer f.unlock()
	if fl != nil {
		from = f.sender(fl, from)
	}
	if fl == nil || fl.state != asking || fl.peer != from {
		f.count.Stray.Add(1)
		// The reply came too late, or once more. If it accepts, the other end has a
		// flow that this end has not.
		if fl == nil && code == 0 && !f.cfg.Anonymous && f.cfg.Ours(data) {
			f.then(func() { f.out.Bye(from, remote) })
		}
		return
	}
	reply := ipcp.AllocReply{Flow: fl.id, Code: code, Data: bytes.Clone(data), From: f.cfg.Text(from)}
	if code == 0 && len(data) > ipcp.MaxData {
		reply.Code = core.ErrMessage
	}
	if reply.Code != 0 {
		if code == 0 {
			reply.Data = nil
		}
		f.forgetLocked(fl, 0)
		f.then(func() {
			f.log.Debugf("Flow to %v was refused by %s: %v.", fl.dst, reply.From, reply.Code)
			f.host.FlowAllocReply(reply, func(error) {})
		})
		return
	}
	fl.state, fl.remote, fl.ours = attaching, remote, f.cfg.Ours(data)
	f.then(func() {
		reply.Path = f.cfg.Path(from)
		f.host.Attach(fl.id, func(mem ipcp.Flow, err error) { f.clientAttached(fl, mem, err, reply) })
	})
}

// clientAttached takes the memory of a flow that the other end has accepted.
func (f *Flows[P]) clientAttached(fl *flow[P], mem ipcp.Flow, err error, reply ipcp.AllocReply) {
	f.mu.Lock()
	defer f.unlock()
	left := fl.leave != nil
	if f.attachedLocked(fl, mem, err) {
		f.then(func() {
			f.log.Debugf("Flow to %v at %s is allocated, endpoint ids %d and %d.", fl.dst, reply.From, fl.eid, fl.remote)
			// If the process does not wait any more, FlowDealloc will follow.
			f.host.FlowAllocReply(reply, func(error) {})
		})
		return
	}
	if fl.ours {
		f.then(func() { f.out.Bye(fl.peer, fl.remote) })
	}
	if err != nil && !left {
		f.then(func() {
			f.host.FlowAllocReply(ipcp.AllocReply{Flow: fl.id, Code: core.ErrNotAllocated, From: reply.From}, func(error) {})
		})
	}
}

// attachedLocked makes fl carry packets, now that its memory is there. It returns false
// if there is no memory, or if the process or the IPCP has gone meanwhile. Then fl is
// over.
func (f *Flows[P]) attachedLocked(fl *flow[P], mem ipcp.Flow, err error) bool {
	leave := fl.leave
	if err == nil && fl.state == attaching && leave == nil {
		fl.mem = mem
		now := f.now()
		fl.sent.Store(now)
		fl.heard.Store(now)
		fl.state = up
		if fl.ours && f.greeter != nil && len(f.peers) == 0 {
			f.sweeper.Reset(0) // greet the other system soon
		}
		f.then(func() { f.begin(fl) })
		return true
	}
	if err == nil {
		end := mem.Close
		if f.stopped {
			end = mem.Abort
		}
		f.then(func() { _ = end() })
	}
	if fl.state == attaching {
		f.forgetLocked(fl, core.ErrNotAllocated)
	}
	switch {
	case leave == nil:
	case f.stopped:
		f.then(func() { leave(errStopped) })
	default:
		f.then(func() { f.host.FlowDealloc(fl.id, leave) })
	}
	return false
}

// begin gives the process the packets that came before its flow was up, and starts to
// watch for those that it writes.
func (f *Flows[P]) begin(fl *flow[P]) {
	for early := f.takeEarly(fl); len(early) > 0; early = f.takeEarly(fl) {
		for _, p := range early {
			if p.remote == 0 || p.remote == fl.remote {
				f.put(fl, p.bytes)
			}
		}
		fl.mem.Publish()
	}
	if err := f.set.Add(fl.mem, fl); err != nil && !errors.Is(err, core.ErrClosed) {
		f.log.Warnf("Failed to watch a flow: %v.", err)
	}
	f.mu.Lock()
	defer f.unlock()
	if fl.hungUp && (fl.state == up || fl.state == draining) {
		f.leftLocked(fl)
	}
}

// takeEarly returns the packets that came before fl was up. If there are none, Deliver
// gives packets to the process itself from now on.
func (f *Flows[P]) takeEarly(fl *flow[P]) []earlyPacket {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(fl.early) == 0 {
		fl.live.Store(fl.state == up || fl.state == draining)
	}
	return f.dropEarlyLocked(fl)
}

// dropEarlyLocked takes the early packets from fl.
func (f *Flows[P]) dropEarlyLocked(fl *flow[P]) []earlyPacket {
	early := fl.early
	fl.early = nil
	for _, p := range early {
		f.early -= len(p.bytes)
	}
	return early
}

// forgetLocked takes fl out of the tables. A request from outside is kept for a while.
// If it comes again, the answer is code.
func (f *Flows[P]) forgetLocked(fl *flow[P], code core.Errno) {
	if fl.state == over {
		return
	}
	if fl.waits() {
		f.waiting.remove(fl)
	}
	fl.state = over
	fl.live.Store(false)
	f.dropEarlyLocked(fl)
	if fl.drain != nil {
		fl.drain.Stop()
	}
	f.slots.remove(fl)
	if fl.hasID {
		f.gone = append(f.gone, fl)
	}
	if f.asked[request[P]{fl.peer, fl.remote}] == fl {
		fl.refusal, fl.reply = code, nil
		f.past = append(f.past, past[P]{fl, f.clock.Now().Add(repeatTime)})
		if len(f.past) > maxPast {
			f.forgetPastLocked()
		}
	}
}

// forgetPastLocked forgets the oldest of the requests that are over.
func (f *Flows[P]) forgetPastLocked() {
	fl := f.past[0].fl
	f.past[0].fl = nil
	f.past = f.past[1:]
	if r := (request[P]{fl.peer, fl.remote}); f.asked[r] == fl {
		delete(f.asked, r)
	}
}
