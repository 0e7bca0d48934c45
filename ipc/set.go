package ipc

import (
	"context"

	"o7s/ipc/flow"
)

// FlowSet waits for many flows at once: a server of thousands needs one
// goroutine, not one for each. A flow is given out when there is something to
// read of it, a packet or its end, and comes again, behind the others, while
// there is more: one that sends much keeps nobody waiting.
//
//	for {
//		c, err := set.Wait(ctx)
//		if err != nil {
//			return err
//		}
//		n, err := c.ReadPacket(p) // does not wait
//		...
//	}
//
// Read one packet, or a few, of a flow that was given out, then ask for the
// next. One that has ended comes again until it is closed or removed. Nobody
// else reads the flows of a set. Its methods may be called by
// several goroutines at once.
type FlowSet struct{ set *flow.Set }

// NewFlowSet returns an empty FlowSet. It takes one descriptor and one
// goroutine, whatever it holds; the error wraps core.ErrLimit where there is no
// descriptor left. The caller must Close it.
func NewFlowSet() (*FlowSet, error) {
	s, err := flow.NewSet()
	if err != nil {
		return nil, opError("make flow set", nil, err)
	}
	return &FlowSet{s}, nil
}

// Add makes c a member. The error wraps core.ErrExists if c is in a set
// already, core.ErrClosed if c or the set is closed, core.ErrLimit where the
// system watches no more.
func (s *FlowSet) Add(c *Conn) error {
	if err := c.Join(s.set, c); err != nil {
		return c.wrap("add to flow set", err)
	}
	return nil
}

// Remove takes c out of the set; so does Close of c.
func (s *FlowSet) Remove(c *Conn) { s.set.Remove(c.end) }

// Len returns the number of members.
func (s *FlowSet) Len() int { return s.set.Len() }

// Ready returns a channel for a select statement. It receives a value when Next may have a
// flow. The receiver then calls Next until it returns nil.
func (s *FlowSet) Ready() <-chan struct{} { return s.set.Ready() }

// Next returns the next flow that has something to read, in turn, or nil. It
// does not wait.
func (s *FlowSet) Next() *Conn {
	c, ok := s.set.Next()
	if !ok {
		return nil
	}
	return c.(*Conn)
}

// Wait is Next that waits. Its error wraps net.ErrClosed after Close, else it
// is that of ctx.
func (s *FlowSet) Wait(ctx context.Context) (*Conn, error) {
	c, err := s.set.Wait(ctx)
	if err != nil {
		return nil, opError("wait for flow set", nil, err)
	}
	return c.(*Conn), nil
}

// Close ends the set; its flows go on without it. A blocked Wait returns. A
// second Close does nothing and returns nil.
func (s *FlowSet) Close() error { return s.set.Close() }
