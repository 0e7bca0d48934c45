package ipc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// answerTime is how much longer than the deadline that it gives the IRMd Dial
// waits, where the caller set none: the IRMd's error says more than a timer's.
const answerTime = 2 * time.Second

// Dial allocates a flow to a process that accepts at name and returns this
// end of it. It waits until that process accepts, which its Listener does ahead
// of the program, or refuses, or until ctx is done; a ctx without a deadline gets
// core.AllocTimeout (20 s).
//
// The error is a [*net.OpError] that wraps one of
//   - core.ErrIRMd: no IRMd answers on its socket
//   - core.ErrName, core.ErrIPCP: no layer on this system reaches name
//   - core.ErrNotAllocated: no process is bound to name, or it has ended. One
//     that ends, or has no descriptors left, when the flow is on its way to it
//     already shows in the flow, as core.ErrFlowDown.
//   - core.ErrCrypt, core.ErrAuth: the two systems do not agree on how the flow is
//     protected, or the other one is not who it should be
//   - core.ErrQoS: the layer cannot give the QoS that was asked for
//   - core.ErrUsage: name is empty, has a NUL or more than 255 bytes
//   - core.ErrLimit: descriptors or memory have run out
//   - context.Canceled, or os.ErrDeadlineExceeded when time ran out
//
// Any goroutine may call Dial. The caller must Close the Conn: its rings stay
// mapped until then.
func Dial(ctx context.Context, name string, opts ...Option) (*Conn, error) {
	return process.dial(ctx, name, opts)
}

func (n *node) dial(ctx context.Context, name string, opts []Option) (*Conn, error) {
	c, err := n.alloc(ctx, name, apply(opts))
	if err != nil {
		return nil, opError("dial", Addr(name), err)
	}
	return c, nil
}

func (n *node) alloc(ctx context.Context, name string, o options) (*Conn, error) {
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
	if err := s.allocs.enter(ctx); err != nil {
		return nil, err
	}
	defer s.allocs.leave(1)
	return s.alloc(ctx, &irmctl.AllocReq{Name: name, QoS: o.qos, Timeout: timeout})
}

// alloc asks the IRMd for a flow.
func (s *session) alloc(ctx context.Context, req *irmctl.AllocReq) (*Conn, error) {
	var c *Conn
	var err error
	var over atomic.Bool // either side has ended the wait; the first counts
	got := make(chan struct{})
	pending := rpc.Go(s.link, irmctl.Alloc, req, func(r *rpc.Reply[irmctl.Flow], failed error) {
		// On the link's reader: the IRMd's word that the flow has ended can
		// be the next message, and must find the Conn.
		if err = failed; err == nil {
			c, err = s.open(&r.Body, r.TakeFiles(), "", req.Name)
		}
		if over.CompareAndSwap(false, true) {
			close(got)
		} else if c != nil {
			c.discard()
		}
	})
	select {
	case <-got:
		return c, err
	case <-ctx.Done():
	}
	if !over.CompareAndSwap(false, true) {
		<-got
		return c, err
	}
	pending.Cancel()
	if e := core.ContextError(ctx.Err()); e != core.ErrTimeout {
		return nil, e
	}
	return nil, fmt.Errorf("%w: no process accepted the flow to %q in time", core.ErrTimeout, req.Name)
}

// open maps this process's end of f, accepted under the name local or asked
// for under the name remote. Where it fails f is given up. It is called on the
// link's reader.
func (s *session) open(f *irmctl.Flow, fds []int, local, remote string) (*Conn, error) {
	seal, fds, err := openSeal(f, fds, local == "")
	var end *flow.End
	if err == nil {
		end, err = flow.OpenReceived(f.Side, fds, f.Ring)
	}
	if err != nil {
		s.dealloc(f.ID)
		return nil, fmt.Errorf("flow %d: %w", f.ID, err)
	}
	if f.Path.Max > 0 {
		end.Bound(f.Path.Max, f.Path.Best)
	}
	c := &Conn{io: end, end: end, session: s, id: f.ID, qos: f.QoS, path: f.Path, cipher: f.Cipher, peer: f.CN, fd: s.n.takeFD(), local: Addr(local), remote: Addr(remote)}
	if number := Addr(fmt.Sprintf("flow %d", f.ID)); local == "" {
		c.local = number
	} else {
		c.remote = number
	}
	if cfg := (stage.Config{QoS: f.QoS, Ours: f.Ours, Path: f.Path, Ring: f.Ring, Seal: seal}); stage.Needed(cfg) {
		c.stage = stage.New(end, cfg)
		c.io = c.stage
	}
	s.add(c)
	return c, nil
}

// openSeal returns what seals the packets of f, nil if they are plain, and the
// descriptors without that of the key. asked is set at the end that asked for f.
// Where it fails all descriptors are closed.
func openSeal(f *irmctl.Flow, fds []int, asked bool) (*crypt.Conn, []int, error) {
	const of = 2 // descriptors of a plain flow
	if f.Cipher == 0 || len(fds) == 0 {
		return nil, fds, nil // without descriptors OpenReceived says why
	}
	var seal *crypt.Conn
	err := fmt.Errorf("%w: an encrypted flow comes with %d descriptors, this one with %d", core.ErrMessage, of+1, len(fds))
	if len(fds) == of+1 {
		var key *crypt.Key
		if key, err = irmctl.TakeKey(fds[of]); err == nil {
			seal, err = crypt.New(crypt.Config{Cipher: f.Cipher, Key: key, Ours: f.Ours, Asked: asked})
			key.Zero()
		}
		fds = fds[:of]
	}
	if err == nil && f.Path.Max <= seal.Overhead() {
		err = fmt.Errorf("%w: an encrypted flow within one system", core.ErrMessage)
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, nil, err
	}
	return seal, fds, nil
}
