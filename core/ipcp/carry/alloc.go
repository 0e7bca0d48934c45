package carry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

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
	if req.QoS.InOrder {
		done(errOrder)
		return
	}
	to, err := f.out.Find(req.Dst)
	if err != nil {
		done(err)
		return
	}
	fl := &flow[P]{state: asking, id: req.Flow, hasID: true, dst: req.Dst, peer: to, qos: req.QoS, since: f.clock.Now()}
	f.mu.Lock()
	if f.byID[req.Flow] != nil {
		f.mu.Unlock()
		done(fmt.Errorf("%w: flow %d is in use", core.ErrState, req.Flow))
		return
	}
	if err = f.slots.add(fl); err == nil {
		f.byID[req.Flow] = fl
	}
	f.mu.Unlock()
	if err == nil {
		f.log.Debugf("Requesting flow to %v from %s, endpoint id %d.", req.Dst, f.cfg.Text(to), fl.eid)
		if err = f.out.Request(to, fl.eid, req.Dst, req.QoS, req.Data); err != nil {
			f.mu.Lock()
			f.forgetLocked(fl)
			f.mu.Unlock()
		}
	}
	done(err)
}

// again sends a request once more, unless it is answered.
func (f *Flows[P]) again(req ipcp.AllocRequest, done func(error)) {
	f.mu.Lock()
	fl := f.byID[req.Flow]
	waits := fl != nil && fl.state == asking
	f.mu.Unlock()
	if waits {
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
		_ = f.out.Request(to, fl.eid, fl.dst, fl.qos, req.Data) // as good as lost
	}
	done(nil)
}

// errOrder is the answer to whoever asks for order: its two ends would have to
// put a header in front of each packet, which they don't yet.
var errOrder = fmt.Errorf("%w: packets to another system may be lost and change their order; ask for raw", core.ErrQoS)

// Refresher is an Out whose directory asks anew where a name is when nothing has
// answered there.
type Refresher interface{ Refresh(dst core.Hash) }

// Replied is the reader's word that from has answered the request of eid: code
// is 0 where it accepts, and remote is the other end's id then.
func (f *Flows[P]) Replied(from P, eid, remote uint64, code core.Errno, data []byte) {
	fl := f.slots.find(eid)
	f.mu.Lock()
	if fl == nil || fl.state != asking || fl.peer != from {
		f.mu.Unlock()
		f.count.Stray.Add(1)
		// One that came again, or too late: then nobody has the flow.
		if fl == nil && code == 0 && f.cfg.Ours(data) {
			f.out.Bye(from, remote)
		}
		return
	}
	reply := ipcp.AllocReply{Flow: fl.id, Code: code, Data: bytes.Clone(data), From: f.cfg.Text(from)}
	if code != 0 || len(data) > ipcp.MaxData {
		if code == 0 {
			reply.Code, reply.Data = core.ErrMessage, nil
		}
		f.forgetLocked(fl)
		f.mu.Unlock()
		f.log.Debugf("Flow to %v was refused by %s: %v.", fl.dst, reply.From, reply.Code)
		f.host.FlowAllocReply(reply, func(error) {})
		return
	}
	fl.state, fl.remote, fl.ours = attaching, remote, f.cfg.Ours(data)
	f.mu.Unlock()
	reply.Path = f.cfg.Path(from)
	f.host.Attach(fl.id, func(mem ipcp.Flow, err error) {
		if f.attached(fl, mem, err) {
			f.log.Debugf("Flow to %v at %s is allocated, endpoint ids %d and %d.", fl.dst, reply.From, fl.eid, fl.remote)
			// Where nobody waits for it any more, FlowDealloc is on its way.
			f.host.FlowAllocReply(reply, func(error) {})
			return
		}
		if fl.ours {
			f.out.Bye(from, remote)
		}
		if err != nil {
			f.host.FlowAllocReply(ipcp.AllocReply{Flow: fl.id, Code: core.ErrNotAllocated, From: reply.From}, func(error) {})
		}
	})
}

