package oping

import (
	"context"
	"time"

	"o7s/applets/internal/measure"
	"o7s/core"
)

// flood sends a packet as soon as the reply to the one before is there, or
// the interval has passed without it. It sends and receives in turn, so that
// no switch between two goroutines is measured. Its error says how the flow
// ended, should it have.
func (c *client) flood(ctx context.Context, f measure.Flow) error {
	buf := make([]byte, core.MaxPacket)
	if err := measure.SetDeadline(ctx, f.SetReadDeadline, c.start); err != nil { // for readBy
		return err
	}
	var sendErr error
	for n := uint64(1); c.mayFlood(ctx); n++ {
		if sendErr = c.sendOne(f); sendErr != nil || n == c.cfg.count {
			break
		}
		if err := c.awaitReply(ctx, f, buf); err != nil {
			return err
		}
	}
	c.finish(ctx, f, sendErr)
	if err := c.receive(f); err != nil && !measure.TimedOut(err) {
		return err
	}
	return sendErr
}

// mayFlood reports whether it is time to send.
func (c *client) mayFlood(ctx context.Context) bool {
	return ctx.Err() == nil && (c.end.IsZero() || time.Now().Before(c.end))
}

// awaitReply returns when the last packet sent is answered, or was not within
// the interval. Any other end is an error.
func (c *client) awaitReply(ctx context.Context, f measure.Flow, buf []byte) error {
	until := time.Now().Add(c.cfg.interval)
	if !c.end.IsZero() && c.end.Before(until) {
		until = c.end
	}
	read := func() (int, error) { return measure.ReadBy(ctx, f, buf, until) }
	if c.cfg.busy {
		read = func() (int, error) { return pollBy(ctx, f, buf, until) }
	}
	for !c.answered() {
		n, err := read()
		if err != nil {
			if measure.TimedOut(err) {
				return nil
			}
			return err
		}
		c.reply(buf[:n])
	}
	return nil
}

// clockEvery is how often pollBy looks before it looks at the clock, which
// costs more than a look.
const clockEvery = 256

// pollBy is measure.ReadBy that never sleeps.
func pollBy(ctx context.Context, f measure.Flow, p []byte, until time.Time) (int, error) {
	for {
		for range clockEvery {
			if n, err := f.TryReadPacket(p); n > 0 || err != nil {
				return n, err
			}
		}
		if ctx.Err() != nil || !time.Now().Before(until) {
			return 0, core.ErrTimeout
		}
	}
}

// answered reports whether the last packet sent has got its reply.
func (c *client) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.window.seq.Next() == c.stats.sent
}
