package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"o7s/core"
	"o7s/ipc"
)

// Flow is what a tool needs of an ipc.Conn.
type Flow interface {
	FD() int
	MaxPacket() int
	ReadPacket(p []byte) (int, error)
	TryReadPacket(p []byte) (int, error) // 0, nil: nothing now
	WritePacket(p []byte) error
	TryWritePacket(p []byte) error // core.ErrLimit: no room now
	ReadBatch(bufs [][]byte, sizes []int) (int, error)
	WriteBatch(packets [][]byte) (int, error)
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error
}

// Listener is what a server needs of an ipc.Listener.
type Listener interface {
	AcceptFlow() (Flow, error)
	Close() error
}

// FlowSet is what a server of many flows needs of an ipc.FlowSet.
type FlowSet interface {
	Add(f Flow) error
	Remove(f Flow)
	Wait(ctx context.Context) (Flow, error)
	Close() error
}

// Network is what a tool needs of package ipc; tests have one of their own.
type Network struct {
	Dial   func(ctx context.Context, name string, qos core.QoS) (Flow, error)
	Listen func(ctx context.Context) (Listener, error) // for the names bound to the process
	NewSet func() (FlowSet, error)                     // of the flows that Listen's Listener accepts
}

// IPC returns the Network that is package ipc.
func IPC() Network { return Network{dial, listen, newSet} }

// Reach is n.Dial, for packets of size bytes, with an error for people.
func (n Network) Reach(ctx context.Context, name string, qos core.QoS, size int) (Flow, error) {
	f, err := n.Dial(ctx, name, qos)
	if err != nil {
		return nil, fmt.Errorf("allocate a flow to %s: %w", name, Cause(err))
	}
	if most := f.MaxPacket(); size > most {
		f.Close()
		return nil, fmt.Errorf("%w: packets of %d bytes to %s: the way there carries at most %d, so give a smaller --size", core.ErrUsage, size, name, most)
	}
	return f, nil
}

// Start is n.Listen with an error for people: what is "the echo server". It
// returns nil and no error where ctx was done before there was a Listener.
func (n Network) Start(ctx context.Context, what string) (Listener, error) {
	l, err := n.Listen(ctx)
	switch {
	case err == nil:
		return l, nil
	case ctx.Err() != nil:
		return nil, nil
	}
	return nil, fmt.Errorf("start %s: %w", what, Cause(err))
}

func dial(ctx context.Context, name string, qos core.QoS) (Flow, error) {
	c, err := ipc.Dial(ctx, name, ipc.WithQoS(qos))
	if err != nil {
		return nil, err // not c: a nil *ipc.Conn is no nil Flow
	}
	return c, nil
}

func listen(ctx context.Context) (Listener, error) {
	l, err := ipc.Listen(ctx, "")
	if err != nil {
		return nil, err
	}
	return ipcListener{l}, nil
}

type ipcListener struct{ *ipc.Listener }

// AcceptFlow implements Listener.
func (l ipcListener) AcceptFlow() (Flow, error) {
	c, err := l.Listener.AcceptFlow()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func newSet() (FlowSet, error) {
	s, err := ipc.NewFlowSet()
	if err != nil {
		return nil, err
	}
	return ipcSet{s}, nil
}

type ipcSet struct{ *ipc.FlowSet }

// Add implements FlowSet.
func (s ipcSet) Add(f Flow) error { return s.FlowSet.Add(f.(*ipc.Conn)) }

// Remove implements FlowSet.
func (s ipcSet) Remove(f Flow) { s.FlowSet.Remove(f.(*ipc.Conn)) }

// Wait implements FlowSet.
func (s ipcSet) Wait(ctx context.Context) (Flow, error) {
	c, err := s.FlowSet.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// LongAgo, as a deadline, ends what waits on a flow.
var LongAgo = time.Unix(1, 0)

// SetDeadline calls set, a deadline method of a flow, with t, but never takes
// back the LongAgo that somebody has set because ctx is done.
func SetDeadline(ctx context.Context, set func(time.Time) error, t time.Time) error {
	err := set(t)
	if ctx.Err() != nil {
		err = set(LongAgo)
	}
	return err
}

// ReadBy is f.ReadPacket with a deadline that may be another one each time,
// as long as none is earlier than the one before. f's own deadline costs a
// timer, so it is set only when the last one set has passed. Before the first
// call, set f's read deadline to any time not after until.
func ReadBy(ctx context.Context, f Flow, p []byte, until time.Time) (int, error) {
	for {
		n, err := f.ReadPacket(p)
		if err == nil || !TimedOut(err) || ctx.Err() != nil || !time.Now().Before(until) {
			return n, err
		}
		if err := SetDeadline(ctx, f.SetReadDeadline, until); err != nil {
			return 0, err
		}
	}
}

// TimedOut reports whether err says that a deadline passed.
func TimedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Cause returns what err of package ipc says without the operation and the
// addresses, for messages that tell them in words of their own.
func Cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// Ended returns the error for people of a flow to name that ended with err, which
// Read or Write returned: the other end closed it, or it broke.
func Ended(name string, err error) error {
	if Closed(err) {
		return fmt.Errorf("%s closed the flow", name)
	}
	return fmt.Errorf("the flow to %s broke: %w", name, Cause(err))
}

// Closed reports whether err of a Read or a Write says that the other end has
// closed the flow.
func Closed(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) }

// OnDone calls f once ctx is done, unless stop is called before. When stop
// has returned, f has ended or will never be called.
func OnDone(ctx context.Context, f func()) (stop func()) {
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(ended)
		f()
	})
	return func() {
		if !cancel() {
			<-ended
		}
	}
}