// attached makes fl carry packets once its memory is there. It reports false
// where there is none, or the process has left meanwhile: then fl is over.
func (f *Flows[P]) attached(fl *flow[P], mem ipcp.Flow, err error) bool {
	f.mu.Lock()
	leave := fl.leave
	if err == nil && fl.state == attaching && leave == nil {
		fl.mem = mem
		now := f.now()
		fl.sent.Store(now)
		fl.heard.Store(now)
		fl.state = up
		fl.live.Store(true)
		if fl.ours && f.greeter != nil && len(f.peers) == 0 {
			f.sweeper.Reset(0) // the other system is to hear of this one soon
		}
		f.mu.Unlock()
		if err := f.set.Add(mem, fl); err != nil {
			f.log.Warnf("Failed to watch a flow: %v.", err)
		}
		return true
	}
	if f.stopped && err == nil {
		f.mu.Unlock()
		mem.Abort()
		return false
	}
	f.forgetLocked(fl)
	f.mu.Unlock()
	if err == nil {
		mem.Close()
	}
	if leave != nil {
		f.host.FlowDealloc(fl.id, leave)
	}
	return false
}

// forgetLocked takes fl out of the tables.
func (f *Flows[P]) forgetLocked(fl *flow[P]) {
	if fl.waits() {
		f.waiting--
	}
	fl.state = over
	fl.live.Store(false)
	f.slots.remove(fl)
	if fl.hasID && f.byID[fl.id] == fl {
		delete(f.byID, fl.id)
	}
	if r := (request[P]{fl.peer, fl.remote}); fl.server && f.asked[r] == fl {
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
	data = bytes.Clone(data)
	id := string(data[:min(oapIDLen, len(data))])
	r := request[P]{from, remote}
	f.mu.Lock()
	if known := f.asked[r]; known != nil && known.oapID == id {
		reply := known.reply
		repeat := known.state == up && f.clock.Now().Sub(known.since) < repeatTime
		f.mu.Unlock()
		if repeat {
			f.out.Reply(from, remote, known.eid, 0, reply)
		}
		return
	}
	if f.own[dst] && qos.InOrder {
		f.mu.Unlock()
		f.log.Infof("Refused a flow to %v for %s: %v.", dst, f.cfg.Text(from), errOrder)
		f.out.Reply(from, remote, 0, core.ErrNotAllocated, nil)
		return
	}
	if !f.own[dst] || f.stopped {
		f.mu.Unlock()
		if !f.cfg.Silent {
			f.log.Debugf("Refused a flow to %v for %s: it is not registered here.", dst, f.cfg.Text(from))
			f.out.Reply(from, remote, 0, core.ErrName, nil)
		}
		return
	}
	fl := &flow[P]{
		state: announcing, server: true, peer: from, remote: remote, dst: dst, qos: qos,
		ours: f.cfg.Ours(data), since: f.clock.Now(), oapID: id,
	}
	oldest := f.oldestLocked()
	err := f.slots.add(fl)
	if err == nil {
		f.asked[r] = fl
		f.pending = append(f.pending, fl)
		f.waiting++
		if len(f.pending) >= 2*maxPending {
			f.pending = slices.DeleteFunc(f.pending, func(fl *flow[P]) bool { return !fl.waits() })
		}
	}
	f.mu.Unlock()
	if oldest != nil {
		f.count.Requests.Add(1)
		f.withdraw(oldest)
	}
	if err != nil {
		f.count.Requests.Add(1)
		f.out.Reply(from, remote, 0, core.ErrNotAllocated, nil)
		return
	}
	arrival := ipcp.Arrival{Dst: dst, QoS: qos, Data: data, Path: f.cfg.Path(from), From: f.cfg.Text(from)}
	f.host.FlowReqArr(arrival, func(id core.FlowID, err error) { f.announced(fl, id, err) })
}

// oldestLocked returns the request that has to go where there are as many as may
// be, nil where there are fewer.
func (f *Flows[P]) oldestLocked() *flow[P] {
	for len(f.pending) > 0 {
		fl := f.pending[0]
		if !fl.waits() {
			f.pending = f.pending[1:]
			continue
		}
		if f.waiting < maxPending {
			return nil
		}
		f.pending = f.pending[1:]
		return fl
	}
	return nil
}

// waits reports whether no process has answered the request of fl; Flows.mu is
// held.
func (fl *flow[P]) waits() bool { return fl.state == announcing || fl.state == arrived }

// announced takes the host's answer to FlowReqArr.
func (f *Flows[P]) announced(fl *flow[P], id core.FlowID, err error) {
	f.mu.Lock()
	if fl.state != announcing { // it was refused meanwhile
		f.mu.Unlock()
		if err == nil {
			f.host.FlowDealloc(id, func(error) {})
		}
		return
	}
	if err != nil {
		f.forgetLocked(fl)
		f.mu.Unlock()
		f.out.Reply(fl.peer, fl.remote, 0, errno(err), nil)
		return
	}
	fl.id, fl.hasID, fl.state = id, true, arrived
	f.byID[id] = fl
	f.mu.Unlock()
	f.log.Debugf("Flow to %v requested by %s, endpoint id %d.", fl.dst, f.cfg.Text(fl.peer), fl.remote)
}

// withdraw refuses a request that no process has answered.
func (f *Flows[P]) withdraw(fl *flow[P]) {
	f.mu.Lock()
	if !fl.waits() {
		f.mu.Unlock()
		return
	}
	f.forgetLocked(fl)
	known := fl.hasID
	f.mu.Unlock()
	f.out.Reply(fl.peer, fl.remote, 0, core.ErrNotAllocated, nil)
	if known {
		f.host.FlowDealloc(fl.id, func(error) {})
	}
}

// FlowAllocResp implements ipcp.Ops.
func (f *Flows[P]) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	f.mu.Lock()
	fl := f.byID[resp.Flow]
	switch {
	case fl == nil:
		f.mu.Unlock()
		f.loop.FlowAllocResp(resp, done)
		return
	case !fl.server:
		f.mu.Unlock()
		done(fmt.Errorf("%w: no request arrived on flow %d", core.ErrNotFound, resp.Flow))
		return
	case fl.state != arrived:
		f.mu.Unlock()
		done(fmt.Errorf("%w: flow %d is answered", core.ErrState, resp.Flow))
		return
	case resp.Code != 0:
		f.forgetLocked(fl)
		f.mu.Unlock()
		f.answer(fl, resp.Code, resp.Data)
		done(nil)
		return
	}
	f.waiting--
	fl.state, fl.reply = attaching, bytes.Clone(resp.Data)
	f.mu.Unlock()
	f.host.Attach(fl.id, func(mem ipcp.Flow, err error) {
		if f.attached(fl, mem, err) {
			f.answer(fl, 0, fl.reply)
			done(nil)
			return
		}
		f.answer(fl, core.ErrNotAllocated, nil)
		if err == nil {
			err = fmt.Errorf("%w: the process has left flow %d", core.ErrCanceled, fl.id)
		}
		done(err)
	})
}

