// Package madeup is a layer type for tests only, the worked example of
// docs/layer-type.md: a far type with options, every ability and a wire of its
// own. No file outside this folder knows what its options are.
package madeup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/carry"
	"o7s/core/ipcp/port"
	"o7s/core/oap"
	"o7s/core/view"
)

// Type describes the made-up layer to irm, irmd and ipcpd.
var Type = ipcp.Type{
	Name: "madeup", Rank: 9, Far: true,
	Does:   ipcp.Provides | ipcp.Enrolls | ipcp.Connects,
	Hashes: append([]hash.Algorithm{hash.MD5}, hash.SHA3()...),
	Options: []ipcp.Option{
		{Name: "ip", Value: "ADDR", Kind: ipcp.Addr4, Place: 10, Help: "this system's address; without one the layer ends here"},
		{Name: "port", TOML: "udp_port", Value: "PORT", Kind: ipcp.Number, Min: 1, Max: 65535, Default: "7000", Place: 80, Help: "UDP port, the same for all members",
			Suggest: func() []string { return []string{"7000", "7001"} }},
		{Name: "directory", Value: "POLICY", Kind: ipcp.Word, Words: []string{"own", "resolver"}, Prefix: true, Default: "own", Place: 110, Help: "which names are found"},
	},
	Check: func(s ipcp.Settings) error {
		if o := parseOptions(s); o.resolve && !o.own.Addr().IsValid() {
			return errors.New("directory resolver finds other systems, which needs an ip")
		}
		return nil
	},
	New: newLayer,
}

// options is what settings mean to this type.
type options struct {
	own     netip.AddrPort
	resolve bool
}

func parseOptions(s ipcp.Settings) options {
	return options{
		own:     netip.AddrPortFrom(s.Addr("ip"), uint16(s.Number("port"))),
		resolve: s.Text("directory") == "resolver",
	}
}

// layer implements ipcp.Ops and carry.Out. The flow calls are those of
// carry.Flows.
type layer struct {
	*carry.Flows[netip.AddrPort]
	env ipcp.Env

	// Set by Bootstrap.
	options options
	socket  port.UDP // nil: the layer ends at this system

	mu    sync.Mutex // guards the fields below
	known map[core.Hash]netip.AddrPort
	peers []ipcp.Connection
}

var (
	_ ipcp.Enroller             = (*layer)(nil)
	_ ipcp.Connecter            = (*layer)(nil)
	_ ipcp.Shower               = (*layer)(nil)
	_ carry.Out[netip.AddrPort] = (*layer)(nil)
)

func newLayer(env ipcp.Env) ipcp.Ops {
	l := &layer{env: env, known: make(map[core.Hash]netip.AddrPort)}
	l.Flows = carry.New(env, carry.Config[netip.AddrPort]{
		IDs: carry.IDs31, Path: l.path, Text: netip.AddrPort.String, Ours: oap.Ours,
	}, l)
	return l
}

// Bootstrap implements ipcp.Ops.
func (l *layer) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	return cfg, l.Begin(func() error {
		l.options = parseOptions(cfg.Settings)
		if !l.options.own.Addr().IsValid() {
			return nil
		}
		socket, err := l.env.Ports.UDP(l.options.own)
		if err != nil {
			return fmt.Errorf("bind UDP socket to %v: %w", l.options.own, err)
		}
		l.socket = socket
		return nil
	}, l.close)
}

// Run implements ipcp.Ops.
func (l *layer) Run(ctx context.Context) error {
	l.Serve(ctx, l.read, l.close)
	return nil
}

func (l *layer) close() {
	if l.socket != nil {
		l.socket.Close()
	}
}

// Query implements ipcp.Ops.
func (l *layer) Query(ctx context.Context, h core.Hash) error {
	if l.Registered(h) {
		return nil
	}
	if !l.options.resolve {
		return core.ErrName
	}
	addrs, err := l.env.Ports.Resolver().Lookup(ctx, h.Full(), false)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= maxKnown {
		clear(l.known)
	}
	l.known[h] = netip.AddrPortFrom(addrs[0], l.options.own.Port())
	return nil
}

// maxKnown bounds what is remembered of other systems.
const maxKnown = 4096

// Enroll implements ipcp.Enroller. It asks no other member: the layer has the
// name that was given, and the defaults.
func (l *layer) Enroll(ctx context.Context, e ipcp.Enrollment) (ipcp.Config, error) {
	if e.Dst == l.env.Name {
		return ipcp.Config{}, fmt.Errorf("%w: IPCP %q can't enroll with itself", core.ErrNotAllocated, e.Dst)
	}
	name := e.Layer
	if name == "" {
		name = e.Dst
	}
	cfg, err := Type.Config(ipcp.Draft{Layer: name})
	if err != nil {
		return ipcp.Config{}, err
	}
	return l.Bootstrap(ctx, cfg)
}

