package oping

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
)

// fakeFlow is a flow over nothing: deliver puts packets where ReadPacket finds
// them, and onWrite gets those of WritePacket.
type fakeFlow struct {
	fd      int
	onWrite func(p []byte) error // owns p; nil: p is lost

	mu       sync.Mutex // guards the fields below
	changed  sync.Cond
	in       [][]byte
	readBy   time.Time
	writeBy  time.Time
	end      error // what ReadPacket returns after in
	full     bool  // no room for a packet
	closed   bool
	closings int
}

func newFakeFlow(fd int) *fakeFlow {
	f := &fakeFlow{fd: fd}
	f.changed.L = &f.mu
	return f
}

// change runs set with f locked and wakes who waits.
func (f *fakeFlow) change(set func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set()
	f.changed.Broadcast()
}

func (f *fakeFlow) deliver(p []byte) { f.change(func() { f.in = append(f.in, bytes.Clone(p)) }) }
func (f *fakeFlow) fail(err error)   { f.change(func() { f.end = err }) }
func (f *fakeFlow) setFull(full bool) {
	f.change(func() { f.full = full })
}

func (f *fakeFlow) FD() int { return f.fd }

func (f *fakeFlow) ReadPacket(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.closed:
			return 0, net.ErrClosed
		case passed(f.readBy):
			return 0, core.ErrTimeout
		case len(f.in) > 0:
			n := copy(p, f.in[0])
			f.in = f.in[1:]
			return n, nil
		case f.end != nil:
			return 0, f.end
		}
		f.changed.Wait()
	}
}

func (f *fakeFlow) WritePacket(p []byte) error {
	if err := f.room(); err != nil {
		return err
	}
	if f.onWrite == nil {
		return nil
	}
	return f.onWrite(bytes.Clone(p))
}

// room waits until f takes a packet.
func (f *fakeFlow) room() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.closed:
			return net.ErrClosed
		case passed(f.writeBy):
			return core.ErrTimeout
		case f.end != nil:
			return core.ErrFlowDown
		case !f.full:
			return nil
		}
		f.changed.Wait()
	}
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (f *fakeFlow) SetDeadline(t time.Time) error {
	return errors.Join(f.SetReadDeadline(t), f.SetWriteDeadline(t))
}

func (f *fakeFlow) SetReadDeadline(t time.Time) error  { return f.setDeadline(&f.readBy, t) }
func (f *fakeFlow) SetWriteDeadline(t time.Time) error { return f.setDeadline(&f.writeBy, t) }

func (f *fakeFlow) setDeadline(which *time.Time, t time.Time) error {
	f.change(func() { *which = t })
	if d := time.Until(t); d > 0 {
		time.AfterFunc(d, func() { f.change(func() {}) })
	}
	return nil
}

func (f *fakeFlow) Close() error {
	f.change(func() { f.closed = true; f.closings++ })
	return nil
}

func (f *fakeFlow) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// echo answers each packet written to f after the delay for its number, from
// 0; below 0 it never does.
func echo(f *fakeFlow, delay func(n int) time.Duration) {
	n := -1
	f.onWrite = func(p []byte) error {
		n++
		d := delay(n)
		if d < 0 || !answer(p) {
			return nil
		}
		if d == 0 {
			f.deliver(p)
		} else {
			time.AfterFunc(d, func() { f.deliver(p) })
		}
		return nil
	}
}

// always returns a delay for echo that is d for each packet.
func always(d time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return d }
}

// fakeListener gives out the flows and errors that are sent to it.
type fakeListener struct {
	flows  chan flow
	errs   chan error
	closed chan struct{}
	once   sync.Once
}

func newFakeListener() *fakeListener {
	return &fakeListener{flows: make(chan flow), errs: make(chan error), closed: make(chan struct{})}
}

func (l *fakeListener) accept() (flow, error) {
	select {
	case f := <-l.flows:
		return f, nil
	case err := <-l.errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// wholeLines is a stream that wants whole lines in each Write.
type wholeLines struct {
	t  *testing.T
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *wholeLines) Write(p []byte) (int, error) {
	if !bytes.HasSuffix(p, []byte("\n")) {
		w.t.Errorf("a Write of %q, which is no whole line", p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *wholeLines) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// A readBy must neither return early nor set a deadline for each packet.
func TestReadBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, f, buf := t.Context(), newFakeFlow(64), make([]byte, 8)
		f.SetReadDeadline(time.Now())
		start := time.Now()
		time.AfterFunc(2*time.Second, func() { f.deliver([]byte("two")) })
		if n, err := readBy(ctx, f, buf, start.Add(3*time.Second)); string(buf[:n]) != "two" || err != nil {
			t.Fatalf("readBy = %q, %v", buf[:n], err)
		}
		if _, err := readBy(ctx, f, buf, start.Add(5*time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("readBy: error %v, want a time-out", err)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("the time-out came after %v, want 5s", d)
		}
	})
}

// Whoever ends the context ends the wait, also when a deadline is set just
// then.
func TestSetDeadlineAfterDone(t *testing.T) {
	f := newFakeFlow(64)
	ctx, cancel := context.WithCancel(t.Context())
	stop := onDone(ctx, func() { f.SetDeadline(longAgo) })
	cancel()
	stop()
	setDeadline(ctx, f.SetReadDeadline, time.Now().Add(time.Hour))
	if _, err := readBy(ctx, f, nil, time.Now().Add(time.Hour)); !timedOut(err) {
		t.Errorf("readBy: error %v, want a time-out", err)
	}
}

func TestOnDoneStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stop := onDone(ctx, func() { t.Error("called after stop") })
	stop()
	cancel()
}
