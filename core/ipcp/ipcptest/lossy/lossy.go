// Package lossy is a third layer type, for tests only: the relay layer, but of
// the packets that it carries in each direction some are lost and some come
// after the one that follows, always the same ones. Tools that count what is
// lost and late are tested with it.
package lossy

import (
	"bytes"
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest/relay"
)

// Type describes the lossy layer.
var Type = ipcp.Type{
	Name: "lossy", Rank: 2, Does: ipcp.Provides,
	New: func(env ipcp.Env) ipcp.Ops {
		env.Host = host{env.Host}
		return ops{relay.Type.New(env)}
	},
}

// ops is the relay's, but promises nothing that it does not keep.
type ops struct{ ipcp.Ops }

// FlowAlloc implements ipcp.Ops.
func (o ops) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	switch {
	case req.QoS.Loss == 0:
		done(fmt.Errorf("%w: it loses packets", core.ErrQoS))
	case req.QoS.InOrder:
		done(fmt.Errorf("%w: it does not keep packets in order", core.ErrQoS))
	default:
		o.Ops.FlowAlloc(req, done)
	}
}

// Of each Every packets, counted from 0 in each direction of a flow, one is
// lost and one is late.
const (
	Every = 50
	Lost  = 20 // the number of the one that is lost
	Late  = 40 // the number of the one that comes after its successor
)

// host is a host whose flows are lossy.
type host struct{ ipcp.Host }

// Attach implements ipcp.Host.
func (h host) Attach(id core.FlowID, done func(ipcp.Flow, error)) {
	h.Host.Attach(id, func(f ipcp.Flow, err error) {
		if err == nil {
			f = &flow{Flow: f}
		}
		done(f, err)
	})
}

// flow is a flow on which not all arrives that is written, nor in order. One
// goroutine writes to it: the relay's.
type flow struct {
	ipcp.Flow
	n    int    // packets written
	held []byte // comes after the next one; nil: none
}

// WritePacket implements ipcp.Flow.
func (f *flow) WritePacket(p []byte) error {
	n := f.n % Every
	f.n++
	switch n {
	case Lost:
		return nil
	case Late:
		f.held = bytes.Clone(p)
		return nil
	}
	err := f.Flow.WritePacket(p)
	if err == nil {
		err = f.flush()
	}
	return err
}

// CloseWrite implements ipcp.Flow.
func (f *flow) CloseWrite() error {
	_ = f.flush() // an error is one of closing, too
	return f.Flow.CloseWrite()
}

func (f *flow) flush() error {
	p := f.held
	if p == nil {
		return nil
	}
	f.held = nil
	return f.Flow.WritePacket(p)
}
