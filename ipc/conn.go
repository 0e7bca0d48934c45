package ipc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/frct"
	"o7s/core/ipcp"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

// closeTime bounds how long a Close waits for the IRMd.
const closeTime = 5 * time.Second

// Conn is one end of a flow. It is a net.Conn whose packets keep their
// boundaries: one Write of 1 to MaxPacket bytes is one packet, and Read
// returns bytes of one packet at a time. What a short buffer leaves, the next
// Read returns, so a flow also serves as a byte stream.
//
// A flow within one system loses nothing and keeps order. One to another system
// loses nothing with QoSData; it keeps order with QoSBest, QoSVideo and QoSVoice
// too; with others it gives what its layer gives. Several goroutines
// may call every method at once. Errors are *net.OpError around the sentinels
// that each method names; time-outs satisfy os.ErrDeadlineExceeded.
type Conn struct {
	io      packets // stage where there is one, else end
	end     *flow.End
	stage   *stage.Stage // nil where the memory, or the layer, gives all that was asked for
	session *session
	id      core.FlowID
	fd      int
	qos     QoS
	cipher  crypt.Cipher
	peer    string
	path    ipcp.Path

	local, remote Addr

	closed atomic.Bool
}

var _ net.Conn = (*Conn)(nil)

// packets is one end of a flow as a program uses it.
type packets interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	ReadPacket(p []byte) (int, error)
	WritePacket(p []byte) error
	TryReadPacket(p []byte) (int, error)
	TryWritePacket(p []byte) error
	ReadBatch(bufs [][]byte, sizes []int) (int, error)
	WriteBatch(packets [][]byte) (int, error)
	Peek() ([]byte, error)
	Release() error
	Reserve(n int) ([]byte, error)
	Commit(n int) error
	CloseWrite() error
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	MaxPacket() int
	Counters() flow.Counters
}

var (
	_ packets = (*flow.End)(nil)
	_ packets = (*stage.Stage)(nil)
)

// Read reads bytes of one packet. It waits for one until the read deadline. It
// returns io.EOF once the peer has closed the flow and every packet before
// that is read; core.ErrFlowDown where the peer, or the IPCP, has died, or where
// the flow ended before all that its QoS promises has come; core.ErrFlowPeer where
// the peer's system is silent; core.ErrCorrupt where the peer broke the rules of
// the shared memory. A peer on a system of the C prototype does not say that it
// has closed the flow: it is silent.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.io.Read(p)
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
	n, err := c.io.Write(p)
	if err != nil {
		err = c.wrap("write", err)
	}
	return n, err
}

// ReadPacket reads one packet whole. Where p is too short the error wraps
// io.ErrShortBuffer and the packet stays; a p of MaxPacket bytes is always
// long enough. In all else it is Read.
func (c *Conn) ReadPacket(p []byte) (int, error) {
	n, err := c.io.ReadPacket(p)
	if err != nil {
		err = c.wrap("read", err)
	}
	return n, err
}

// WritePacket sends p as one packet. More than c.MaxPacket() bytes are refused
// with core.ErrUsage. In all else it is Write.
func (c *Conn) WritePacket(p []byte) error {
	if err := c.io.WritePacket(p); err != nil {
		return c.wrap("write", err)
	}
	return nil
}

// CloseWrite says that no more packets come: the peer reads io.EOF after the
// last one. Writing after that returns an error that wraps net.ErrClosed;
// reading goes on. A second CloseWrite does nothing.
func (c *Conn) CloseWrite() error {
	if err := c.io.CloseWrite(); err != nil {
		return c.wrap("close", err)
	}
	return nil
}

// Close deallocates this end of the flow: the peer reads what was written before, then
// io.EOF. Blocked calls return net.ErrClosed. Close tells the IRMd, and does not wait until
// the IPCP has deallocated the flow too: Deallocate does. If a program closes many flows at
// once, and the IRMd or the IPCP does not keep up, Close waits for it, at most 5 s. A
// second Close returns an error that wraps net.ErrClosed.
//
// On a flow to another system that loses nothing Close first waits until the other
// end has acknowledged all that was written, as SetLinger says.
func (c *Conn) Close() error {
	return c.closeWith(true, func() error {
		c.session.awaitHearing()
		c.session.dealloc(c.id)
		return nil
	})
}

