// Package relay is a second layer type, for tests only: a local layer that
// does not splice. It attaches itself to both ends of each flow and carries
// every packet, so it does by itself what a layer across systems does at both
// of its ends.
package relay

import (
	"context"
	"fmt"
	"sync"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
)

// Type describes the relay layer.
var Type = ipcp.Type{Name: "relay", Rank: 1, Does: ipcp.Provides, New: newLayer}

// layer is a local layer that carries.
type layer struct {
	*local.Layer
	carrier *carrier
}

func newLayer(env ipcp.Env) ipcp.Ops {
	c := &carrier{host: env.Host, sides: make(map[core.FlowID]*side)}
	return &layer{local.New(env, c), c}
}

// Run implements ipcp.Ops. The flows end with it, as they would if the process
// died.
func (l *layer) Run(ctx context.Context) error {
	<-ctx.Done()
	l.carrier.stop()
	return nil
}

// carrier is the local.Joiner of the layer.
type carrier struct {
	host ipcp.Host
	wg   sync.WaitGroup // of carry

	mu      sync.Mutex // guards the fields below; never held across host
	stopped bool
	sides   map[core.FlowID]*side // of which the process has not left
}

// Join implements local.Joiner.
func (c *carrier) Join(client, server core.FlowID, done func(error)) {
	c.host.Attach(client, func(a ipcp.Flow, err error) {
		if err != nil {
			done(fmt.Errorf("attach to the client's end: %w", err))
			return
		}
		c.host.Attach(server, func(b ipcp.Flow, err error) {
			if err != nil {
				a.Close()
				done(fmt.Errorf("attach to the server's end: %w", err))
				return
			}
			err = c.start(client, a, server, b)
			if err != nil {
				a.Abort()
				b.Abort()
			}
			done(err)
		})
	})
}

// start carries the packets between a and b from now on.
func (c *carrier) start(client core.FlowID, a ipcp.Flow, server core.FlowID, b ipcp.Flow) error {
	x, y := newSide(a), newSide(b)
	x.peer, y.peer = y, x
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return fmt.Errorf("%w: the layer has ended", core.ErrNotAllocated)
	}
	c.sides[client], c.sides[server] = x, y
	c.wg.Go(x.carry)
	c.wg.Go(y.carry)
	return nil
}

// Leave implements local.Joiner.
func (c *carrier) Leave(id core.FlowID) {
	c.mu.Lock()
	s := c.sides[id]
	delete(c.sides, id)
	c.mu.Unlock()
	if s != nil {
		s.leave()
	}
}

// stop ends all flows and waits until none of them is carried any more.
func (c *carrier) stop() {
	c.mu.Lock()
	sides := c.sides
	c.stopped, c.sides = true, nil
	c.mu.Unlock()
	for _, s := range sides {
		// Before any is closed: who then carries closes the other one.
		s.down.Store(true)
		s.peer.down.Store(true)
	}
	for _, s := range sides {
		s.close()
		s.peer.close()
		s.leave()
	}
	c.wg.Wait()
}
