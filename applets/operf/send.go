package operf

import (
	"context"
	"encoding/binary"
	"time"

	"o7s/applets/internal/measure"
)

// runSender sends what the plan says, tells the peer so and waits for its
// report. It returns when the flow is not needed any more; s.theirs is nil
// where no report came.
func (s *stream) runSender(ctx context.Context) error {
	s.cpu = measure.StartCPU()
	stop := measure.OnDone(ctx, s.halt)
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
				s.halt()
			case kind == measure.Report:
				s.theirs = &f
				close(reported)
				return true
			}
			return false
		})
		s.halt() // whatever ended it, there is no use in sending
	}()
	start := time.Now()
	sendErr := s.send(start)
	took := time.Since(start)
	n := s.sent.packets.Load()
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

// batchBytes is how much is written at a time: one core's first cache holds it.
const batchBytes = 16 << 10

// send sends data until the plan's end, a halt, or an error of the flow.
func (s *stream) send(start time.Time) error {
	many := 1
	if s.plan.Size <= batchSize {
		many = min(batch, batchBytes/s.plan.Size)
	}
	packets := make([][]byte, many)
	room := make([]byte, many*s.plan.Size)
	for i := range packets {
		packets[i] = room[i*s.plan.Size : (i+1)*s.plan.Size]
	}
	if s.plan.Rate == 0 {
		end := time.AfterFunc(time.Until(start.Add(s.plan.Duration)), s.halt)
		defer end.Stop()
		return s.sendAll(packets)
	}
	pace := measure.NewPace(s.plan.Rate, s.plan.Size, s.plan.Duration)
	if s.plan.Sleep {
		return s.sendSpaced(packets[0], pace, start)
	}
	return s.sendPaced(packets, pace, start)
}

// write sends packets, numbered from n, and returns the number that follows.
func (s *stream) write(packets [][]byte, n uint64) (uint64, error) {
	for i, p := range packets {
		binary.LittleEndian.PutUint32(p, uint32(n)+uint32(i))
	}
	k, err := s.flow.WriteBatch(packets)
	return n + uint64(k), err
}

// sendAll sends as fast as can be. It looks at no clock.
func (s *stream) sendAll(packets [][]byte) (err error) {
	n, stride := uint64(0), s.stride()
	for k := 1; err == nil && !s.stop.Load(); k++ {
		n, err = s.write(packets, n)
		if k%stride == 0 {
			s.sent.packets.Store(n)
		}
	}
	s.sent.packets.Store(n)
	return err
}

// sendPaced sends what is due, and sleeps until more is: for a millisecond or
// so where packets come closer than that.
func (s *stream) sendPaced(packets [][]byte, pace *measure.Pace, start time.Time) (err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := uint64(0); !s.stop.Load(); {
		t := time.Since(start)
		for due := pace.Due(t); due > 0 && !s.stop.Load(); {
			k := min(due, uint64(len(packets)))
			n, err = s.write(packets[:k], n)
			s.sent.packets.Store(n)
			if err != nil {
				return err
			}
			due -= k
		}
		if t >= s.plan.Duration {
			return nil
		}
		// A halt is seen in time, not at once: no channel is worth it.
		timer.Reset(min(max(pace.Next()-time.Since(start), 0), 100*time.Millisecond))
		<-timer.C
	}
	return nil
}

// sendSpaced sends packet by packet, with a sleep before each but the first,
// and never two at once to catch up.
func (s *stream) sendSpaced(packet []byte, pace *measure.Pace, start time.Time) (err error) {
	packets := [][]byte{packet}
	next := time.Duration(0)
	for n := uint64(0); !s.stop.Load() && next < s.plan.Duration; {
		n, err = s.write(packets, n)
		s.sent.packets.Store(n)
		if err != nil {
			return err
		}
		now := time.Since(start)
		for next = max(next+pace.Gap(), now+1); now < min(next, s.plan.Duration) && !s.stop.Load(); now = time.Since(start) {
			measure.Nap(min(next, s.plan.Duration) - now)
		}
	}
	return nil
}
