package operf

import (
	"context"
	"time"

	"o7s/applets/internal/measure"
)

// runReceiver receives what the peer sends, echoes it in a test of type bi, and
// reports on it. report is called with both ends' figures known, before the
// peer gets its report; in the base form, when the peer has fallen silent.
// linger makes it stay for an End that comes again, because the report was
// lost.
func (s *stream) runReceiver(ctx context.Context, linger bool, report func()) error {
	s.cpu = measure.StartCPU()
	stop := measure.OnDone(ctx, func() {
		if linger { // the server is stopped
			_ = s.flow.SetDeadline(measure.LongAgo)
			return
		}
		// The peer ends in order; if it does not, the silence ends it.
		_ = s.flow.WritePacket(measure.Control(measure.Stop, 0, nil))
	})
	defer stop()
	first := pause + 2*silence
	if !s.plan.base {
		first = max(first, s.idle())
	}
	watch := measure.WatchSilence(s.flow, s.progress, first, s.idle())
	err := s.receive(s.plan.both, s.onEnd)
	s.last = time.Now()
	if last, fell := watch.Stop(); fell { // the silence is not of the test
		s.last = last
	}
	if s.theirs != nil && s.theirs.Packets > s.seq.Received {
		err = s.stragglers(ctx)
	}
	var sent uint64
	if s.theirs != nil {
		sent = s.theirs.Packets
	}
	s.mine = s.received(sent)
	s.publish()
	report()
	if s.theirs == nil {
		return err
	}
	for {
		if err := s.flow.WritePacket(measure.Control(measure.Report, 0, s.mine)); err != nil || !linger {
			return nil // the peer does without
		}
		err := measure.SetDeadline(ctx, s.flow.SetReadDeadline, time.Now().Add(silence))
		if err != nil || s.receive(false, s.onEnd) != nil {
			return nil
		}
	}
}

// onEnd is told of control packets; it returns true at the End.
func (s *stream) onEnd(p []byte) bool {
	var f figures
	kind, ok := measure.ParseControl(p, &f)
	if !ok || kind != measure.End {
		return false
	}
	s.theirs = &f
	return true
}

// stragglers gives packets that the End has overtaken some time.
func (s *stream) stragglers(ctx context.Context) error {
	if err := measure.SetDeadline(ctx, s.flow.SetReadDeadline, time.Now().Add(straggle)); err != nil {
		return err
	}
	for s.seq.Received < s.theirs.Packets {
		if err := s.receive(s.plan.both, s.onEnd); err != nil {
			if !measure.TimedOut(err) {
				return err
			}
			break
		}
	}
	return nil
}
