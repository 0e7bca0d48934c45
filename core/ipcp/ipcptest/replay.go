package ipcptest

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core/ipcp"
	"o7s/core/ipcp/port/porttest"
)

// Packet is what one system sent to another: in a capture, or in a Replay.
type Packet struct {
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
		p.net.Tap(func(from, to netip.AddrPort, d []byte) {
			if from == b.addr {
				sent = append(sent, Packet{from, to, bytes.Clone(d)})
			}
		})
		for _, packet := range r.Packets {
			p.net.Inject(packet.From, packet.To, packet.Bytes)
			time.Sleep(10 * time.Millisecond)
		}
		p.net.Tap(nil)
	})
	return sent
}
