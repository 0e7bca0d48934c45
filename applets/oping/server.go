package oping

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"o7s/applets/internal/measure"
	"o7s/core"
)

// server answers pings on any number of flows.
type server struct {
	idle  time.Duration // a flow ends when this long without a packet
	quiet bool          // no line for each packet
	out   *measure.Lines
	errs  *measure.Lines
}

// serve accepts flows from l until ctx is done, which is no error, or l fails
// for good. When it returns, l and all flows are closed and nothing of it runs.
func (s *server) serve(ctx context.Context, l measure.Listener) error {
	s.out.Printf("Ouroboros ping server started.\n")
	return measure.Serve(ctx, l, s.errs, s.serveFlow)
}

// serveFlow answers on f until no packet came for the idle time, or ctx is
// done. That the peer has closed f, or died, ends it no earlier.
func (s *server) serveFlow(ctx context.Context, f measure.Flow) {
	s.out.Printf("New flow %d.\n", f.FD())
	// What a Close can say matters to nobody any more: the flow ends, at the
	// latest, with this process.
	defer f.Close()
	stop := measure.OnDone(ctx, func() { f.SetDeadline(measure.LongAgo) })
	defer stop()

	last, err := s.answerAll(ctx, f)
	if !measure.TimedOut(err) {
		if !errors.Is(err, io.EOF) && !errors.Is(err, core.ErrFlowDown) {
			s.errs.Failure(fmt.Errorf("flow %d: %w", f.FD(), measure.Cause(err)))
		}
		timer := time.NewTimer(time.Until(last.Add(s.idle)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		s.out.Printf("Flow %d timed out.\n", f.FD())
	}
}

// answerAll answers the packets of f. It returns when the last one came, and
// an error: a time-out when the idle time is over or ctx is done, and how the
// flow ended otherwise.
func (s *server) answerAll(ctx context.Context, f measure.Flow) (last time.Time, err error) {
	buf := make([]byte, core.MaxPacket)
	last = time.Now()
	if err := measure.SetDeadline(ctx, f.SetDeadline, last.Add(s.idle)); err != nil {
		return last, err
	}
	for {
		n, err := measure.ReadBy(ctx, f, buf, last.Add(s.idle))
		if err != nil {
			return last, err
		}
		last = time.Now()
		if refusal := measure.Refuse(buf[:n], "an oping server"); refusal != nil {
			// Reading tells of an error, too.
			_ = measure.WriteBy(ctx, f, refusal, last.Add(s.idle))
			s.out.Printf("Invalid message on fd %d.\n", f.FD())
			continue
		}
		if !answer(buf[:n]) {
			s.out.Printf("Invalid message on fd %d.\n", f.FD())
			continue
		}
		err = measure.WriteBy(ctx, f, buf[:n], last.Add(s.idle))
		// Only now: the client measures the time until the answer.
		if !s.quiet {
			s.out.Printf("Received %d bytes on fd %d.\n", n, f.FD())
		}
		// A peer that does not read is cut off. Any other error is one of the
		// flow, too; reading tells it, after what the peer has sent before.
		if measure.TimedOut(err) {
			return last, err
		}
	}
}
