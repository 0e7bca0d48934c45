package operf

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/core/logs"
)

// client runs one test.
type client struct {
	cfg *config
	out *output
}

// run allocates the flows, runs the test and tells its result.
func (c *client) run(ctx context.Context, n network) error {
	streams, err := c.connect(ctx, n)
	defer func() {
		// The error of Close does not matter: the flows end with this process
		// at the latest.
		for _, s := range streams {
			s.flow.Close()
		}
	}()
	if err != nil {
		return err
	}
	if err := c.hello(ctx, streams); err != nil {
		return err
	}
	a := newAbout("client", c.cfg.name, streams)
	c.header(&a)
	c.out.event("start", a)

	// In a test of type bi what came back is told: the server tells what it got.
	sends := !c.cfg.plan.Reverse
	m := startMeter(c.out, streams, sends && !c.cfg.plan.both, c.cfg.interval)
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	for i, s := range streams {
		wg.Go(func() {
			if sends {
				errs[i] = s.runSender(ctx)
			} else {
				errs[i] = s.runReceiver(ctx, false, func() {})
			}
		})
	}
	wg.Wait()
	intervals := m.stop()
	failure := c.failure(ctx, streams, errs)
	c.out.end(a, intervals, streams, sends, failure)
	if failure != nil {
		c.out.errs.Failure(failure)
		return applets.Exit(applets.StatusFailed)
	}
	return nil
}

// failure returns what went wrong with a test, if anything did.
func (c *client) failure(ctx context.Context, streams []*stream, errs []error) error {
	for i, s := range streams {
		switch {
		case s.plan.base && s.mine != nil && s.mine.Packets > 0 && errs[i] == nil:
			return nil // it reports nothing
		case errs[i] != nil && !measure.TimedOut(errs[i]):
			return ended(c.cfg.name, errs[i])
		case s.theirs == nil && ctx.Err() == nil:
			return fmt.Errorf("%s sent no figures at the end: it may have stopped, or they were lost", c.cfg.name)
		}
	}
	return nil
}

func (c *client) connect(ctx context.Context, n network) (streams []*stream, err error) {
	p := c.cfg.plan
	p.Test, p.Streams = rand.Text(), c.cfg.parallel
	for range c.cfg.parallel {
		f, err := measure.Network(n).Reach(ctx, c.cfg.name, c.cfg.qos, p.Size)
		if err != nil {
			return streams, err
		}
		own := p
		streams = append(streams, newStream(f, &own))
	}
	return streams, nil
}

// hello asks for the test on all flows. A server that does not answer is taken
// for one of the base form.
func (c *client) hello(ctx context.Context, streams []*stream) error {
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	for i, s := range streams {
		stop := measure.OnDone(ctx, func() { _ = s.flow.SetDeadline(measure.LongAgo) })
		wg.Go(func() {
			defer stop()
			errs[i] = s.hello(ctx, c.cfg.name)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted before the test began")
	}
	for i, s := range streams {
		switch {
		case errs[i] != nil:
			return errs[i]
		case s.plan.base && c.cfg.plan.Reverse:
			return fmt.Errorf("%s did not answer: --reverse needs a server of this operf, started with \"operf --listen\"", c.cfg.name)
		}
	}
	if streams[0].plan.base {
		c.out.errs.Printf("%s did not answer: it is taken for a server of the base form, which reports nothing\n", logs.Escape(c.cfg.name))
	}
	return nil
}

// hello asks for the test on one flow and waits for the answer, for a second;
// it asks twice, should a packet be lost.
func (s *stream) hello(ctx context.Context, name string) error {
	p := measure.Control(measure.Hello, s.plan.word(), s.plan)
	buf := make([]byte, maxSize)
	s.plan.base = true
	for start, try := time.Now(), 1; try <= 2; try++ {
		if err := measure.SetDeadline(ctx, s.flow.SetDeadline, start.Add(pause*time.Duration(try)/2)); err != nil {
			return ended(name, err)
		}
		err := s.flow.WritePacket(p)
		var n int
		if err == nil {
			n, err = s.flow.ReadPacket(buf)
		}
		if err == nil {
			err = s.answer(buf[:n], name)
			if err != nil {
				return err
			}
			break
		}
		if !measure.TimedOut(err) {
			return fmt.Errorf("%w: is it a server of operf?", ended(name, err))
		}
	}
	if err := measure.SetDeadline(ctx, s.flow.SetDeadline, time.Time{}); err != nil {
		return ended(name, err)
	}
	return nil
}

// answer judges the answer to a Hello.
func (s *stream) answer(p []byte, name string) error {
	switch kind, ok := measure.ParseControl(p, nil); {
	case ok && kind == measure.Welcome:
		s.plan.base = false
		return nil
	case ok && kind == measure.Refusal:
		var r measure.RefusalBody
		measure.ParseControl(p, &r)
		return fmt.Errorf("%s refused the test: %s", name, r.Why)
	case ok && kind == measure.Hello && s.plan.both && binary.LittleEndian.Uint32(p) == typeBi:
		time.Sleep(pause)
		return nil // an echo: the base form
	}
	return fmt.Errorf("%s gave an answer that is none of operf's: it is another program; start \"operf --listen\" and bind it to the name", name)
}

// header tells people what follows.
func (c *client) header(a *about) {
	what := "to"
	switch {
	case a.Direction == "reverse":
		what = "from"
	case a.Type == "bi":
		what = "to and back from"
	}
	rate := "as fast as can be"
	if a.Rate > 0 {
		rate = "at " + measure.SI(a.Rate, "b/s")
	}
	flows := ""
	if len(a.Streams) > 1 {
		flows = fmt.Sprintf(" on each of %d flows", len(a.Streams))
	}
	c.out.people("Packets of %d bytes %s %s for %v, %s%s:\n\n", a.Size, what, logs.Escape(a.Name), c.cfg.plan.Duration, rate, flows)
}
