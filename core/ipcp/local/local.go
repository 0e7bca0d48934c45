// Package local is the local layer: a loopback between processes of one
// system (Tutorial 01). It keeps a directory and joins the two ends of each
// flow; it carries no packet, since it splices them. How ends are joined can be
// replaced (Joiner).
package local

import (
	"context"
	"fmt"
	"sync"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
)

// Type describes the local layer to irm, irmd and ipcpd.
var Type = ipcp.Type{Name: "local", Rank: 0, Does: ipcp.Provides, New: newLayer}

// Layer implements ipcp.Ops. It holds no lifecycle state: ipcp.Process calls
// Ops only in the states that allow it.
type Layer struct {
	host   ipcp.Host
	log    *logs.Logger
	joiner Joiner

	mu   sync.Mutex // guards the fields below; never held across host
	dir  map[core.Hash]bool
	ends map[core.FlowID]*end
	fds  core.IDSet // from core.FirstFD
}

// Joiner makes one flow of two ends. Of each flow the layer makes one call at a
// time, Join first.
type Joiner interface {
	// Join joins the ends of a flow that a process has accepted. It calls
	// done once; where that gets an error nothing is joined.
	Join(client, server core.FlowID, done func(error))

	// Leave says that the process of a joined end has given it up. The id
	// may be another's once Leave has returned.
	Leave(id core.FlowID)
}

// New returns a layer within one system whose flows joiner joins.
func New(env ipcp.Env, joiner Joiner) *Layer {
	return &Layer{
		host: env.Host, log: env.Log, joiner: joiner,
		dir:  make(map[core.Hash]bool),
		ends: make(map[core.FlowID]*end),
	}
}

func newLayer(env ipcp.Env) ipcp.Ops { return New(env, splicer{env.Host}) }

// splicer joins two ends by one memory, which the two processes share.
type splicer struct{ host ipcp.Host }

func (s splicer) Join(client, server core.FlowID, done func(error)) {
	done(s.host.Splice(client, server))
}

func (splicer) Leave(core.FlowID) {}

// Bootstrap implements ipcp.Ops. A local layer has one member and nothing to
// set up.
func (l *Layer) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) { return cfg, nil }

// Run implements ipcp.Ops. The layer does nothing unasked.
func (l *Layer) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Register implements ipcp.Ops.
func (l *Layer) Register(_ context.Context, h core.Hash) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dir[h] = true
	return nil
}

// Unregister implements ipcp.Ops.
func (l *Layer) Unregister(_ context.Context, h core.Hash) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.dir, h)
	return nil
}

// Query implements ipcp.Ops.
func (l *Layer) Query(_ context.Context, h core.Hash) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dir[h] {
		return fmt.Errorf("%w: %v is not registered in the layer", core.ErrName, h)
	}
	return nil
}

// FlowAlloc implements ipcp.Ops. The destination is on this system too, so
// the request goes straight back to the host.
func (l *Layer) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	if err := l.Query(context.Background(), req.Dst); err != nil {
		done(err)
		return
	}
	f := &flow{busy: true}
	client, err := l.add(f, req.Flow)
	if err != nil {
		done(err)
		return
	}
	f.client = client
	l.log.Debugf("Allocating flow to %v on fd %d.", req.Dst, client.fd)
	l.host.FlowReqArr(ipcp.Arrival{Dst: req.Dst, QoS: req.QoS, Data: req.Data}, func(id core.FlowID, err error) {
		if err == nil {
			f.server, err = l.add(f, id)
		}
		if err != nil {
			l.letGo(client)
			l.remove(client)
		} else {
			l.log.Infof("Pending local allocation request on fd %d.", client.fd)
		}
		l.finish(f, func() { done(err) })
	})
}

// FlowAllocResp implements ipcp.Ops.
func (l *Layer) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	l.do(resp.Flow, done, func(e *end) {
		f := e.flow
		switch {
		case e != f.server:
			l.finish(f, func() { done(fmt.Errorf("%w: no request arrived on flow %d", core.ErrNotFound, resp.Flow)) })
		case f.joined:
			l.finish(f, func() { done(fmt.Errorf("%w: flow %d is answered", core.ErrState, resp.Flow)) })
		case resp.Code != 0:
			l.refuse(f, resp.Code, func(err error) {
				l.finish(f, func() { done(err) })
			})
		default:
			l.accept(f, func(err error) {
				l.finish(f, func() { done(err) })
			})
		}
	})
}

// accept joins the ends of f.
func (l *Layer) accept(f *flow, done func(error)) {
	l.joiner.Join(f.client.id, f.server.id, func(err error) {
		if err != nil {
			l.refuse(f, core.ErrNotAllocated, func(error) { done(err) })
			return
		}
		f.joined = true
		l.host.FlowAllocReply(ipcp.AllocReply{Flow: f.client.id}, func(err error) {
			if err == nil {
				l.log.Infof("Flow allocation completed, fds (%d, %d).", f.client.fd, f.server.fd)
			} else {
				// The client has gone and there is no flow; its own
				// end goes with the FlowDealloc that is on the way.
				l.leave(f.server)
				l.remove(f.server)
			}
			done(err)
		})
	})
}

// refuse answers the client of f with code: then neither end is left.
func (l *Layer) refuse(f *flow, code core.Errno, done func(error)) {
	l.letGo(f.client, f.server)
	l.host.FlowAllocReply(ipcp.AllocReply{Flow: f.client.id, Code: code}, func(err error) {
		l.remove(f.client, f.server)
		done(err)
	})
}

// FlowDealloc implements ipcp.Ops. A request that nobody has answered yet
// goes with the client that asked, and is refused with the server that was to
// answer.
func (l *Layer) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	id := req.Flow
	l.do(id, done, func(e *end) {
		f := e.flow
		switch {
		case f.joined:
			l.leave(e)
		case e == f.server:
			l.letGo(f.client, e)
			l.host.FlowAllocReply(ipcp.AllocReply{Flow: f.client.id, Code: core.ErrNotAllocated}, func(error) { l.remove(f.client) })
		default:
			l.letGo(e, f.server)
			l.host.FlowDealloc(f.server.id, func(error) { l.remove(f.server) })
		}
		l.host.FlowDealloc(id, func(err error) {
			l.log.Infof("Flow with fd %d deallocated.", e.fd)
			l.remove(e)
			l.finish(f, func() { done(err) })
		})
	})
}
