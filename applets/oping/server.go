package oping

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"o7s/applets/internal/measure"
	"o7s/core"
)

// server answers pings on any number of flows. One goroutine answers them in
// turn: a set tells it which flow has a packet. Another goroutine accepts flows.
// Neither may wait, so other goroutines close flows, which may wait for the IRMd,
// and write to peers that do not read.
type server struct {
	idle  time.Duration // a flow ends when this long without a packet
	quiet bool          // no line for each packet
	out   *measure.Lines
	errs  *measure.Lines

	set   measure.FlowSet // of those that are read
	apart sync.WaitGroup

	mu     sync.Mutex                     // guards the fields below
	guests map[measure.Flow]*list.Element // all flows, in order
	order  list.List                      // of *guest, the one that is silent longest first
}

// guest is a flow that is served.
type guest struct {
	flow measure.Flow
	last time.Time // when its last packet came, or it did
}

// newServer returns a server as cfg says, with an empty set of its own. The
// caller sets the streams.
func newServer(cfg *config, set measure.FlowSet) *server {
	return &server{idle: cfg.idle, quiet: cfg.quiet, set: set, guests: make(map[measure.Flow]*list.Element)}
}

// serve accepts flows from l until ctx is done, which is no error, or l fails
// for good. When it returns, l and all flows are closed and nothing of it runs.
func (s *server) serve(ctx context.Context, l measure.Listener) error {
	s.out.Printf("Ouroboros ping server started.\n")
	ctx, cancel := context.WithCancel(ctx)
	var answering sync.WaitGroup
	answering.Go(func() { s.answerAll(ctx) })
	err := measure.Accept(ctx, l, s.errs, s.admit)
	cancel()
	answering.Wait()
	for f := range s.guests {
		s.end(f)
	}
	s.apart.Wait()
	return err
}

// admit takes f among the flows that are served.
func (s *server) admit(f measure.Flow) {
	s.out.Printf("New flow %d.\n", f.FD())
	s.mu.Lock()
	s.guests[f] = s.order.PushBack(&guest{f, time.Now()})
	s.mu.Unlock()
	if err := s.set.Add(f); err != nil {
		s.fail(f, err) // nobody reads it, and its time runs out
	}
}

// answerAll answers on all flows, and ends each when its time has run out, until
// ctx is done.
func (s *server) answerAll(ctx context.Context) {
	buf := make([]byte, core.MaxPacket)
	for ctx.Err() == nil {
		until := s.expire(time.Now())
		// A packet only postpones the end of its flow, and a new flow ends
		// later than all others. So one timer for the next end is enough.
		wait, cancel := context.WithDeadline(ctx, until)
		for now := (time.Time{}); now.Before(until) && ctx.Err() == nil; {
			f, err := s.set.Wait(wait)
			if err != nil {
				break
			}
			now = s.answer(f, buf)
		}
		cancel()
	}
}

// expire ends the flows whose time has run out and returns when the next one's
// may.
func (s *server) expire(now time.Time) (next time.Time) {
	next = now.Add(s.idle)
	var over []measure.Flow
	s.mu.Lock()
	for e := s.order.Front(); e != nil; e = s.order.Front() {
		g := e.Value.(*guest)
		if end := g.last.Add(s.idle); now.Before(end) {
			next = end
			break
		}
		s.order.Remove(e)
		delete(s.guests, g.flow)
		over = append(over, g.flow)
	}
	s.mu.Unlock()
	for _, f := range over {
		s.out.Printf("Flow %d timed out.\n", f.FD())
		s.end(f)
	}
	return next
}

// end closes f, and does not wait for that.
func (s *server) end(f measure.Flow) {
	s.set.Remove(f)
	// The error of Close does not matter: the flow ends with this process at
	// the latest.
	s.apart.Go(func() { f.Close() })
}

// answer answers a packet of f, which the set gave out; buf is to read it. It
// returns when that was.
func (s *server) answer(f measure.Flow, buf []byte) (now time.Time) {
	n, err := f.TryReadPacket(buf)
	now = time.Now()
	if err != nil {
		// f stays open until its time runs out, also if the peer is gone.
		s.set.Remove(f)
		s.fail(f, err)
	}
	if n == 0 || !s.heard(f, now) {
		return now
	}
	p := buf[:n]
	if refusal := measure.Refuse(p, "an oping server"); refusal != nil {
		s.write(f, refusal)
		s.out.Printf("Invalid message on fd %d.\n", f.FD())
		return now
	}
	if !answer(p) {
		s.out.Printf("Invalid message on fd %d.\n", f.FD())
		return now
	}
	s.write(f, p)
	// Only now: the client measures the time until the answer.
	if !s.quiet {
		s.out.Printf("Received %d bytes on fd %d.\n", n, f.FD())
	}
	return now
}

// heard notes that a packet of f came; false where f's time had run out before.
func (s *server) heard(f measure.Flow, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.guests[f]
	if e == nil {
		return false
	}
	e.Value.(*guest).last = now
	s.order.MoveToBack(e)
	return true
}

// write sends p on f. If the peer does not read, another goroutine waits for
// room. f leaves the set until there is room, or until its time runs out and f
// is closed.
func (s *server) write(f measure.Flow, p []byte) {
	// Any other error is the flow's. The next read tells it, after the packets
	// that came before.
	if err := f.TryWritePacket(p); err == nil || !errors.Is(err, core.ErrLimit) {
		return
	}
	s.set.Remove(f)
	p = bytes.Clone(p)
	s.apart.Go(func() {
		_ = f.WritePacket(p) // reading tells of this error, too
		_ = s.set.Add(f)     // an error: it is closed
	})
}

// fail tells err of f, unless it is an end that any flow may have.
func (s *server) fail(f measure.Flow, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, core.ErrFlowDown) || errors.Is(err, net.ErrClosed) {
		return
	}
	s.errs.Failure(fmt.Errorf("flow %d: %w", f.FD(), measure.Cause(err)))
}
