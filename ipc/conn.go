package ipc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"o7s/core"
	"o7s/ipc/flow"
)

// closeTime bounds how long a Close waits for the IRMd.
const closeTime = 5 * time.Second

// Conn is one end of a flow. It is a net.Conn whose packets keep their
// boundaries: one Write of 1 to MaxPacket bytes is one packet, and Read
// returns bytes of one packet at a time. What a short buffer leaves, the next
// Read returns, so a flow also serves as a byte stream.
//
// A flow within one system loses nothing and keeps order. Several goroutines
// may call every method at once. Errors are *net.OpError around the sentinels
// that each method names; time-outs satisfy os.ErrDeadlineExceeded.
type Conn struct {
	end     *flow.End
	session *session
	id      core.FlowID
	fd      int
	qos     QoS

	local, remote Addr

	closed atomic.Bool
}

var _ net.Conn = (*Conn)(nil)

// Read reads bytes of one packet. It waits for one until the read deadline. It
// returns io.EOF once the peer has closed the flow and every packet before
// that is read; core.ErrFlowDown where the peer, or the IPCP, has died;
// core.ErrCorrupt where the peer broke the rules of the shared memory.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.end.Read(p)
	if err != nil {
		err = c.wrap("read", err)
	}
	return n, err
}

// Write sends p as one packet if it has at most MaxPacket bytes, as several
// otherwise; an empty p sends nothing. On a flow to another system it sends
// packets that no network on the way has to cut, so several too: WritePacket
// keeps p whole. It waits while the ring is full, until
// the write deadline, and returns how many bytes were sent in whole packets.
// After the peer has closed or died the error wraps core.ErrFlowDown.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.end.Write(p)
	if err != nil {
		err = c.wrap("write", err)
	}
	return n, err
}

// ReadPacket reads one packet whole. Where p is too short the error wraps
// io.ErrShortBuffer and the packet stays; a p of MaxPacket bytes is always
// long enough. In all else it is Read.
func (c *Conn) ReadPacket(p []byte) (int, error) {
	n, err := c.end.ReadPacket(p)
	if err != nil {
		err = c.wrap("read", err)
	}
	return n, err
}

// WritePacket sends p as one packet. More than c.MaxPacket() bytes are refused
// with core.ErrUsage. In all else it is Write.
func (c *Conn) WritePacket(p []byte) error {
	if err := c.end.WritePacket(p); err != nil {
		return c.wrap("write", err)
	}
	return nil
}

// CloseWrite says that no more packets come: the peer reads io.EOF after the
// last one. Writing after that returns an error that wraps net.ErrClosed;
// reading goes on. A second CloseWrite does nothing.
func (c *Conn) CloseWrite() error {
	if err := c.end.CloseWrite(); err != nil {
		return c.wrap("close", err)
	}
	return nil
}

// Close deallocates this end of the flow: the peer reads what was written
// before, then io.EOF. Blocked calls return net.ErrClosed. It tells the IRMd and
// does not wait until the IPCP has let go of the end too: Deallocate does. Only
// where the IRMd or the IPCP does not keep up with a program that closes many
// flows at once Close waits for it, at most 5 s. A second Close returns an error
// that wraps net.ErrClosed.
func (c *Conn) Close() error {
	return c.closeWith(func() error {
		c.session.awaitHearing()
		c.session.dealloc(c.id)
		return nil
	})
}

// Deallocate is Close that waits until the IPCP has let go of the end too, so
// that the flow's id is free and no list of flows shows this end any more. Where
// the flow's IRMd has gone there is nobody to wait for. This end is closed also
// where ctx is done first: then the error wraps that of ctx.
func (c *Conn) Deallocate(ctx context.Context) error {
	return c.closeWith(func() error { return c.session.deallocWait(ctx, c.id) })
}

// discard is Close of a Conn that nobody has got. It is called on the link's
// reader, which cannot wait for the IRMd.
func (c *Conn) discard() {
	_ = c.closeWith(func() error { c.session.dealloc(c.id); return nil })
}

// closeWith closes this end, once, and tells the IRMd by tell.
func (c *Conn) closeWith(tell func() error) error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.wrap("close", core.ErrClosed)
	}
	c.end.Close()
	err := tell()
	c.forget()
	if err != nil {
		return c.wrap("close", err)
	}
	return nil
}

// forget takes c out of its session; its descriptor is free again.
func (c *Conn) forget() {
	c.session.drop(c)
	c.session.n.releaseFD(c.fd)
}

// MaxPacket returns the most bytes of a packet on this flow: the constant
// MaxPacket where both ends are on one system, less where a layer carries the
// packets to another one.
func (c *Conn) MaxPacket() int { return c.end.MaxPacket() }

// FD returns the flow descriptor: this process's number for its end, from 64,
// lowest free first. It is no file descriptor of the system's.
func (c *Conn) FD() int { return c.fd }

// ID returns the flow id: the system's number for this end.
func (c *Conn) ID() core.FlowID { return c.id }

// QoS returns what the flow was asked to give.
func (c *Conn) QoS() QoS { return c.qos }

// Counters returns what has passed this end so far.
func (c *Conn) Counters() flow.Counters { return c.end.Counters() }

// LocalAddr returns the name that the flow was accepted under, or "flow N" at
// the end that asked for it.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the name that the flow was allocated to, or "flow N" at
// the end that accepted it.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the read and the write deadline, as net.Conn says.
func (c *Conn) SetDeadline(t time.Time) error { return c.deadline(c.end.SetDeadline(t)) }

// SetReadDeadline sets the deadline of all that reads: it holds for calls that
// wait already, too. The zero time is none.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.deadline(c.end.SetReadDeadline(t)) }

// SetWriteDeadline sets the deadline of all that writes, in the same way.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.deadline(c.end.SetWriteDeadline(t)) }

func (c *Conn) deadline(err error) error {
	if err != nil {
		return c.wrap("set deadline", err)
	}
	return nil
}

// wrap makes err, which is not nil, the public error of op.
func (c *Conn) wrap(op string, err error) error {
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return &net.OpError{Op: op, Net: "o7s", Source: c.local, Addr: c.remote, Err: err}
}
