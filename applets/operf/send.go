package operf

import (
	"context"
	"time"

	"o7s/applets/internal/measure"
)

// runSender sends what the plan says, tells the peer so and waits for its
// report. It returns when the flow is not needed any more; s.theirs is nil
// where no report came.
func (s *stream) runSender(ctx context.Context) error {
	s.cpu = measure.StartCPU()
	stop := measure.OnDone(ctx, s.Halt)
	defer stop()
	reported, done := make(chan struct{}), make(chan struct{})
	var readErr error
	go func() {
		defer close(done)
		readErr = s.receive(false, func(p []byte) bool {
			var f figures
			switch kind, ok := measure.ParseControl(p, &f); {
			case !ok:
			case kind == measure.Stop:
				s.Halt()
			case kind == measure.Report:
				if s.theirs == nil { // it may come twice at once
					s.theirs = &f
					close(reported)
				}
				return true
			}
			return false
		})
		s.Halt() // whatever ended it, there is no use in sending
	}()
	start := time.Now()
	sendErr := s.Send(start)
	took := time.Since(start)
	n := s.Sent.Load()
	s.mine = &figures{Packets: n, Bytes: n * uint64(s.plan.Size), Seconds: took.Seconds(), CPU: s.cpu.Percent()}

	if s.plan.base {
		s.awaitEchoes(ctx, done, n)
	} else {
		s.sendEnd(done)
	}
	_ = s.flow.SetReadDeadline(measure.LongAgo) // an error: it has ended
	<-done
	if s.plan.both {
		s.last = time.Now()
		s.echoed = s.received(n)
		s.echoed.Seconds = took.Seconds()
	}
	select {
	case <-reported:
		return nil
	default:
	}
	switch {
	case readErr != nil && !measure.TimedOut(readErr):
		return readErr
	case sendErr != nil && !measure.TimedOut(sendErr):
		return sendErr
	}
	return nil
}

// sendEnd tells the peer that all is sent, until it reports or is gone.
func (s *stream) sendEnd(done <-chan struct{}) {
	p := measure.Control(measure.End, 0, s.mine)
	for range endTries {
		if s.flow.SetWriteDeadline(time.Now().Add(endAgain)) != nil {
			return
		}
		if err := s.flow.WritePacket(p); err != nil && !measure.TimedOut(err) {
			<-done // which knows how the flow ended
			return
		}
		select {
		case <-done:
			return
		case <-time.After(endAgain):
		}
	}
}

// awaitEchoes waits, in the base form, until all n packets have come back or
// none has for a while.
func (s *stream) awaitEchoes(ctx context.Context, done <-chan struct{}, n uint64) {
	if !s.plan.both {
		return
	}
	seen, since := s.got.packets.Load(), time.Now()
	for seen < n && time.Since(since) < echoWait && ctx.Err() == nil {
		select {
		case <-done:
			return
		case <-time.After(10 * time.Millisecond):
		}
		if now := s.got.packets.Load(); now != seen {
			seen, since = now, time.Now()
		}
	}
}