// Deallocate is Close that also waits until the IPCP has deallocated the flow. Then the
// flow's id is free, and no list of flows shows this end any more. If the flow's IRMd has
// gone Deallocate does not wait. If ctx is done first this end is closed all the same, and
// the error wraps that of ctx.
func (c *Conn) Deallocate(ctx context.Context) error {
	return c.closeWith(true, func() error { return c.session.deallocWait(ctx, c.id) })
}

// discard is Close of a Conn that no caller has got. The link's reader calls it, which
// cannot wait for the IRMd or the other end.
func (c *Conn) discard() {
	_ = c.closeWith(false, func() error { c.session.dealloc(c.id); return nil })
}

// closeWith closes this end, once, and calls tell, which tells the IRMd. linger says that
// closeWith may wait for the other end.
func (c *Conn) closeWith(linger bool, tell func() error) error {
	if !c.closed.CompareAndSwap(false, true) {
		return c.wrap("close", core.ErrClosed)
	}
	switch {
	case c.stage == nil:
		c.end.Close()
	case linger:
		c.stage.Close()
	default:
		c.stage.Discard()
	}
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
func (c *Conn) MaxPacket() int { return c.io.MaxPacket() }

// Path returns what the layer of the flow knows of the way to the other end. It is
// zero where both ends are on one system.
func (c *Conn) Path() ipcp.Path { return c.path }

// Memory returns this end of the flow's memory, for the process of a layer, which
// serves many flows and waits for none. The Conn is still the one to Close. direct
// reports whether packets are in the memory as the program has them: else more is
// between, order, a cipher or a check of the bits, and only the Conn reads and writes.
func (c *Conn) Memory() (end *flow.End, direct bool) { return c.end, c.stage == nil }

// Join makes c a member of set, which returns value for it, as its Add does.
func (c *Conn) Join(set *flow.Set, value any) error {
	if c.stage != nil {
		return c.stage.Join(set, value)
	}
	return set.Add(c.end, value)
}

// FD returns the flow descriptor: this process's number for its end, from 64,
// lowest free first. It is no file descriptor of the system's.
func (c *Conn) FD() int { return c.fd }

// ID returns the flow id: the system's number for this end.
func (c *Conn) ID() core.FlowID { return c.id }

// QoS returns what the flow was asked to give.
func (c *Conn) QoS() QoS { return c.qos }

// Peer returns the common name in the certificate of the other end, which that end
// has proved to hold and a CA that this system trusts has signed; "" if it has shown
// none. At the end that asked for the flow it is the name that was asked for. A
// server may decide by it what a client may do. Between processes of one system
// there are no certificates.
func (c *Conn) Peer() string { return c.peer }

// Cipher returns the name of the cipher that encrypts the packets, aes-256-gcm for
// instance; "" if they are plain, as they are within one system.
func (c *Conn) Cipher() string {
	if c.cipher == 0 {
		return ""
	}
	return c.cipher.String()
}

// Counters returns what has passed this end so far.
func (c *Conn) Counters() flow.Counters { return c.io.Counters() }

// OrderStats returns how the protocol that keeps packets in order stands: what was
// sent again, what is missing, the windows, the round trip. It returns false where
// there is none: on a flow within one system, and where the QoS asks for no order.
func (c *Conn) OrderStats() (frct.Stats, bool) {
	if c.stage == nil {
		return frct.Stats{}, false
	}
	return c.stage.Stats()
}

// SetLinger sets how long Close waits until the other end has acknowledged all
// that was written: 2 s before the first SetLinger, and not at all with 0. What is
// not acknowledged then is lost, and the other end reads core.ErrFlowDown where its
// system is one of this project. On flows that do not acknowledge it changes nothing.
func (c *Conn) SetLinger(d time.Duration) {
	if c.stage != nil {
		c.stage.SetLinger(d)
	}
}

// LocalAddr returns the name that the flow was accepted under, or "flow N" at
// the end that asked for it.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the name that the flow was allocated to, or "flow N" at
// the end that accepted it.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets the read and the write deadline, as net.Conn says.
func (c *Conn) SetDeadline(t time.Time) error { return c.deadline(c.io.SetDeadline(t)) }

// SetReadDeadline sets the deadline of all that reads: it holds for calls that
// wait already, too. The zero time is none.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.deadline(c.io.SetReadDeadline(t)) }

// SetWriteDeadline sets the deadline of all that writes, in the same way.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.deadline(c.io.SetWriteDeadline(t)) }

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
