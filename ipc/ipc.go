// Package ipc is the API of the recursive network: flows to names, with the
// types of package net. Dial allocates a flow to a name, Listen accepts them;
// a Conn is a net.Conn, a Listener a net.Listener.
//
//	c, err := ipc.Dial(ctx, "oping-server")
//
// The process talks to the IRM daemon once for each flow, over one connection
// that it keeps; packets pass through memory that the two ends of a flow share
// and never through the IRMd. When the IRMd goes, flows go on. Dial and Accept
// return core.ErrIRMd, which is temporary: the package comes back to an IRMd
// by itself.
package ipc

import (
	"errors"
	"net"

	"o7s/core"
)

// MaxPacket is the largest packet that a flow carries, in bytes.
const MaxPacket = core.MaxPacket

// QoS is what a process asks of a flow.
type QoS = core.QoS

// The QoS specs that programs ask for; QoSRaw is the default. Within one system every
// flow keeps order and loses nothing. What each promises to another system:
var (
	QoSRaw         = core.QoSRaw         // what the layer gives: packets may be lost, come twice or in another order, or be damaged
	QoSRawNoErrors = core.QoSRawNoErrors // the same, but no packet is damaged
	QoSBest        = core.QoSBest        // packets come in order and once; some may be missing
	QoSVideo       = core.QoSVideo       // as QoSBest; it also asks for a short delay and much bandwidth
	QoSVoice       = core.QoSVoice       // as QoSBest; it also asks for a very short delay
	QoSData        = core.QoSData        // all packets come, in order and once
)

// An Option changes how Dial or Listen does its work.
type Option func(*options)

type options struct {
	qos    QoS
	layers []string
}

// WithQoS asks for a flow with q. A layer that cannot give it refuses the
// flow. Listen ignores it: an accepted flow has the QoS its client asked for.
func WithQoS(q QoS) Option { return func(o *options) { o.qos = q } }

// WithLayer makes Listen register the name in the layers, as "irm name
// register" does. That takes an administrator's rights. It outlasts the listener:
// Withdraw takes it back. Each layer may hold the wildcard *. Dial ignores it.
func WithLayer(layer ...string) Option {
	return func(o *options) { o.layers = append(o.layers, layer...) }
}

func apply(opts []Option) options {
	o := options{qos: core.QoSRaw}
	for _, f := range opts {
		f(&o)
	}
	return o
}

// Addr is the address of one end of a flow: the name it was allocated to, or
// "flow N" where the end has none.
type Addr string

// Network returns "o7s".
func (Addr) Network() string { return "o7s" }

// String returns the address.
func (a Addr) String() string { return string(a) }

// opError is how every error of this package reaches the caller, but io.EOF.
func opError(op string, addr net.Addr, err error) error {
	if _, ok := err.(core.Errno); !ok {
		err = said{err}
	}
	return &net.OpError{Op: op, Net: "o7s", Addr: addr, Err: err}
}

// said is an error with a core.Errno below its words. A *net.OpError asks only
// the error that it holds itself whether it is a time-out.
type said struct{ error }

func (s said) Unwrap() error { return s.error }

// Timeout implements net.Error.
func (s said) Timeout() bool { return s.errno().Timeout() }

// Temporary implements net.Error.
func (s said) Temporary() bool { return s.errno().Temporary() }

func (s said) errno() core.Errno {
	e, _ := errors.AsType[core.Errno](s.error)
	return e
}
