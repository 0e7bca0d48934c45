// Package flowtest is flows over nothing for tests of the tools, in the virtual
// time of testing/synctest too.
package flowtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"o7s/applets/internal/measure"
	"o7s/core"
)

// Flow is a flow over nothing: Deliver puts packets where ReadPacket finds
// them, and OnWrite gets those of WritePacket.
type Flow struct {
	fd      int
	OnWrite func(p []byte) error // owns p; nil: p is lost
	Largest int                  // bytes of a packet; 0: core.MaxPacket
	OnClose func()               // called by Close, which waits for it; nil: nothing

	mu       sync.Mutex // guards the fields below
	changed  sync.Cond
	in       [][]byte
	readBy   time.Time
	writeBy  time.Time
	end      error // what ReadPacket returns after in
	full     bool  // no room for a packet
	closed   bool
	closings int
	peer     *Flow // nil: none
	set      *Set  // nil: none
}

var _ measure.Flow = (*Flow)(nil)

// NewFlow returns a flow with the descriptor fd and no other end.
func NewFlow(fd int) *Flow {
	f := &Flow{fd: fd}
	f.changed.L = &f.mu
	return f
}

// change runs set with f locked, and wakes the goroutines that wait for f.
func (f *Flow) change(set func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set()
	f.changed.Broadcast()
	if f.set != nil {
		f.set.tell()
	}
}

// Deliver puts p where ReadPacket finds it.
func (f *Flow) Deliver(p []byte) { f.change(func() { f.in = append(f.in, bytes.Clone(p)) }) }

// Fail makes err the end of f, after what was delivered.
func (f *Flow) Fail(err error) { f.change(func() { f.end = err }) }

// SetFull says that there is no room for a packet.
func (f *Flow) SetFull(full bool) {
	f.change(func() { f.full = full })
}

// FD implements measure.Flow.
func (f *Flow) FD() int { return f.fd }

// MaxPacket implements measure.Flow.
func (f *Flow) MaxPacket() int {
	if f.Largest > 0 {
		return f.Largest
	}
	return core.MaxPacket
}

// ReadPacket implements measure.Flow.
func (f *Flow) ReadPacket(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.closed:
			return 0, net.ErrClosed
		case passed(f.readBy):
			return 0, core.ErrTimeout
		case len(f.in) > 0:
			if len(p) < len(f.in[0]) {
				return 0, io.ErrShortBuffer
			}
			n := copy(p, f.in[0])
			f.in = f.in[1:]
			return n, nil
		case f.end != nil:
			return 0, f.end
		}
		f.changed.Wait()
	}
}

// TryReadPacket implements measure.Flow.
func (f *Flow) TryReadPacket(p []byte) (int, error) {
	f.mu.Lock()
	empty := len(f.in) == 0 && f.end == nil && !f.closed
	f.mu.Unlock()
	if empty {
		return 0, nil
	}
	f.SetReadDeadline(time.Time{})
	return f.ReadPacket(p)
}

// WritePacket implements measure.Flow.
func (f *Flow) WritePacket(p []byte) error {
	if err := f.room(); err != nil {
		return err
	}
	if f.OnWrite == nil {
		return nil
	}
	return f.OnWrite(bytes.Clone(p))
}

// TryWritePacket implements measure.Flow.
func (f *Flow) TryWritePacket(p []byte) error {
	f.mu.Lock()
	full := f.full && f.end == nil && !f.closed
	f.mu.Unlock()
	if full {
		return core.ErrLimit
	}
	return f.WritePacket(p)
}

// room waits until f takes a packet.
func (f *Flow) room() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.closed:
			return net.ErrClosed
		case passed(f.writeBy):
			return core.ErrTimeout
		case f.end == io.EOF:
			return fmt.Errorf("%w: %w", core.ErrFlowDown, syscall.EPIPE) // as an ipc.Conn says it
		case f.end != nil:
			return core.ErrFlowDown
		case !f.full:
			return nil
		}
		f.changed.Wait()
	}
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// SetDeadline implements measure.Flow.
func (f *Flow) SetDeadline(t time.Time) error {
	return errors.Join(f.SetReadDeadline(t), f.SetWriteDeadline(t))
}

// SetReadDeadline implements measure.Flow.
func (f *Flow) SetReadDeadline(t time.Time) error { return f.setDeadline(&f.readBy, t) }

// SetWriteDeadline implements measure.Flow.
func (f *Flow) SetWriteDeadline(t time.Time) error { return f.setDeadline(&f.writeBy, t) }

