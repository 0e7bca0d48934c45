package irm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"o7s/core"
	"o7s/core/ipcp"
)

// farType is a layer whose other ends are on other systems: answers come some
// time or never, requests come unasked, and flows end by themselves.
var farType = ipcp.Type{Name: "far", Rank: 2, New: func(ipcp.Env) ipcp.Ops { panic("not simulated") }}

type far struct {
	host ipcp.Host
	w    *sim

	mu   sync.Mutex // guards the fields below
	dir  []core.Hash
	ends map[core.FlowID]*farEnd
	left map[core.FlowID]bool // released here first: one message of the IRM may cross that
}

// unknown judges a message about a flow that is not in ends.
func (f *far) unknown(what string, id core.FlowID, done func(error)) {
	f.mu.Lock()
	crossed := f.left[id]
	f.mu.Unlock()
	if !crossed {
		f.w.fail("far: %s of flow %d, of which it has not heard", what, id)
	}
	done(fmt.Errorf("%w: flow %d", core.ErrNotFound, id))
}

// farEnd is this system's end of a flow.
type farEnd struct {
	asked bool // by this system, and not answered yet
	up    bool
	flow  ipcp.Flow // nil before it is attached
}

func (f *far) make(ipcp.Env) ipcp.Ops { return f }

// Bootstrap implements ipcp.Ops, as the functions below do.
func (f *far) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) { return cfg, nil }

func (f *far) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *far) Register(_ context.Context, h core.Hash) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.dir, h) {
		f.dir = append(f.dir, h)
	}
	return nil
}

func (f *far) Unregister(_ context.Context, h core.Hash) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dir = slices.DeleteFunc(f.dir, func(o core.Hash) bool { return o == h })
	return nil
}

// Query finds most names elsewhere.
func (f *far) Query(_ context.Context, h core.Hash) error {
	if f.w.one(4) {
		return core.ErrName
	}
	return nil
}

func (f *far) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	f.mu.Lock()
	_, used := f.ends[req.Flow]
	if !used {
		f.ends[req.Flow] = &farEnd{asked: true}
		delete(f.left, req.Flow)
	}
	f.mu.Unlock()
	if used {
		f.w.fail("far: asked for flow %d, which is in use", req.Flow)
		done(core.ErrState)
		return
	}
	done(nil)
}

func (f *far) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	f.mu.Lock()
	e := f.ends[resp.Flow]
	bad := e != nil && (e.up || e.asked)
	if e != nil && resp.Code != 0 {
		delete(f.ends, resp.Flow)
	}
	f.mu.Unlock()
	switch {
	case bad:
		f.w.fail("far: flow %d answered again, or never requested", resp.Flow)
		done(core.ErrState)
	case e == nil:
		f.unknown("response", resp.Flow, done)
	case resp.Code != 0:
		done(nil)
	default:
		f.attach(resp.Flow, e, done)
	}
}

func (f *far) attach(id core.FlowID, e *farEnd, done func(error)) {
	e.up = true
	f.host.Attach(id, func(flow ipcp.Flow, err error) {
		f.mu.Lock()
		gone := f.ends[id] != e
		if err == nil {
			e.flow = flow
		} else if !gone {
			f.leave(id)
		}
		f.mu.Unlock()
		if gone && err == nil {
			flow.Close()
		}
		if gone {
			err = core.ErrCanceled
		}
		done(err)
	})
}

func (f *far) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	id := req.Flow
	if !f.end(id, done) {
		f.unknown("deallocation", id, done)
	}
}

// leave releases id; f.mu is held.
func (f *far) leave(id core.FlowID) {
	delete(f.ends, id)
	f.left[id] = true
}

// end releases id and says so.
func (f *far) end(id core.FlowID, done func(error)) bool {
	f.mu.Lock()
	e := f.ends[id]
	f.leave(id)
	f.mu.Unlock()
	if e == nil {
		return false
	}
	if e.flow != nil {
		e.flow.Close()
	}
	f.host.FlowDealloc(id, done)
	return true
}

func (f *far) some(which func(*farEnd) bool) (id core.FlowID, e *farEnd) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(f.ends)) {
		if e := f.ends[id]; which(e) {
			return id, e
		}
	}
	return 0, nil
}

// happen is something that happens far away.
func (f *far) happen() {
	none := func(error) {}
	switch f.w.intn(8) {
	case 0, 1: // a request
		f.mu.Lock()
		h := core.Hash("nobody knows this hash")
		if len(f.dir) > 0 {
			h = f.dir[0]
			f.dir = append(f.dir[1:], h)
		}
		f.mu.Unlock()
		f.host.FlowReqArr(ipcp.Arrival{Dst: h, QoS: core.QoSRaw}, func(id core.FlowID, err error) {
			if err != nil {
				return
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.ends[id] != nil {
				f.w.fail("far: flow %d arrived, which is in use", id)
			}
			f.ends[id] = &farEnd{}
			delete(f.left, id)
		})
	case 2, 3, 4: // the answer to one
		id, e := f.some(func(e *farEnd) bool { return e.asked })
		switch {
		case e == nil:
		case f.w.one(4):
			f.mu.Lock()
			f.leave(id)
			f.mu.Unlock()
			f.host.FlowAllocReply(ipcp.AllocReply{Flow: id, Code: core.ErrNotAllocated}, none)
		default:
			e.asked = false
			f.attach(id, e, func(err error) {
				code := core.Errno(0)
				if err == core.ErrCanceled {
					return
				}
				if err != nil {
					code = core.ErrNotAllocated
				}
				f.host.FlowAllocReply(ipcp.AllocReply{Flow: id, Code: code}, none)
			})
		}
	case 5: // an end
		if id, e := f.some(func(e *farEnd) bool { return e.up && e.flow != nil }); e != nil {
			f.end(id, none)
		}
	case 6: // a request is withdrawn
		if id, e := f.some(func(e *farEnd) bool { return !e.up && !e.asked }); e != nil {
			f.end(id, none)
		}
	}
}
