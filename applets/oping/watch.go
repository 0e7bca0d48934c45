package oping

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"o7s/applets/internal/measure"
)

// watch tells how the run goes while it does: a short summary on stderr at each
// Ctrl-\ (SIGQUIT), and the progress on status, until stop is called.
func (c *client) watch(status *measure.Status) (stop func()) {
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		start := time.Now()
		for {
			select {
			case <-quit:
				c.errs.Printf("%s\n", c.short())
			case <-tick.C:
				status.Show(measure.Progress(c.short(), time.Since(start), c.cfg.length()))
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		signal.Stop(quit)
		status.Close()
	}
}

func (c *client) short() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats.short()
}

// length returns how long the run is meant to be; 0 where that is open.
func (cfg *config) length() time.Duration {
	switch {
	case cfg.deadline > 0:
		return cfg.deadline
	case cfg.duration > 0:
		return cfg.duration
	case cfg.count > 0 && !cfg.flood && float64(cfg.count)*float64(cfg.interval) < 1e18:
		return time.Duration(cfg.count) * cfg.interval
	}
	return 0
}
