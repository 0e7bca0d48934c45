// Package relay is a second layer type, for tests only: a local layer that
// does not splice. It attaches itself to both ends of each flow and carries
// every packet, so it does by itself what a layer across systems does at both
// of its ends. It loses nothing: where a process does not read, the process at
// the other end waits for room.
package relay

import (
	"context"
	"errors"
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

// Bootstrap implements ipcp.Ops.
func (l *layer) Bootstrap(ctx context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	if err := l.carrier.begin(); err != nil {
		return ipcp.Config{}, err
	}
	return l.Layer.Bootstrap(ctx, cfg)
}

// Run implements ipcp.Ops. The flows end with it, as they would if the process
// died.
func (l *layer) Run(ctx context.Context) error {
	<-ctx.Done()
	l.carrier.stop()
	return nil
}

// carrier is the local.Joiner of the layer. One goroutine carries the packets of
// all flows.
type carrier struct {
	host ipcp.Host
	set  ipcp.Set       // of all sides; set by begin
	wg   sync.WaitGroup // of pump

	mu      sync.Mutex // guards the fields below and those of flows; never held across host
	stopped bool
	sides   map[core.FlowID]*side // of which the process has not left
}

var errEnded = fmt.Errorf("%w: the layer has ended", core.ErrState)

// begin makes c ready for flows.
func (c *carrier) begin() error {
	set, err := c.host.NewSet()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		set.Close()
		return errEnded
	}
	c.set = set
	c.wg.Go(c.pump)
	return nil
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
	x, y := newFlow(c, a, b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errEnded
	}
	if err := errors.Join(c.set.Add(a, x), c.set.Add(b, y)); err != nil {
		return fmt.Errorf("watch a flow: %w", err)
	}
	c.sides[client], c.sides[server] = x, y
	return nil
}

// pump carries packets until the set is closed.
func (c *carrier) pump() {
	batch := make([][]byte, 64)
	for {
		v, err := c.set.Wait(context.Background())
		if err != nil {
			return
		}
		s := v.(*side)
		if !s.parked { // else it has come for its room
			s.carry(batch)
		}
		if s.peer.parked && !s.peer.over {
			s.peer.carry(batch)
		}
	}
}

// Leave implements local.Joiner. What the process wrote is still carried, for as long
// as there is somebody to read it.
func (c *carrier) Leave(id core.FlowID) {
	c.mu.Lock()
	s := c.sides[id]
	delete(c.sides, id)
	both := s != nil && s.peer.left
	if s != nil {
		s.left = true
	}
	c.mu.Unlock()
	if both {
		s.close()
	}
}

// stop ends all flows and waits until none of them is carried any more.
func (c *carrier) stop() {
	c.mu.Lock()
	sides := c.sides
	c.stopped, c.sides = true, nil
	c.mu.Unlock()
	if c.set != nil {
		c.set.Close()
	}
	c.wg.Wait()
	for _, s := range sides {
		s.abort()
	}
}
