package oping

import (
	"context"
	"fmt"
	"sync"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/core"
	"o7s/core/logs"
)

const (
	// lateWait is how long the client waits for replies after its last
	// packet, or twice the longest round trip, if that is more, but never
	// more than maxLateWait.
	lateWait    = 2 * time.Second
	maxLateWait = 10 * time.Second

	// maxLag is how far the sender may fall behind its schedule and still
	// catch up, so that short intervals are right on average. A sender that
	// was held up for longer sends no burst.
	maxLag = 10 * time.Millisecond
)

// client pings a server over one flow.
type client struct {
	cfg  *config
	name string // cfg.name as it may be printed
	out  *measure.Lines
	errs *measure.Lines

	packet []byte    // the request, used by the sender alone
	start  time.Time // the zero of the clock in messages; set by run
	end    time.Time // no packet is sent after it; zero: no bound

	mu     sync.Mutex // guards the fields below; the receiver shares them
	stats  stats
	window window
	final  bool // all is sent that will be, and only replies are awaited
}

func newClient(cfg *config) *client {
	return &client{cfg: cfg, name: logs.Escape(cfg.name), packet: make([]byte, cfg.size)}
}

// run pings over f until everything is sent and answered or waited for, ctx
// is done, or f ends. It prints the statistics and returns how many replies
// came. It leaves f open.
func (c *client) run(ctx context.Context, f measure.Flow) (received uint64) {
	c.start = time.Now()
	if c.cfg.duration > 0 {
		c.end = c.start.Add(c.cfg.duration)
		f.SetWriteDeadline(c.end.Add(lateWait)) // a server that never reads holds up nobody
	}
	if !c.cfg.json {
		c.header()
	}

	stop := measure.OnDone(ctx, func() { f.SetDeadline(measure.LongAgo) })
	defer stop()
	var err error
	if c.cfg.flood {
		err = c.flood(ctx, f)
	} else {
		err = c.pace(ctx, f)
	}
	total := time.Since(c.start)
	err = c.failure(err)
	if err != nil {
		c.errs.Failure(err)
	}
	if c.cfg.json {
		r := newResult(c.cfg, &c.stats, total, err)
		r.Order = measure.OrderOf(f)
		c.out.JSON(r, true)
		return c.stats.received
	}
	c.out.Printf("\n%s%s", c.stats.summary(c.name, total), measure.OrderOf(f).Line())
	if c.cfg.histogram {
		c.out.Printf("%s", c.stats.histogram())
	}
	return c.stats.received
}

// header tells what follows.
func (c *client) header() {
	packets := ""
	if c.cfg.count > 0 {
		packets = fmt.Sprintf(" (%s)", applets.Count(c.cfg.count, "packet"))
	}
	c.out.Printf("Pinging %s with %d bytes of data%s:\n\n", c.name, c.cfg.size, packets)
}

// failure returns what is to be told of the error that ended a run.
func (c *client) failure(err error) error {
	if err == nil || measure.TimedOut(err) {
		return nil
	}
	return measure.Ended(c.cfg.name, err)
}

// pace sends a packet every interval, the first after one, and receives at
// the same time. Its error says how the flow ended, should it have.
func (c *client) pace(ctx context.Context, f measure.Flow) error {
	var recvErr error
	received := make(chan struct{})
	go func() {
		defer close(received)
		recvErr = c.receive(f)
	}()
	sendErr := c.send(ctx, f, received)
	c.finish(ctx, f, sendErr)
	<-received
	if recvErr == nil || measure.TimedOut(recvErr) {
		return sendErr
	}
	return recvErr // the reading side knows better how a flow ended
}

// send sends packets until there are no more to send, ctx is done or the
// receiver has ended.
func (c *client) send(ctx context.Context, f measure.Flow, received <-chan struct{}) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	// wait returns at t. It reports false if there is no use in going on.
	wait := func(t time.Time) bool {
		timer.Reset(time.Until(t))
		select {
		case <-timer.C:
			return ctx.Err() == nil
		case <-ctx.Done():
		case <-received:
		}
		return false
	}
	// A packet is due by the schedule, not one interval after the one
	// before, or the time of sending would add up.
	due := c.start.Add(c.cfg.interval)
	for n := uint64(0); c.cfg.count == 0 || n < c.cfg.count; n++ {
		if !c.end.IsZero() && due.After(c.end) {
			wait(c.end)
			return nil
		}
		if !wait(due) {
			return nil
		}
		if err := c.sendOne(f); err != nil {
			return err
		}
		due = due.Add(c.cfg.interval)
		if now := time.Now(); now.Sub(due) > maxLag {
			due = now
		}
	}
	return nil
}

// sendOne sends the next packet.
func (c *client) sendOne(f measure.Flow) error {
	c.mu.Lock()
	id := uint32(c.stats.sent)
	c.stats.sent++ // before the reply can be there
	c.mu.Unlock()
	request(id, time.Since(c.start)).encode(c.packet)
	err := f.WritePacket(c.packet)
	if err != nil {
		c.mu.Lock()
		c.stats.sent--
		c.mu.Unlock()
	}
	return err
}

// finish ends the sending and bounds how long the receiver goes on. The receiver waits for
// late replies. If a write failed with err, it waits for the reason why the flow ended.
func (c *client) finish(ctx context.Context, f measure.Flow, err error) {
	broken := err != nil && !measure.TimedOut(err)
	c.mu.Lock()
	c.final = !broken
	until := measure.LongAgo
	if broken || c.stats.received < c.stats.sent {
		until = time.Now().Add(min(max(lateWait, 2*c.stats.rtt.Max), maxLateWait))
	}
	c.mu.Unlock()
	// An error means that f has ended, which the receiver gets to know.
	_ = measure.SetDeadline(ctx, f.SetReadDeadline, until)
}

// receive takes replies until the last one is there, f's read deadline passes
// or f ends; its error says which.
func (c *client) receive(f measure.Flow) error {
	buf := make([]byte, core.MaxPacket)
	for !c.complete() {
		n, err := f.ReadPacket(buf)
		if err != nil {
			return err
		}
		c.reply(buf[:n])
	}
	return nil
}

// complete reports whether all is sent and answered.
func (c *client) complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.final && c.stats.received >= c.stats.sent
}

// reply counts the packet p and prints its line, if it is the first reply to
// a packet that was sent. It ignores any other packet.
func (c *client) reply(p []byte) {
	now := time.Since(c.start)
	m, ok := decode(p)
	if !ok || m.typ != typeReply {
		return
	}
	sentAt, ok := m.sentAt()
	if !ok || sentAt > now {
		return
	}
	rtt := now - sentAt
	c.mu.Lock()
	late, ok := c.window.take(m.id, c.stats.sent)
	if ok {
		c.stats.add(rtt, late)
	}
	c.mu.Unlock()
	if !ok || c.cfg.quiet || c.cfg.json {
		return
	}
	var stamp, mark string
	if c.cfg.timeOfDay {
		t := time.Now()
		stamp = fmt.Sprintf("[%d.%06d] ", t.Unix(), t.Nanosecond()/1000)
	}
	if late {
		mark = " [out-of-order]"
	}
	c.out.Printf("%s%d bytes from %s: seq=%d time=%.3f ms%s\n", stamp, len(p), c.name, m.id, measure.MS(float64(rtt)), mark)
}
