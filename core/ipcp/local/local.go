// Package local is the local layer: a loopback between processes of one
// system (Tutorial 01). It keeps a directory and joins the two ends of each
// flow; it carries no packet, since it splices them.
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
var Type = ipcp.Type{Name: "local", Rank: 0, New: newLayer}

// layer implements ipcp.Ops. It holds no lifecycle state: ipcp.Process calls
// Ops only in the states that allow it.
type layer struct {
	host ipcp.Host
	log  *logs.Logger

	mu   sync.Mutex // guards the fields below; never held across host
	dir  map[core.Hash]bool
	ends map[core.FlowID]*end
	fds  core.IDSet // from core.FirstFD
}

// end is one end of a flow that the layer provides. Of each pair the first
// is the client's.
type end struct {
	id     core.FlowID
	fd     int
	peer   *end // nil until the request has arrived, and once the peer has gone
	server bool // its FlowAllocResp answers
	joined bool // answered: the flow is allocated
	left   bool // its process has given it up
}

func newLayer(host ipcp.Host, log *logs.Logger) ipcp.Ops {
	return &layer{
		host: host, log: log,
		dir:  make(map[core.Hash]bool),
		ends: make(map[core.FlowID]*end),
	}
}

// Bootstrap implements ipcp.Ops. A local layer has one member and nothing to
// set up.
func (l *layer) Bootstrap(context.Context, ipcp.Config) error { return nil }

// Run implements ipcp.Ops. The layer does nothing unasked.
func (l *layer) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Register implements ipcp.Ops.
func (l *layer) Register(_ context.Context, h core.Hash) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dir[h] = true
	return nil
}

// Unregister implements ipcp.Ops.
func (l *layer) Unregister(_ context.Context, h core.Hash) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.dir, h)
	return nil
}

// Query implements ipcp.Ops.
func (l *layer) Query(_ context.Context, h core.Hash) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dir[h] {
		return fmt.Errorf("%w: %v is not registered in the layer", core.ErrName, h)
	}
	return nil
}

// FlowAlloc implements ipcp.Ops. The destination is on this system too, so
// the request goes straight back to the host.
func (l *layer) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	if err := l.Query(context.Background(), req.Dst); err != nil {
		done(err)
		return
	}
	client, err := l.add(req.Flow)
	if err != nil {
		done(err)
		return
	}
	l.log.Debugf("Allocating flow to %v on fd %d.", req.Dst, client.fd)
	l.host.FlowReqArr(req.Dst, req.QoS, func(id core.FlowID, err error) {
		if err != nil {
			l.remove(client)
			done(err)
			return
		}
		if err := l.pair(client, id); err != nil {
			// The request has no client any more.
			l.host.FlowDealloc(id, func(error) {})
			done(err)
			return
		}
		l.log.Infof("Pending local allocation request on fd %d.", client.fd)
		done(nil)
	})
}

// FlowAllocResp implements ipcp.Ops.
func (l *layer) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	server, client, err := l.answer(resp)
	if err != nil {
		done(err)
		return
	}
	if resp.Code == 0 && l.host.Splice(client.id, server.id) != nil {
		resp.Code = core.ErrNotAllocated
	}
	l.host.FlowAllocReply(client.id, resp.Code, func(err error) {
		if err == nil && resp.Code == 0 {
			l.log.Infof("Flow allocation completed, fds (%d, %d).", client.fd, server.fd)
		}
		done(err)
	})
}

// FlowDealloc implements ipcp.Ops. A request that nobody has answered yet
// goes with the client that asked, and is refused with the server that was to
// answer.
func (l *layer) FlowDealloc(id core.FlowID, done func(error)) {
	e, other := l.leave(id)
	switch {
	case e == nil:
		done(fmt.Errorf("%w: flow %d", core.ErrNotFound, id))
		return
	case other != nil && e.server:
		l.host.FlowAllocReply(other.id, core.ErrNotAllocated, func(error) { l.remove(other) })
	case other != nil:
		l.host.FlowDealloc(other.id, func(error) { l.remove(other) })
	}
	l.host.FlowDealloc(id, func(err error) {
		l.log.Infof("Flow with fd %d deallocated.", e.fd)
		l.remove(e)
		done(err)
	})
}

// add makes the end id.
func (l *layer) add(id core.FlowID) (*end, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addLocked(id)
}

func (l *layer) addLocked(id core.FlowID) (*end, error) {
	if l.ends[id] != nil {
		return nil, fmt.Errorf("%w: flow %d is in use", core.ErrState, id)
	}
	e := &end{id: id, fd: core.FirstFD + l.fds.Take()}
	l.ends[id] = e
	return e, nil
}

// remove forgets e; its fd is free again.
func (l *layer) remove(e *end) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends[e.id] == e {
		delete(l.ends, e.id)
		l.fds.Release(e.fd - core.FirstFD)
	}
}

// pair makes the server's end id of client's flow.
func (l *layer) pair(client *end, id core.FlowID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if client.left {
		return fmt.Errorf("%w: the client of flow %d has gone", core.ErrNotAllocated, id)
	}
	server, err := l.addLocked(id)
	if err != nil {
		return err
	}
	server.server = true
	server.peer, client.peer = client, server
	return nil
}

// answer returns the two ends that resp joins, or the one that it refuses.
func (l *layer) answer(resp ipcp.AllocResponse) (server, client *end, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	server = l.ends[resp.Flow]
	switch {
	case server == nil || !server.server:
		return nil, nil, fmt.Errorf("%w: no request arrived on flow %d", core.ErrNotFound, resp.Flow)
	case server.joined:
		return nil, nil, fmt.Errorf("%w: flow %d is answered", core.ErrState, resp.Flow)
	case server.peer == nil:
		return nil, nil, fmt.Errorf("%w: the client of flow %d has gone", core.ErrNotAllocated, resp.Flow)
	}
	client = server.peer
	if resp.Code != 0 {
		// A refused flow has no server's end any more.
		delete(l.ends, server.id)
		l.fds.Release(server.fd - core.FirstFD)
		client.peer = nil
		return server, client, nil
	}
	server.joined, client.joined = true, true
	return server, client, nil
}

// leave parts the end id from its peer. other is that peer where the request
// was never answered.
func (l *layer) leave(id core.FlowID) (e, other *end) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e = l.ends[id]; e == nil || e.left {
		return nil, nil
	}
	e.left = true
	if p := e.peer; p != nil {
		p.peer, e.peer = nil, nil
		if !e.joined {
			other = p
		}
	}
	return e, other
}
