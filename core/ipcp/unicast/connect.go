package unicast

import (
	"context"
	"fmt"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/core/ipcp/member"
)

// The time between two attempts to make a connection again that has ended.
const (
	redialMin = time.Second
	redialMax = time.Minute
	// dialTime bounds one attempt.
	dialTime = 10 * time.Second
)

// connection is a connection that an administrator made. If it ends it is made again.
type connection struct {
	ipcp.Connection
	adjacency *adjacency // nil: it has ended, or is being made
	timer     clock.Timer
	cancel    context.CancelFunc // of an attempt to make it again
	gone      bool
	why       error // the last attempt failed
}

// stop ends the attempts to make c again; layer.mu is held.
func (c *connection) stop() {
	c.gone = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.cancel != nil {
		c.cancel()
	}
}

// component returns the component that c is for.
func (c *connection) component() member.Component {
	if c.Component == ipcp.Management {
		return member.Management
	}
	return member.DataTransfer
}

// Connect implements ipcp.Connecter.
func (l *layer) Connect(ctx context.Context, x ipcp.Connection) error {
	c := &connection{Connection: x}
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return errEnds
	case l.findLocked(x) >= 0:
		l.mu.Unlock()
		return fmt.Errorf("%w: it is connected to %s", core.ErrExists, x.Dst)
	}
	l.kept = append(l.kept, c)
	l.mu.Unlock()
	err := l.make(ctx, c)
	if err != nil {
		l.mu.Lock()
		l.kept = slices.DeleteFunc(l.kept, func(k *connection) bool { return k == c })
		l.mu.Unlock()
	}
	return err
}

// findLocked returns the place of x in l.kept, -1 where it is not there.
func (l *layer) findLocked(x ipcp.Connection) int {
	return slices.IndexFunc(l.kept, func(c *connection) bool { return c.Dst == x.Dst && c.Component == x.Component })
}

// make makes the connection c.
func (l *layer) make(ctx context.Context, c *connection) error {
	flow, addr, err := l.dial(ctx, c.Dst, c.QoS, c.component())
	if err != nil {
		return err
	}
	a, err := l.join(flow, addr, c.Dst, c.Component)
	if err != nil {
		flow.Close()
		return err
	}
	l.mu.Lock()
	gone := c.gone
	if gone { // Disconnect was called meanwhile
		l.leaveLocked(a)
	} else {
		c.adjacency, c.why = a, nil
		if l.ports[a.port] != a && !l.closed { // it has ended already
			c.adjacency = nil
			l.redialLocked(c, redialMin)
		}
	}
	l.mu.Unlock()
	if gone {
		flow.Close()
		return fmt.Errorf("%w: it was disconnected", core.ErrCanceled)
	}
	return nil
}

// redialLocked makes c again after a while, and again until that succeeds; l.mu is
// held.
func (l *layer) redialLocked(c *connection, wait time.Duration) {
	c.timer = lockedClock{l}.AfterFunc(wait, func() {
		if c.gone {
			return
		}
		ctx, cancel := context.WithTimeout(l.ctx, dialTime)
		c.cancel = cancel
		l.wg.Go(func() {
			defer cancel()
			err := l.make(ctx, c)
			if err == nil {
				l.log.conn.Infof("Connected %s to %s again.", ipcp.ComponentText(c.Component), c.Dst)
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if c.why == nil {
				l.log.conn.Warnf("Failed to connect %s to %s again, and will go on trying: %v.", ipcp.ComponentText(c.Component), c.Dst, err)
			}
			if c.why = err; !c.gone && !l.closed {
				l.redialLocked(c, min(2*wait, redialMax))
			}
		})
	})
}

// Disconnect implements ipcp.Connecter.
func (l *layer) Disconnect(_ context.Context, x ipcp.Connection) error {
	l.mu.Lock()
	i := l.findLocked(x)
	if i < 0 {
		l.mu.Unlock()
		return fmt.Errorf("%w: it is not connected to %s", core.ErrNotFound, x.Dst)
	}
	c := l.kept[i]
	l.kept = slices.Delete(l.kept, i, i+1)
	c.stop()
	a := c.adjacency
	if a != nil {
		l.leaveLocked(a)
	}
	l.mu.Unlock()
	if a != nil {
		a.flow.Close()
	}
	return nil
}
