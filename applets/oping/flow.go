package oping

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"o7s/core/logs"
)

// flow is what client and server need of an ipc.Conn.
type flow interface {
	FD() int
	ReadPacket(p []byte) (int, error)
	WritePacket(p []byte) error
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error
}

// listener is what the server needs of an ipc.Listener.
type listener interface {
	accept() (flow, error)
	Close() error
}

// longAgo, as a deadline, ends what waits on a flow.
var longAgo = time.Unix(1, 0)

// setDeadline calls set, a deadline method of a flow, with t, but never takes
// back the longAgo that somebody has set because ctx is done.
func setDeadline(ctx context.Context, set func(time.Time) error, t time.Time) error {
	err := set(t)
	if ctx.Err() != nil {
		err = set(longAgo)
	}
	return err
}

// readBy is f.ReadPacket with a deadline that may be another one each time,
// as long as none is earlier than the one before. f's own deadline costs a
// timer, so it is set only when the last one set has passed. Before the first
// call, set f's read deadline to any time not after until.
func readBy(ctx context.Context, f flow, p []byte, until time.Time) (int, error) {
	for {
		n, err := f.ReadPacket(p)
		if err == nil || !timedOut(err) || ctx.Err() != nil || !time.Now().Before(until) {
			return n, err
		}
		if err := setDeadline(ctx, f.SetReadDeadline, until); err != nil {
			return 0, err
		}
	}
}

// writeBy is to f.WritePacket what readBy is to f.ReadPacket.
func writeBy(ctx context.Context, f flow, p []byte, until time.Time) error {
	for {
		err := f.WritePacket(p)
		if err == nil || !timedOut(err) || ctx.Err() != nil || !time.Now().Before(until) {
			return err
		}
		if err := setDeadline(ctx, f.SetWriteDeadline, until); err != nil {
			return err
		}
	}
}

// timedOut reports whether err says that a deadline passed.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// cause returns what err of package ipc says without the operation and the
// addresses, for messages that tell them in words of their own.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// onDone calls f once ctx is done, unless stop is called before. When stop
// has returned, f has ended or will never be called.
func onDone(ctx context.Context, f func()) (stop func()) {
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

// lines writes lines for people, each with one Write, so that those of
// several goroutines and processes never mix. An error of the stream has
// nowhere to go.
type lines struct {
	prefix string
	w      io.Writer

	mu  sync.Mutex // guards buf; held across the Write
	buf []byte
}

// printf writes what fmt.Printf would.
func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf[:0], l.prefix...)
	l.buf = fmt.Appendf(l.buf, format, args...)
	_, _ = l.w.Write(l.buf)
}

// failure writes err as one line.
func (l *lines) failure(err error) { l.printf("%s\n", logs.Escape(err.Error())) }