// answer sends the reply to the request of fl, not too early.
func (f *Flows[P]) answer(fl *flow[P], code core.Errno, data []byte) {
	send := func() { f.out.Reply(fl.peer, fl.remote, fl.eid, code, data) }
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
	if fl.leave != nil {
		f.mu.Unlock()
		done(fmt.Errorf("%w: flow %d", core.ErrNotFound, req.Flow))
		return
	}
	fl.leave, fl.tell = done, req.Tell || fl.ours
	switch fl.state {
	case attaching: // attached sees it
		f.mu.Unlock()
	case up:
		fl.state = draining
		silent := fl.silent
		f.mu.Unlock()
		if silent {
			f.finish(fl)
			return
		}
		f.clock.AfterFunc(drainTime, func() { f.finish(fl) })
	case ended:
		f.mu.Unlock()
		f.finish(fl)
	default: // asking, arrived
		refuse := fl.state == arrived
		f.forgetLocked(fl)
		f.mu.Unlock()
		if refuse {
			f.answer(fl, core.ErrNotAllocated, nil)
		}
		f.host.FlowDealloc(fl.id, done)
	}
}

// finish lets go of a flow whose process has left.
func (f *Flows[P]) finish(fl *flow[P]) {
	f.mu.Lock()
	if fl.leave == nil || fl.state != draining && fl.state != ended {
		f.mu.Unlock()
		return
	}
	tell := fl.tell && fl.state == draining
	f.forgetLocked(fl)
	f.mu.Unlock()
	if tell {
		f.out.Bye(fl.peer, fl.remote)
	}
	fl.mem.Close()
	f.log.Debugf("Flow with endpoint id %d to %s deallocated.", fl.eid, f.cfg.Text(fl.peer))
	f.host.FlowDealloc(fl.id, fl.leave)
}

// Left is the reader's word that from says that the flow of eid has ended: the
// process reads what came before, then io.EOF, and writes no more.
func (f *Flows[P]) Left(from P, eid uint64) {
	fl := f.slots.find(eid)
	f.mu.Lock()
	if fl == nil || fl.peer != from || fl.state != up && fl.state != draining {
		f.mu.Unlock()
		f.count.Stray.Add(1)
		return
	}
	was := fl.state
	if was == up {
		fl.state = ended
	} else {
		fl.tell = false // the other end knows
	}
	fl.live.Store(false)
	f.mu.Unlock()
	if was == draining {
		f.finish(fl)
		return
	}
	fl.mem.Show()
	fl.mem.Close()
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

// least returns the shorter of two times, of which 0 is none.
func least(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
