package ocbr

import (
	"context"
	"fmt"
	"time"

	"o7s/applets/internal/measure"
)

// A packet is its number from 0, an i64 little-endian, and zeros. There are no
// other packets: the server reports on its own output.
const numberSize = 8

// send sends packets over f as cfg says, and prints what it has sent.
func send(ctx context.Context, cfg *config, f measure.Flow, out *measure.Lines, status *measure.Status) error {
	s := &measure.Sender{Flow: f, Size: cfg.size, Wide: true, Rate: cfg.rate, Duration: cfg.duration}
	rate := fmt.Sprintf("rate %.0f b/s", cfg.rate)
	if cfg.flood {
		s.Rate, rate = 0, "as fast as can be"
	}
	out.Printf("Client started, duration %s, %s, size %d B.\n", seconds(cfg.duration), rate, cfg.size)
	if cfg.spin {
		s.Mode = measure.Spin
	}
	stop := measure.OnDone(ctx, s.Halt)
	defer stop()
	start := time.Now()
	done := showProgress(s, status, start)
	err := s.Send(start)
	took := time.Since(start)
	done()
	n := s.Sent.Load()
	bytes := n * uint64(cfg.size)
	out.Printf("sent statistics: %9d packets, %12d bytes in %9d ms, %.4f Mb/s\n",
		n, bytes, took.Milliseconds(), 8*float64(bytes)/1e6/took.Seconds())
	out.Printf("%s", measure.OrderOf(f).Line())
	switch {
	case err == nil:
		return nil
	case measure.TimedOut(err):
		if ctx.Err() != nil || cfg.flood && took >= cfg.duration {
			return nil
		}
		return fmt.Errorf("%s does not read", cfg.name)
	}
	return measure.Ended(cfg.name, err)
}

// showProgress shows on status how far s is, each second, until stop is called.
func showProgress(s *measure.Sender, status *measure.Status, start time.Time) (stop func()) {
	if status == nil {
		return func() {}
	}
	ended, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		before := uint64(0)
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			now := s.Sent.Load()
			rate := 8 * float64(now-before) * float64(s.Size)
			before = now
			status.Show(measure.Progress(measure.SI(rate, "b/s"), time.Since(start), s.Duration))
		}
	}()
	return func() {
		close(quit)
		<-ended
		status.Close()
	}
}
