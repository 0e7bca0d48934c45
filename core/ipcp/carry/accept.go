package carry

import (
	"bytes"
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
)

// oapIDLen is how many bytes of a request's data differ between two requests, and are
// the same when one request comes again.
const oapIDLen = 16

// Requested is called by the reader: from asks for a flow to dst. remote is the endpoint
// id of from.
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

// repeatLocked answers the request of fl, which has come again, as it was answered
// before.
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

// replacedLocked ends fl. Its other end has left without a message, since that system
// asks for another flow with the same endpoint id.
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
			// A process that answers it learns that after the host has.
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

// toldLocked reports whether a request from outside may have a line in the log.
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
	case fl.state == over: // its id may belong to a flow within this system by now
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

// answer sends the reply to the request of fl, not before ReplyAfter has passed. It sends
// none if the other end uses its id for another flow by then.
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
