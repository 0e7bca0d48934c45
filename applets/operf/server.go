package operf

import (
	"context"
	"fmt"
	"sync"
	"time"

	"o7s/applets/internal/measure"
)

// server takes part in one test at a time, which may have several flows.
type server struct {
	out   *output
	every time.Duration

	mu   sync.Mutex // guards the fields below
	test string     // the test that runs
	left int        // flows of it that are not through; 0: no test runs
}

// enter takes a flow into the test of p. It reports false while another runs.
func (s *server) enter(p *plan, fd int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.base {
		p.Test = fmt.Sprint("flow ", fd)
	}
	if s.left > 0 && s.test != p.Test {
		return false
	}
	s.test = p.Test
	s.left++
	return true
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left--
}

// serveFlow serves one flow to its end.
func (s *server) serveFlow(ctx context.Context, f measure.Flow) {
	// The error of Close does not matter: the flow ends with this process at
	// the latest.
	defer f.Close()
	s.out.people("New flow %d.\n", f.FD())
	stop := measure.OnDone(ctx, func() { _ = f.SetDeadline(measure.LongAgo) })
	p, err := s.first(ctx, f)
	stop()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.out.errs.Failure(fmt.Errorf("flow %d: %w", f.FD(), err))
		return
	}
	if !s.enter(p, f.FD()) {
		s.out.errs.Failure(fmt.Errorf("flow %d: refused: another test is running", f.FD()))
		if !p.base {
			_ = f.WritePacket(measure.Control(measure.Refusal, 0, measure.RefusalBody{
				Why: "the server is busy with another test; try again later",
			}))
		}
		return
	}
	if !p.base {
		_ = f.WritePacket(welcome) // an error: the test, too, meets it
	}
	s.run(ctx, newStream(f, p))
}

// first waits for the first packet of f.
func (s *server) first(ctx context.Context, f measure.Flow) (*plan, error) {
	if err := measure.SetDeadline(ctx, f.SetDeadline, time.Now().Add(pause+silence)); err != nil {
		return nil, measure.Cause(err)
	}
	buf := make([]byte, maxSize)
	n, err := f.ReadPacket(buf)
	if measure.TimedOut(err) {
		return nil, fmt.Errorf("no packet in %v: it is closed", pause+silence)
	}
	if err != nil {
		return nil, fmt.Errorf("it ended before the test: %w", measure.Cause(err))
	}
	p, ok := firstPacket(buf[:n])
	if !ok {
		return nil, fmt.Errorf("its first packet, of %d bytes, is none of operf's: it is closed; the client is another program", n)
	}
	return p, measure.SetDeadline(ctx, f.SetDeadline, time.Time{})
}

var welcome = measure.Control(measure.Welcome, 0, struct{}{})

// run runs the test on one flow.
func (s *server) run(ctx context.Context, st *stream) {
	through := sync.OnceFunc(s.leave)
	defer through()
	streams := []*stream{st}
	a := newAbout("server", "", streams)
	s.out.event("start", a)
	sends := st.plan.Reverse
	m := startMeter(s.out, streams, sends, s.every)
	var intervals []interval
	finish := sync.OnceFunc(func() { intervals = m.stop(); through() })
	var err error
	if sends {
		err = st.runSender(ctx)
	} else {
		// The client may start another test once it has the report.
		err = st.runReceiver(ctx, true, finish)
	}
	finish()
	if ctx.Err() == nil && err != nil && !measure.TimedOut(err) {
		err = ended("the client", err)
	} else {
		err = nil
	}
	s.out.end(a, intervals, streams, sends, err)
	switch {
	case err != nil:
		s.out.errs.Failure(fmt.Errorf("flow %d: %w", st.fd, err))
	case st.plan.base && ctx.Err() == nil:
		s.out.people("Flow %d timed out.\n", st.fd)
	}
}
