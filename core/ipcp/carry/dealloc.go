package carry

import (
	"o7s/core"
	"o7s/core/ipcp"
)

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
		// The id of a flow that is over may belong to one within this system by now.
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

// finishLocked ends a flow whose process has left.
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

// byeTwice reports whether the Bye of a flow is sent twice, since one may be lost. The
// other end must not use its id for another flow before the second one comes. It may
// do so where there are few ids.
func (f *Flows[P]) byeTwice() bool { return f.cfg.IDs.Last-f.cfg.IDs.First >= maxRest }

// bye sends the second Bye of fl.
func (f *Flows[P]) bye(fl *flow[P]) {
	f.mu.Lock()
	defer f.unlock()
	if !f.stopped {
		f.then(func() { f.out.Bye(fl.peer, fl.remote) })
	}
}

// sender returns where a packet or a message for fl came from. from is what the wire says.
func (f *Flows[P]) sender(fl *flow[P], from P) P {
	if f.cfg.Anonymous {
		return fl.peer
	}
	return from
}

// Left is called by the reader: from says that the flow of eid has ended. The process
// reads the packets that came before and then io.EOF, and writes no more. The same
// message may come again when the flow is over.
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
