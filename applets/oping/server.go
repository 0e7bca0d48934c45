package oping

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"o7s/core"
)

// server answers pings on any number of flows.
type server struct {
	idle  time.Duration // a flow ends when this long without a packet
	quiet bool          // no line for each packet
	out   lines
	errs  lines
}

// serve accepts flows from l and answers on them until ctx is done, which is
// no error, or l fails for good. When it returns, l and all flows are closed
// and nothing of it runs.
func (s *server) serve(ctx context.Context, l listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var flows sync.WaitGroup
	defer flows.Wait()
	stop := onDone(ctx, func() { l.Close() })
	defer stop()
	defer cancel()

	s.out.printf("Ouroboros ping server started.\n")
	down := false // told that the IRMd is gone
	for {
		f, err := l.accept()
		switch {
		case err == nil:
			down = false
			s.out.printf("New flow %d.\n", f.FD())
			flows.Go(func() { s.serveFlow(ctx, f) })
		case ctx.Err() != nil:
			return nil
		case temporary(err):
			if !down {
				s.errs.failure(fmt.Errorf("accept a flow: %w; it goes on with what it has, and waits", cause(err)))
			}
			down = true
		default:
			return fmt.Errorf("accept a flow: %w", cause(err))
		}
	}
}

// temporary reports whether err of an accept passes by itself.
func temporary(err error) bool {
	// That net.Error's Temporary is deprecated holds for its vague cases, not
	// for accept.
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary() && !errors.Is(err, net.ErrClosed)
}

// serveFlow answers on f until no packet came for the idle time, or ctx is
// done. That the peer has closed f, or died, ends it no earlier.
func (s *server) serveFlow(ctx context.Context, f flow) {
	// What a Close can say matters to nobody any more: the flow ends, at the
	// latest, with this process.
	defer f.Close()
	stop := onDone(ctx, func() { f.SetDeadline(longAgo) })
	defer stop()

	last, err := s.answerAll(ctx, f)
	if !timedOut(err) {
		if !errors.Is(err, io.EOF) && !errors.Is(err, core.ErrFlowDown) {
			s.errs.failure(fmt.Errorf("flow %d: %w", f.FD(), cause(err)))
		}
		timer := time.NewTimer(time.Until(last.Add(s.idle)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		s.out.printf("Flow %d timed out.\n", f.FD())
	}
}

// answerAll answers the packets of f. It returns when the last one came, and
// an error: a time-out when the idle time is over or ctx is done, and how the
// flow ended otherwise.
func (s *server) answerAll(ctx context.Context, f flow) (last time.Time, err error) {
	buf := make([]byte, core.MaxPacket)
	last = time.Now()
	if err := setDeadline(ctx, f.SetDeadline, last.Add(s.idle)); err != nil {
		return last, err
	}
	for {
		n, err := readBy(ctx, f, buf, last.Add(s.idle))
		if err != nil {
			return last, err
		}
		last = time.Now()
		if !answer(buf[:n]) {
			s.out.printf("Invalid message on fd %d.\n", f.FD())
			continue
		}
		err = writeBy(ctx, f, buf[:n], last.Add(s.idle))
		// Only now: the client measures the time until the answer.
		if !s.quiet {
			s.out.printf("Received %d bytes on fd %d.\n", n, f.FD())
		}
		// A peer that does not read is cut off. Any other error is one of the
		// flow, too; reading tells it, after what the peer has sent before.
		if timedOut(err) {
			return last, err
		}
	}
}
