package ocbr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"o7s/applets/internal/measure"
)

// maxFlows is how many flows are read at once; others wait.
const maxFlows = 10

// server tells what arrives on flows.
type server struct {
	cfg   *config
	out   *measure.Lines
	errs  *measure.Lines
	seats chan struct{} // one for each flow that is read
}

// counter is what the reader of a flow tells the one who prints.
type counter struct{ packets, bytes atomic.Uint64 }

// serveFlow tells what arrives on f, each interval, until nothing does for the
// time-out.
func (s *server) serveFlow(ctx context.Context, f measure.Flow) {
	// The error of Close does not matter: the flow ends with this process at
	// the latest.
	defer f.Close()
	select {
	case s.seats <- struct{}{}:
	default:
		s.out.Printf("Can't accept any more flows, waiting.\n")
		select {
		case s.seats <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
	defer func() { <-s.seats }()
	s.out.Printf("New flow.\n")
	stop := measure.OnDone(ctx, func() { _ = f.SetDeadline(measure.LongAgo) })
	defer stop()

	var c counter
	told := make(chan struct{})
	over := make(chan time.Time)
	go func() {
		defer close(told)
		s.tell(f.FD(), &c, over)
	}()
	watch := measure.WatchSilence(f, c.packets.Load, s.cfg.timeout, s.cfg.timeout)
	err := s.read(f, &c)
	end := time.Now()
	if !measure.TimedOut(err) && ctx.Err() == nil {
		// Its end is known; the flow stays for the time-out, as it would if
		// it were not.
		if !errors.Is(err, io.EOF) {
			s.errs.Failure(fmt.Errorf("flow %d: %w", f.FD(), measure.Cause(err)))
		}
		select {
		case <-time.After(s.cfg.timeout):
		case <-ctx.Done():
		}
	}
	if last, fell := watch.Stop(); fell {
		end = last
	}
	if ctx.Err() == nil {
		s.out.Printf("Test on flow %d timed out\n", f.FD())
	}
	over <- end
	<-told
}

// read counts what arrives on f and returns how f ended.
func (s *server) read(f measure.Flow, c *counter) error {
	reader := measure.NewReader(f)
	var packets, bytes uint64
	for {
		batch, err := reader.Read()
		if err != nil {
			return err
		}
		for _, p := range batch {
			if refusal := measure.Refuse(p, "an ocbr server"); refusal != nil {
				_ = f.WritePacket(refusal) // reading tells of an error, too
				continue
			}
			packets++
			bytes += uint64(len(p))
		}
		c.bytes.Store(bytes)
		c.packets.Store(packets)
	}
}

// tell prints a line each interval, and one for what is left at the end that
// over brings.
func (s *server) tell(fd int, c *counter, over <-chan time.Time) {
	tick := time.NewTicker(s.cfg.interval)
	defer tick.Stop()
	from := time.Now()
	var packets, bytes uint64
	line := func(to time.Time) {
		p, b := c.packets.Load(), c.bytes.Load()
		took := max(to.Sub(from), time.Microsecond)
		s.out.Printf("Flow %4d: %9d packets (%12d bytes) in %9d ms => %9.4f pps, %9.4f Mbps\n",
			fd, p-packets, b-bytes, took.Milliseconds(), float64(p-packets)/took.Seconds(), 8*float64(b-bytes)/1e6/took.Seconds())
		from, packets, bytes = to, p, b
	}
	for {
		select {
		case <-tick.C:
			if c.packets.Load() != packets {
				line(time.Now())
			}
		case end := <-over:
			if c.packets.Load() != packets {
				line(end)
			}
			return
		}
	}
}
