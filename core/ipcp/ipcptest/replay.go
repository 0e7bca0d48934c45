package ipcptest

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/port/porttest"
)

// Packet is what one system sent to another: in a capture, or in a Replay.
type Packet struct {
	// At is when it was sent, since the first one. One that is played at 0
	// comes soon after the one before.
	At       time.Duration
	From, To netip.AddrPort
	Bytes    []byte
}

// Replay is one side of a capture, played to an IPCP of the type.
type Replay struct {
	World World
	// Names are registered with the IPCP, and accepted.
	Names []string
	// Packets are what the other side sent to the IPCP, which is system 1 of
	// World.
	Packets []Packet
	// Adapt, if not nil, may change a packet before it is played. The packet may need
	// an id from an earlier packet of the IPCP.
	Adapt func(p *Packet, sent []Packet)
	// For is how long the replay goes on, since the first packet.
	For time.Duration
	// Ended, if not nil, is called with what the host has heard of the end of
	// the last flow, and when.
	Ended func(code core.Errno, at time.Duration)
}

// Run returns what the IPCP sends.
func (r Replay) Run(t *testing.T, typ ipcp.Type) (sent []Packet) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &farPair{t: t, world: r.World, typ: typ, net: porttest.New(1, porttest.Wire{})}
		p.start(1)
		defer p.nodes[1].stop()
		b := p.nodes[1]
		b.set(func() { b.accept = true })
		cfg, _ := r.World.Config(1)
		for _, name := range r.Names {
			must(t, "register", b.p.Register(context.Background(), cfg.Hash.Sum(name)))
		}
		start := time.Now()
		var mu sync.Mutex // guards sent
		p.net.Tap(func(from, to netip.AddrPort, d []byte) {
			mu.Lock()
			defer mu.Unlock()
			if from == b.addr {
				sent = append(sent, Packet{time.Since(start), from, to, bytes.Clone(d)})
			}
		})
		for _, packet := range r.Packets {
			time.Sleep(time.Until(start.Add(packet.At)))
			if r.Adapt != nil {
				mu.Lock()
				r.Adapt(&packet, sent)
				mu.Unlock()
			}
			p.net.Inject(packet.From, packet.To, packet.Bytes)
			time.Sleep(10 * time.Millisecond)
		}
		if r.Ended != nil {
			select {
			case code := <-b.made[len(b.made)-1].ended:
				r.Ended(code, time.Since(start))
			case <-time.After(time.Until(start.Add(r.For))):
			}
		}
		time.Sleep(time.Until(start.Add(r.For)))
		p.net.Tap(nil)
		mu.Lock() // for the race detector: what was sent last was sent on a timer
		defer mu.Unlock()
	})
	return sent
}