func (f *Flow) setDeadline(which *time.Time, t time.Time) error {
	f.change(func() { *which = t })
	if d := time.Until(t); d > 0 {
		time.AfterFunc(d, func() { f.change(func() {}) })
	}
	return nil
}

// Close implements measure.Flow.
func (f *Flow) Close() error {
	f.change(func() { f.closed = true; f.closings++ })
	if f.OnClose != nil {
		f.OnClose()
	}
	if f.peer != nil {
		f.peer.Fail(io.EOF)
	}
	return nil
}

// Closings returns how often f was closed.
func (f *Flow) Closings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closings
}

// IsClosed reports whether f was closed.
func (f *Flow) IsClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// ReadBatch implements measure.Flow: it reads one packet.
func (f *Flow) ReadBatch(bufs [][]byte, sizes []int) (int, error) {
	n, err := f.ReadPacket(bufs[0])
	if err != nil {
		return 0, err
	}
	sizes[0] = n
	return 1, nil
}

// WriteBatch implements measure.Flow.
func (f *Flow) WriteBatch(packets [][]byte) (int, error) {
	for i, p := range packets {
		if err := f.WritePacket(p); err != nil {
			return i, err
		}
	}
	return len(packets), nil
}

// Pipe returns the two ends of a flow that loses nothing. An OnWrite that a
// test sets may lose and reorder.
func Pipe(a, b int) (*Flow, *Flow) {
	x, y := NewFlow(a), NewFlow(b)
	x.peer, y.peer = y, x
	x.OnWrite = func(p []byte) error { y.Deliver(p); return nil }
	y.OnWrite = func(p []byte) error { x.Deliver(p); return nil }
	return x, y
}

// Set is a measure.FlowSet of Flows.
type Set struct {
	news chan struct{} // holds one where Wait is to look again

	mu      sync.Mutex // guards members; comes before a Flow's
	members []*Flow    // the next to be looked at first
}

var _ measure.FlowSet = (*Set)(nil)

// NewSet returns an empty Set. It has the type of a Network's.
func NewSet() (measure.FlowSet, error) { return &Set{news: make(chan struct{}, 1)}, nil }

// Add implements measure.FlowSet.
func (s *Set) Add(f measure.Flow) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := f.(*Flow)
	if slices.Contains(s.members, m) {
		return core.ErrExists
	}
	if m.IsClosed() {
		return core.ErrClosed
	}
	s.members = append(s.members, m)
	m.change(func() { m.set = s })
	return nil
}

// Remove implements measure.FlowSet.
func (s *Set) Remove(f measure.Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := f.(*Flow)
	s.members = slices.DeleteFunc(s.members, func(o *Flow) bool { return o == m })
	m.change(func() { m.set = nil })
}

// Wait implements measure.FlowSet.
func (s *Set) Wait(ctx context.Context) (measure.Flow, error) {
	for {
		if f := s.next(); f != nil {
			return f, nil
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return nil, core.ContextError(ctx.Err())
		}
	}
}

// next returns a member with something to read and puts it behind the others.
func (s *Set) next() *Flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = slices.DeleteFunc(s.members, (*Flow).IsClosed) // as an ipc.FlowSet does
	i := slices.IndexFunc(s.members, (*Flow).readable)
	if i < 0 {
		return nil
	}
	f := s.members[i]
	s.members = append(slices.Delete(s.members, i, i+1), f)
	return f
}

// readable reports whether there is a packet or an end to read.
func (f *Flow) readable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.in) > 0 || f.end != nil
}

func (s *Set) tell() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Close implements measure.FlowSet.
func (s *Set) Close() error { return nil }

// Listener gives out the flows and errors that are sent to it.
type Listener struct {
	Flows  chan measure.Flow
	Errs   chan error
	Closed chan struct{}
	once   sync.Once
}

var _ measure.Listener = (*Listener)(nil)

// NewListener returns one.
func NewListener() *Listener {
	return &Listener{Flows: make(chan measure.Flow), Errs: make(chan error), Closed: make(chan struct{})}
}

// AcceptFlow implements measure.Listener.
func (l *Listener) AcceptFlow() (measure.Flow, error) {
	select {
	case f := <-l.Flows:
		return f, nil
	case err := <-l.Errs:
		return nil, err
	case <-l.Closed:
		return nil, net.ErrClosed
	}
}

// Close implements measure.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.Closed) })
	return nil
}

// WholeLines is a stream that wants whole lines in each Write.
type WholeLines struct {
	T  testing.TB
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (w *WholeLines) Write(p []byte) (int, error) {
	if !bytes.HasSuffix(p, []byte("\n")) {
		w.T.Errorf("a Write of %q, which is no whole line", p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// String returns what was written.
func (w *WholeLines) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
