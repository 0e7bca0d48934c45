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

// again sends a request once more, unless it is answered. The IRMd asks for that,
// and not this package: only the IRMd can make the data of a request, which has
// to be new each time.
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
		fl.peer = to // it may have moved
	}
	to = fl.peer
	f.mu.Unlock()
	if r, ok := f.out.(Refresher); ok {
		r.Refresh(fl.dst)
	}
	_ = f.out.Request(to, fl.eid, fl.dst, wire(fl.qos), data) // an error: as if it were lost on the way
}

// wire returns q as the other end is to see it. The C prototype checks no bits of a
// flow whose packets are in order, so nobody may say that it does.
func wire(q core.QoS) core.QoS {
	if q.InOrder {
		q.BER = 1
	}
	return q
}

// unwire returns what another system has asked for. Programs know such a QoS
// without that.
func unwire(q core.QoS) core.QoS {
	if q.InOrder {
		q.BER = 0
	}
	return q
}

// Refresher is an Out whose directory asks anew where a name is when nothing has
// answered there.
type Refresher interface{ Refresh(dst core.Hash) }

// Replied is the reader's word that from has answered the request of eid: code
// is 0 where it accepts, and remote is the other end's id then.
func (f *Flows[P]) Replied(from P, eid, remote uint64, code core.Errno, data []byte) {
	fl := f.slots.find(eid)
	f.mu.Lock()
	defer f.unlock()
	if fl != nil {
		from = f.sender(fl, from)
	}
	if fl == nil || fl.state != asking || fl.peer != from {
		f.count.Stray.Add(1)
		// One that came again, or too late: then nobody has the flow.
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
			// Where nobody waits for it any more, FlowDealloc is on its way.
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

// attachedLocked makes fl carry packets once its memory is there. It reports
// false where there is none, or the process or the IPCP has gone meanwhile: then
// fl is over.
func (f *Flows[P]) attachedLocked(fl *flow[P], mem ipcp.Flow, err error) bool {
	leave := fl.leave
	if err == nil && fl.state == attaching && leave == nil {
		fl.mem = mem
		now := f.now()
		fl.sent.Store(now)
		fl.heard.Store(now)
		fl.state = up
		if fl.ours && f.greeter != nil && len(f.peers) == 0 {
			f.sweeper.Reset(0) // the other system is to hear of this one soon
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

// begin gives the process what came before its flow was up, and watches what it
// writes.
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

// takeEarly returns the packets that came before fl was up. Where there are none
// Deliver gives the others to the process from now on.
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

// forgetLocked takes fl out of the tables. A request from outside is remembered
// for a while: when it comes again it is answered with code.
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

// oapIDLen is how much of a request's data tells a request that came again from
// another one.
const oapIDLen = 16

// Requested is the reader's word that from asks for a flow to dst; remote is its
// endpoint id.
func (f *Flows[P]) Requested(from P, remote uint64, dst core.Hash, qos core.QoS, data []byte) {
	if len(data) > ipcp.MaxData {
		f.count.Stray.Add(1)
		return
	}
	data, qos = bytes.Clone(data), unwire(qos)
	id := string(data[:min(oapIDLen, len(data))])
	r := request[P]{from, remote}
	f.mu.Lock()
	defer f.unlock()
	known := f.asked[r]
	switch {
	case known != nil && known.oapID == id:
		f.repeatLocked(known)
		return
	case f.stopped:
		return
	case !f.own[dst]:
		if !f.cfg.Silent {
			if f.toldLocked() {
				f.then(func() {
					f.log.Debugf("Refused a flow to %v for %s: it is not registered here.", dst, f.cfg.Text(from))
				})
			}
			f.then(func() { f.out.Reply(from, remote, 0, core.ErrName, nil) })
		}
		return
	}
	if known != nil {
		f.replacedLocked(known)
	}
	if f.waiting.n >= f.maxWaiting {
		f.count.Requests.Add(1)
		f.withdrawLocked(f.waiting.first())
	}
	arrival := ipcp.Arrival{Dst: dst, QoS: qos, Data: data, Path: f.cfg.Path(from), From: f.cfg.Text(from)}
	fl := &flow[P]{
		state: announcing, server: true, peer: from, remote: remote, dst: dst, qos: qos,
		ours: f.cfg.Ours(data), system: arrival.System(), since: f.clock.Now(), oapID: id,
	}
	if f.slots.add(fl) != nil {
		f.count.Requests.Add(1)
		f.then(func() { f.out.Reply(from, remote, 0, core.ErrNotAllocated, nil) })
		return
	}
	f.asked[r] = fl
	f.waiting.add(fl)
	f.then(func() {
		f.host.FlowReqArr(arrival, func(id core.FlowID, err error) { f.announced(fl, id, err) })
	})
}

// repeatLocked answers the request of fl, which has come again, as before.
func (f *Flows[P]) repeatLocked(fl *flow[P]) {
	switch fl.state {
	case up, draining:
		if f.clock.Now().Sub(fl.since) < repeatTime {
			reply := fl.reply
			f.then(func() { f.out.Reply(fl.peer, fl.remote, fl.eid, 0, reply) })
		}
	case over:
		f.then(func() { f.out.Reply(fl.peer, fl.remote, 0, fl.refusal, nil) })
	}
}

// replacedLocked ends fl, whose other end has left without a word: its system asks
// for another flow with the same endpoint id.
func (f *Flows[P]) replacedLocked(fl *flow[P]) {
	switch fl.state {
	case attaching: // attachedLocked sees it
		f.forgetLocked(fl, core.ErrNotAllocated)
	case announcing, arrived:
		f.forgetLocked(fl, core.ErrNotAllocated)
		if fl.hasID {
			f.then(func() { f.host.FlowDealloc(fl.id, func(error) {}) })
		}
	case up:
		f.lostLocked(fl, core.ErrFlowPeer, "its other end uses its id for another flow")
	case draining:
		fl.tell = false
		f.finishLocked(fl)
	}
}

// waits reports whether no process has answered the request of fl; Flows.mu is
// held.
func (fl *flow[P]) waits() bool { return fl.state == announcing || fl.state == arrived }

// announced takes the host's answer to FlowReqArr.
func (f *Flows[P]) announced(fl *flow[P], id core.FlowID, err error) {
	f.mu.Lock()
	defer f.unlock()
	switch {
	case fl.state != announcing: // it was refused meanwhile
		if err == nil && !f.stopped {
			// Who answers it hears of that after the host.
			fl.id, fl.hasID = id, true
			f.byID[id] = fl
			f.gone = append(f.gone, fl)
			f.then(func() { f.host.FlowDealloc(id, func(error) {}) })
		}
	case err != nil:
		code := errno(err)
		f.forgetLocked(fl, code)
		f.then(func() { f.out.Reply(fl.peer, fl.remote, 0, code, nil) })
	default:
		fl.id, fl.hasID, fl.state = id, true, arrived
		f.byID[id] = fl
		if f.toldLocked() {
			f.then(func() {
				f.log.Debugf("Flow to %v requested by %s, endpoint id %d.", fl.dst, f.cfg.Text(fl.peer), fl.remote)
			})
		}
	}
}

// toldLocked reports whether the log tells of a request from outside.
func (f *Flows[P]) toldLocked() bool {
	ok, left := f.lines.Take(f.clock.Now())
	if left > 0 {
		f.then(func() { f.log.Debugf("The log leaves out %d requests of other systems.", left) })
	}
	return ok
}

// withdrawLocked refuses a request that no process has answered.
func (f *Flows[P]) withdrawLocked(fl *flow[P]) {
	f.forgetLocked(fl, core.ErrNotAllocated)
	known := fl.hasID
	f.then(func() {
		f.out.Reply(fl.peer, fl.remote, 0, core.ErrNotAllocated, nil)
		if known {
			f.host.FlowDealloc(fl.id, func(error) {})
		}
	})
}

// FlowAllocResp implements ipcp.Ops.
func (f *Flows[P]) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	f.mu.Lock()
	fl := f.byID[resp.Flow]
	if fl == nil {
		f.mu.Unlock()
		f.loop.FlowAllocResp(resp, done)
		return
	}
	defer f.unlock()
	switch {
	case fl.state == over: // and may have given its id to a flow within this system
		f.then(func() { f.loop.FlowAllocResp(resp, done) })
	case !fl.server:
		f.then(func() { done(fmt.Errorf("%w: no request arrived on flow %d", core.ErrNotFound, resp.Flow)) })
	case fl.state != arrived:
		f.then(func() { done(fmt.Errorf("%w: flow %d is answered", core.ErrState, resp.Flow)) })
	case resp.Code != 0:
		f.forgetLocked(fl, resp.Code)
		f.then(func() {
			f.answer(fl, resp.Code, resp.Data)
			done(nil)
		})
	default:
		f.waiting.remove(fl)
		fl.state, fl.reply = attaching, bytes.Clone(resp.Data)
		f.then(func() {
			f.host.Attach(fl.id, func(mem ipcp.Flow, err error) { f.serverAttached(fl, mem, err, done) })
		})
	}
}

// serverAttached takes the memory of a flow that a process has accepted.
func (f *Flows[P]) serverAttached(fl *flow[P], mem ipcp.Flow, err error, done func(error)) {
	f.mu.Lock()
	defer f.unlock()
	if f.attachedLocked(fl, mem, err) {
		reply := fl.reply
		f.then(func() {
			f.answer(fl, 0, reply)
			done(nil)
		})
		return
	}
	if err == nil {
		err = fmt.Errorf("%w: the process has left flow %d", core.ErrCanceled, fl.id)
	}
	f.then(func() {
		f.answer(fl, core.ErrNotAllocated, nil)
		done(err)
	})
}

// answer sends the reply to the request of fl, not too early. It sends none where
// the other end uses its id for another flow by then.
func (f *Flows[P]) answer(fl *flow[P], code core.Errno, data []byte) {
	send := func() {
		f.mu.Lock()
		current := f.asked[request[P]{fl.peer, fl.remote}] == fl
		f.mu.Unlock()
		if current {
			f.out.Reply(fl.peer, fl.remote, fl.eid, code, data)
		}
	}
	if wait := f.cfg.ReplyAfter - f.clock.Now().Sub(fl.since); wait > 0 && !fl.ours {
		f.clock.AfterFunc(wait, send)
		return
	}
	send()
}

// FlowDealloc implements ipcp.Ops.
func (f *Flows[P]) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	f.mu.Lock()
	fl := f.byID[req.Flow]
	if fl == nil {
		f.mu.Unlock()
		f.loop.FlowDealloc(req, done)
		return
	}
	defer f.unlock()
	if fl.state == over || fl.leave != nil {
		// One that is over may have given its id to a flow within this system.
		f.then(func() { f.loop.FlowDealloc(req, done) })
		return
	}
	fl.leave, fl.tell = done, req.Tell || fl.ours
	switch fl.state {
	case attaching: // attachedLocked sees it
	case up:
		fl.state = draining
		if fl.silent {
			f.finishLocked(fl)
			return
		}
		fl.drain = f.clock.AfterFunc(drainTime, func() { f.finish(fl) })
	case ended:
		f.finishLocked(fl)
	default: // asking, arrived
		refuse := fl.state == arrived
		f.forgetLocked(fl, core.ErrNotAllocated)
		f.then(func() {
			if refuse {
				f.answer(fl, core.ErrNotAllocated, nil)
			}
			f.host.FlowDealloc(fl.id, done)
		})
	}
}

// finish ends the drain of fl.
func (f *Flows[P]) finish(fl *flow[P]) {
	f.mu.Lock()
	defer f.unlock()
	if fl.state == draining {
		f.finishLocked(fl)
	}
}

// finishLocked lets go of a flow whose process has left.
func (f *Flows[P]) finishLocked(fl *flow[P]) {
	tell := fl.tell && fl.state == draining
	f.forgetLocked(fl, core.ErrNotAllocated)
	f.then(func() {
		if tell {
			f.out.Bye(fl.peer, fl.remote)
			if f.byeTwice() {
				f.clock.AfterFunc(byeAgain, func() { f.bye(fl) })
			}
		}
		fl.mem.Close()
		f.log.Debugf("Flow with endpoint id %d to %s deallocated.", fl.eid, f.cfg.Text(fl.peer))
		f.host.FlowDealloc(fl.id, fl.leave)
	})
}

// byeTwice reports whether the last Bye of a flow is sent again, for the first may
// be lost. The other end must not use its id for another flow before that comes:
// where there are few ids it may.
func (f *Flows[P]) byeTwice() bool { return f.cfg.IDs.Last-f.cfg.IDs.First >= maxRest }

// bye says once more that fl has ended.
func (f *Flows[P]) bye(fl *flow[P]) {
	f.mu.Lock()
	defer f.unlock()
	if !f.stopped {
		f.then(func() { f.out.Bye(fl.peer, fl.remote) })
	}
}

// sender returns where what came for fl came from.
func (f *Flows[P]) sender(fl *flow[P], from P) P {
	if f.cfg.Anonymous {
		return fl.peer
	}
	return from
}

// Left is the reader's word that from says that the flow of eid has ended: the
// process reads what came before, then io.EOF, and writes no more. That it comes
// again, for a flow that is over, is no fault.
func (f *Flows[P]) Left(from P, eid uint64) {
	fl := f.slots.find(eid)
	f.mu.Lock()
	defer f.unlock()
	switch {
	case fl == nil:
	case fl.peer != f.sender(fl, from):
		f.count.Stray.Add(1)
	case fl.opening():
		fl.hungUp = true
	case fl.state == up || fl.state == draining:
		f.leftLocked(fl)
	}
}

// leftLocked ends fl, whose other end has left.
func (f *Flows[P]) leftLocked(fl *flow[P]) {
	if fl.state == draining {
		fl.tell = false // the other end knows
		f.finishLocked(fl)
		return
	}
	fl.state = ended
	fl.live.Store(false)
	f.then(func() {
		fl.mem.Publish()
		fl.mem.Close()
	})
}

// errno returns the number of err.
func errno(err error) core.Errno {
	if e, ok := errors.AsType[core.Errno](err); ok {
		return e
	}
	return core.ErrNotAllocated
}

// Response returns what a reply on the wire says for code: 0, or a negative
// number of the C prototype's. Numbers of this project's own mean that the flow
// is not allocated.
func Response(code core.Errno) int32 {
	if code >= firstOwn || code < 0 {
		code = core.ErrNotAllocated
	}
	return -int32(code)
}

// firstOwn is the first number that the C prototype has not.
const firstOwn core.Errno = 1100

// Code returns the error that a reply on the wire says, 0 where it accepts. A
// number that is no error's is a refusal.
func Code(response int32) core.Errno {
	switch {
	case response == 0:
		return 0
	case response > 0, response < -int32(firstOwn)+1:
		return core.ErrNotAllocated
	}
	if code := core.Errno(-response); code >= core.ErrNotAllocated {
		return code
	}
	return core.ErrNotAllocated
}
