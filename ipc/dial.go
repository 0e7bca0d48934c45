package ipc

import (
	"context"
	"fmt"
	"time"

	"o7s/core"
	"o7s/ipc/flow"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// answerTime is how much longer than the deadline that it gives the IRMd Dial
// waits, where the caller set none: the IRMd's error says more than a timer's.
const answerTime = 2 * time.Second

// Dial allocates a flow to a process that accepts at name and returns this
// end of it. It waits until that process accepts or refuses, or until ctx is
// done; a ctx without a deadline gets core.AllocTimeout (20 s).
//
// The error is a [*net.OpError] that wraps one of
//   - core.ErrIRMd: no IRMd answers on its socket
//   - core.ErrName, core.ErrIPCP: no layer on this system reaches name
//   - core.ErrNotAllocated: no process is bound to name, or it has ended
//   - core.ErrUsage: name is empty, has a NUL or more than 255 bytes
//   - core.ErrLimit: descriptors or memory have run out
//   - context.Canceled, or os.ErrDeadlineExceeded when time ran out
//
// Any goroutine may call Dial. The caller must Close the Conn: its rings stay
// mapped until then.
func Dial(ctx context.Context, name string, opts ...Option) (*Conn, error) {
	c, err := process.dial(ctx, name, apply(opts))
	if err != nil {
		return nil, opError("dial", Addr(name), err)
	}
	return c, nil
}

func (n *node) dial(ctx context.Context, name string, o options) (*Conn, error) {
	if err := core.CheckName(name); err != nil {
		return nil, err
	}
	timeout := core.AllocTimeout
	if t, ok := ctx.Deadline(); ok {
		if timeout = time.Until(t); timeout <= 0 {
			return nil, core.ErrTimeout
		}
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout+answerTime)
		defer cancel()
	}
	s, err := n.session(ctx)
	if err != nil {
		return nil, err
	}
	req := irmctl.AllocReq{Name: name, QoS: o.qos, Timeout: timeout}
	late := func(r *rpc.Reply[irmctl.Flow]) { s.dealloc(r.Body.ID) }
	r, err := rpc.Do(ctx, s.link, irmctl.Alloc, &req, late)
	if err != nil {
		return nil, err
	}
	c, err := s.open(&r.Body, r.TakeFiles())
	if err != nil {
		s.dealloc(r.Body.ID)
		return nil, fmt.Errorf("flow %d: %w", r.Body.ID, err)
	}
	c.local, c.remote = flowAddr(c.id), Addr(name)
	return c, nil
}

// open maps this process's end of f.
func (s *session) open(f *irmctl.Flow, fds []int) (*Conn, error) {
	end, err := flow.OpenReceived(f.Side, fds, f.Ring)
	if err != nil {
		return nil, err
	}
	c := &Conn{end: end, session: s, id: f.ID, qos: f.QoS, fd: s.n.takeFD()}
	s.add(c)
	return c, nil
}

func flowAddr(id core.FlowID) Addr { return Addr(fmt.Sprintf("flow %d", id)) }
