package ipcptest

import (
	"fmt"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
)

// state is where an end of a flow is in its life.
//
//	pending --FlowAllocReply--> allocated <--FlowAllocResp is done-- arrived
//	   |   \                       |                            /      |
//	   |    +------ dealloc -----> left <------- dealloc ------+       |
//	refused                        |                      refused, withdrawn
//	   +------------------------> over <-------------------------------+
type state int

const (
	pending state = iota
	arrived
	allocated
	left // its process has given it up
	over // the id is free
)

func (s state) String() string {
	return [...]string{"pending", "arrived", "allocated", "left", "over"}[s]
}

// end is one end of a flow, from the process's side.
type end struct {
	h      *host
	id     core.FlowID
	dst    core.Hash
	qos    core.QoS
	server bool
	asked  *answer         // to the client's FlowAlloc
	codes  chan core.Errno // what the client was answered; one
	ready  chan struct{}   // closed when allocated
	gone   chan struct{}   // closed when over

	taken    chan struct{} // closed when the layer knows the server's id
	answered *answer       // to the server's FlowAllocResp, if the host accepts

	request ipcp.Arrival    // that made the server's end
	ended   chan core.Errno // what FlowEnd said; one

	// Guarded by h.mu.
	state    state
	known    bool       // the layer knows the server's id
	peer     *end       // where the layer has spliced the two
	process  *memoryEnd // where it has attached itself
	refused  error      // why Splice has failed
	deallocs int        // calls of Host.FlowDealloc
}

func (h *host) newEndLocked(dst core.Hash, qos core.QoS) *end {
	e := &end{
		h: h, id: core.FlowID(h.ids.Take()), dst: dst, qos: qos, state: arrived,
		codes: make(chan core.Errno, 1), ready: make(chan struct{}), gone: make(chan struct{}),
		taken: make(chan struct{}), ended: make(chan core.Errno, 1),
	}
	h.ends[e.id] = e
	h.made = append(h.made, e)
	return e
}

// alloc asks for a flow to dst.
func (h *host) alloc(dst core.Hash, qos core.QoS) *end {
	h.mu.Lock()
	e := h.newEndLocked(dst, qos)
	e.state = pending
	h.mu.Unlock()
	e.asked = h.answer(fmt.Sprintf("FlowAlloc of flow %d", e.id))
	req := ipcp.AllocRequest{Flow: e.id, Dst: dst, QoS: qos}
	if h.far != nil {
		req.Data = h.far.ask(h, e)
	}
	h.ctl.FlowAlloc(req, func(err error) {
		h.mu.Lock()
		if err != nil && e.state == pending {
			h.overLocked(e)
		}
		h.mu.Unlock()
		e.asked.done(err)
	})
	return e
}

// reply waits for the answer to the client.
func (e *end) reply() (core.Errno, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case code := <-e.codes:
		return code, nil
	case <-timer.C:
		return 0, errNothing
	}
}

// respond answers the request that arrived. If that fails there is no flow,
// and the end is over.
func (e *end) respond(code core.Errno) *answer {
	a := e.h.answer(fmt.Sprintf("FlowAllocResp of flow %d", e.id))
	resp := ipcp.AllocResponse{Flow: e.id, Code: code}
	if e.h.far != nil && code == 0 {
		resp.Data = e.h.far.answer(e)
	}
	e.h.ctl.FlowAllocResp(resp, func(err error) {
		e.h.mu.Lock()
		switch {
		case e.state != arrived: // left or withdrawn meanwhile, or answered before
		case err != nil || code != 0:
			e.h.overLocked(e)
		default:
			e.allocatedLocked()
		}
		e.h.mu.Unlock()
		a.done(err)
	})
	return a
}

// dealloc gives the end up, as its process does.
func (e *end) dealloc() *answer { return e.giveUp(e.takeLeave()) }

// takeLeave reports whether the process has the end still, which it gives up now.
func (e *end) takeLeave() (held bool) {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	held = e.state < left
	if held {
		e.state = left
	}
	return held
}

func (e *end) giveUp(held bool) *answer {
	a := e.h.answer(fmt.Sprintf("FlowDealloc of flow %d", e.id))
	e.h.mu.Lock()
	process := e.process
	e.h.mu.Unlock()
	if process != nil {
		process.Close()
	}
	e.h.ctl.FlowDealloc(ipcp.DeallocRequest{Flow: e.id}, func(err error) {
		e.h.mu.Lock()
		if err == nil && held && e.deallocs != 1 {
			e.h.t.Errorf("FlowDealloc of flow %d is done after %d calls of Host.FlowDealloc, want 1", e.id, e.deallocs)
		}
		if e.state == left {
			e.h.overLocked(e)
		}
		e.h.mu.Unlock()
		a.done(err)
	})
	return a
}

// leave is dealloc, unless that was called before.
func (e *end) leave() {
	if e.takeLeave() {
		e.giveUp(true)
	}
}

// settled waits until the allocation has succeeded or failed at this end.
func (e *end) settled() error {
	if e.server {
		if err := come(e.taken); err != nil {
			return err
		}
		if err := e.answered.wait(); err == errNothing {
			return err
		}
		return nil
	}
	if err := e.asked.wait(); err == errNothing {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-e.ready:
	case <-e.gone:
	case <-timer.C:
		return errNothing
	}
	return nil
}

// endedLocked notes what FlowEnd said.
func (e *end) endedLocked(code core.Errno) {
	select {
	case e.ended <- code:
	default:
		e.h.t.Errorf("FlowEnd of flow %d comes twice", e.id)
	}
}

func (e *end) joined() bool { return e.peer != nil || e.process != nil }

func (e *end) allocatedLocked() {
	if !e.joined() {
		e.h.t.Errorf("flow %d is allocated, but neither spliced nor attached", e.id)
	}
	e.state = allocated
	close(e.ready)
}

// overLocked frees the id.
func (h *host) overLocked(e *end) {
	if h.ends[e.id] != e {
		return
	}
	e.state = over
	delete(h.ends, e.id)
	h.ids.Release(int(e.id))
	if e.process != nil {
		e.process.Close()
	}
	close(e.gone)
}
