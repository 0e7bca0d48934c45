// Package lower is the flows that an IPCP uses: those of package ipc, as a layer
// type sees them. The process of the IPCP is a program like any other for the
// IRMd.
package lower

import (
	"context"
	"errors"
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc"
	"o7s/ipc/flow"
)

// Net is ipcp.Net of this process.
type Net struct{}

var _ ipcp.Net = Net{}

// Dial implements ipcp.Net.
func (Net) Dial(ctx context.Context, name string, qos core.QoS) (ipcp.Lower, error) {
	c, err := ipc.Dial(ctx, name, ipc.WithQoS(qos))
	if err != nil {
		return nil, fmt.Errorf("allocate a flow to %q: %w", name, plain(err))
	}
	return lower(c), nil
}

// lower returns the flow of c as a layer uses it.
func lower(c *ipc.Conn) ipcp.Lower {
	end, direct := c.Memory()
	if !direct {
		return newStaged(c, end)
	}
	return &conn{End: end, c: c}
}

// plain returns err without what package ipc puts around it.
func plain(err error) error {
	if e := errors.Unwrap(err); e != nil {
		return e
	}
	return err // io.EOF is bare
}

// Listen implements ipcp.Net.
func (Net) Listen(ctx context.Context) (ipcp.Acceptor, error) {
	l, err := ipc.Listen(ctx, "")
	if err != nil {
		return nil, plain(err)
	}
	return acceptor{l}, nil
}

type acceptor struct{ l *ipc.Listener }

// Accept implements ipcp.Acceptor. It waits for Close where there is no flow.
func (a acceptor) Accept(context.Context) (ipcp.Lower, error) {
	c, err := a.l.AcceptFlow()
	if err != nil {
		return nil, plain(err)
	}
	return lower(c), nil
}

// Close implements ipcp.Acceptor.
func (a acceptor) Close() error { return a.l.Close() }

// NewSet implements ipcp.Net.
func (Net) NewSet() (ipcp.Set, error) {
	s, err := flow.NewSet()
	if err != nil {
		return nil, err
	}
	return set{s}, nil
}

// conn is ipcp.Lower: the memory of a flow, and what the IRMd knows of it.
type conn struct {
	*flow.End
	c *ipc.Conn
}

// FD implements ipcp.Lower.
func (f *conn) FD() int { return f.c.FD() }

// Path implements ipcp.Lower.
func (f *conn) Path() ipcp.Path { return f.c.Path() }

// Close implements ipcp.Flow.
func (f *conn) Close() error { return f.c.Close() }

// Abort implements ipcp.Flow.
func (f *conn) Abort() error { return f.c.Close() }

// set is ipcp.Set of the flows of this package.
type set struct{ *flow.Set }

// Add implements ipcp.Set.
func (s set) Add(f ipcp.Flow, v any) error {
	switch f := f.(type) {
	case *conn:
		return s.Set.Add(f.End, v)
	case *staged:
		return f.Join(s.Set, v)
	}
	return fmt.Errorf("%w: add a %T, which is no flow that the IPCP uses, to a set of them", core.ErrUsage, f)
}

// Remove implements ipcp.Set.
func (s set) Remove(f ipcp.Flow) {
	if e := memory(f); e != nil {
		s.Set.Remove(e)
	}
}

// Room implements ipcp.Set.
func (s set) Room(f ipcp.Flow, n int) {
	if e := memory(f); e != nil {
		s.Set.Room(e, n)
	}
}

// Park implements ipcp.Set.
func (s set) Park(f ipcp.Flow) {
	if e := memory(f); e != nil {
		s.Set.Park(e)
	}
}

// Unpark implements ipcp.Set.
func (s set) Unpark(f ipcp.Flow) {
	if e := memory(f); e != nil {
		s.Set.Unpark(e)
	}
}

// memory returns the memory of f, nil where that is no flow of this package.
func memory(f ipcp.Flow) *flow.End {
	switch f := f.(type) {
	case *conn:
		return f.End
	case *staged:
		return f.end
	}
	return nil
}