// Connect implements ipcp.Connecter.
func (l *layer) Connect(_ context.Context, c ipcp.Connection) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.findLocked(c) >= 0 {
		return fmt.Errorf("%w: it is connected to %s", core.ErrExists, c.Dst)
	}
	l.peers = append(l.peers, c)
	return nil
}

// Disconnect implements ipcp.Connecter.
func (l *layer) Disconnect(_ context.Context, c ipcp.Connection) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.findLocked(c)
	if i < 0 {
		return fmt.Errorf("%w: it is not connected to %s", core.ErrNotFound, c.Dst)
	}
	l.peers = append(l.peers[:i], l.peers[i+1:]...)
	return nil
}

// findLocked returns the index of c in l.peers, -1 where it is not there.
func (l *layer) findLocked(c ipcp.Connection) int {
	for i, p := range l.peers {
		if p.Dst == c.Dst && p.Component == c.Component {
			return i
		}
	}
	return -1
}

// Show implements ipcp.Shower.
func (l *layer) Show() []view.Fact {
	facts := append([]view.Fact{{Name: "names here", Value: strconv.Itoa(l.Names())}}, l.Facts()...)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.peers {
		facts = append(facts, view.Fact{Name: "neighbour", Value: p.Dst + " " + p.Component + " " + core.QoSName(p.QoS)})
	}
	return facts
}

// The wire: each datagram begins with the endpoint id of its receiver. Behind
// that is a packet, or where the id is 0 a message.

const (
	idLen     = 4
	maxPacket = 8192
)

func (l *layer) path(to netip.AddrPort) ipcp.Path {
	return ipcp.Path{MPL: time.Second, Max: maxPacket, Best: min(l.socket.PathMTU(to.Addr())-28-idLen, maxPacket)}
}

// Find implements carry.Out.
func (l *layer) Find(dst core.Hash) (netip.AddrPort, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if to, ok := l.known[dst]; ok {
		return to, nil
	}
	return netip.AddrPort{}, core.ErrName
}

// Request implements carry.Out.
func (l *layer) Request(to netip.AddrPort, eid uint64, dst core.Hash, qos core.QoS, data []byte) error {
	return l.send(to, &message{Kind: request, From: uint32(eid), QoS: qos, Dst: dst, Data: data})
}

// Reply implements carry.Out.
func (l *layer) Reply(to netip.AddrPort, remote, eid uint64, code core.Errno, data []byte) {
	_ = l.send(to, &message{Kind: reply, To: uint32(remote), From: uint32(eid), Code: carry.Response(code), Data: data}) // an error: as if it were lost on the way
}

// Bye implements carry.Out.
func (l *layer) Bye(to netip.AddrPort, remote uint64) {
	_ = l.send(to, &message{Kind: bye, To: uint32(remote)})
}

func (l *layer) send(to netip.AddrPort, m *message) error {
	_, err := l.socket.Send([]port.Datagram{{Peer: to, Body: m.append(nil)}})
	return err
}

// Carry implements carry.Out. A packet that the socket refuses is lost.
func (l *layer) Carry(to netip.AddrPort, remote, _ uint64, packets [][]byte) int {
	for _, p := range packets {
		_, _ = l.socket.Send([]port.Datagram{{Peer: to, Head: head(remote), Body: p}})
	}
	return len(packets)
}

// Alive implements carry.Out.
func (l *layer) Alive(to netip.AddrPort, remote, _ uint64) {
	_, _ = l.socket.Send([]port.Datagram{{Peer: to, Head: head(remote)}})
}

func head(remote uint64) []byte { return binary.BigEndian.AppendUint32(nil, uint32(remote)) }

// read takes datagrams until the socket is closed.
func (l *layer) read() {
	if l.socket == nil {
		return
	}
	d := make([]port.Datagram, 64)
	for {
		n, err := l.socket.Recv(d)
		if err != nil {
			return
		}
		for _, one := range d[:n] {
			l.received(one.Peer, one.Body)
		}
		l.Flush()
	}
}

func (l *layer) received(from netip.AddrPort, b []byte) {
	if len(b) < idLen {
		l.Count().Stray.Add(1)
		return
	}
	if eid := binary.BigEndian.Uint32(b); eid != 0 {
		l.Deliver(from, 0, uint64(eid), b[idLen:])
		return
	}
	m, err := parse(b)
	if err != nil {
		l.Count().Stray.Add(1)
		return
	}
	switch m.Kind {
	case request:
		l.Requested(from, uint64(m.From), m.Dst, m.QoS, m.Data)
	case reply:
		l.Replied(from, uint64(m.To), uint64(m.From), carry.Code(m.Code), m.Data)
	case bye:
		l.Left(from, uint64(m.To))
	}
}
