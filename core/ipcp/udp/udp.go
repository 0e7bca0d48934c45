// Package udp is the layer types over UDP: udp4 over IPv4 and udp6 over IPv6. A
// member is a socket; where a name is, the resolver, a hosts file or a DNS server
// says. The form of the messages is the C prototype's.
package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/carry"
	"o7s/core/ipcp/port"
	"o7s/core/oap"
	"o7s/core/view"
)

// V4 and V6 describe the layers over UDP to irm, irmd and ipcpd.
var (
	V4 = typeOf(&family{name: "udp4", rank: 5, kind: ipcp.Addr4, example: "10.0.0.1", max: 8980, header: 28})
	V6 = typeOf(&family{name: "udp6", rank: 6, kind: ipcp.Addr6, example: "fd00::1", max: 8952, header: 48})
)

// family is in what the two types differ.
type family struct {
	name    string
	rank    int
	kind    ipcp.Kind
	example string
	max     int // bytes of the largest datagram that the C prototype takes
	header  int // bytes of the IP and UDP headers
}

func (f *family) v6() bool { return f.kind == ipcp.Addr6 }

func typeOf(f *family) ipcp.Type {
	return ipcp.Type{
		Name: f.name, Rank: f.rank, Far: true, Does: ipcp.Provides,
		Hashes: []hash.Algorithm{hash.MD5},
		Options: []ipcp.Option{
			{Name: "ip", Value: "ADDR", Kind: f.kind, Need: true, Place: 10, Help: "this system's own address in the layer, such as " + f.example, Check: specified},
			{Name: "dns", Value: "ADDR", Kind: f.kind, Place: 20, Help: "a DNS server that is asked for names, and told of those that are registered here", Check: specified},
			{Name: "port", Value: "PORT", Kind: ipcp.Number, Min: 1, Max: 65535, Default: "3435", Place: 80, Help: "UDP port, the same for all members of the layer"},
			{Name: "hosts", Value: "FILE", Kind: ipcp.Text, Place: 1000, Help: "a hosts file that is read before the resolver is asked", Check: wholePath},
		},
		New: func(env ipcp.Env) ipcp.Ops { return newLayer(f, env) },
	}
}

func specified(value string) error {
	a, err := netip.ParseAddr(value)
	if err != nil || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("%w: %s is no address of one system", core.ErrUsage, value)
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		return fmt.Errorf("%w: %s says nothing without a network device; give an address that is more than link-local", core.ErrUsage, value)
	}
	return nil
}

// wholePath refuses the name of a file that depends on a folder: the IPCP's is
// another one than the user's.
func wholePath(value string) error {
	if !filepath.IsAbs(value) {
		return fmt.Errorf("%w: %s is no whole path, such as /etc/hosts", core.ErrUsage, value)
	}
	return nil
}

// layer implements ipcp.Ops. The flow calls are those of carry.Flows.
type layer struct {
	*carry.Flows[netip.AddrPort]
	family *family
	env    ipcp.Env

	port   uint16
	dir    *directory
	socket port.UDP

	// The pump's alone.
	batch []port.Datagram
	head  [eidLen]byte

	mu   sync.Mutex // guards path
	path map[netip.Addr]ipcp.Path
}

// mpl bounds how long a packet is under way: the C prototype's for UDP.
const mpl = 5e9 // ns

// replyAfter keeps a reply from coming before the C prototype expects it: one
// that comes within some 0.3 ms of the request may be dropped there.
const replyAfter = 5e6 // ns

func newLayer(f *family, env ipcp.Env) *layer {
	l := &layer{family: f, env: env, path: make(map[netip.Addr]ipcp.Path)}
	l.Flows = carry.New(env, carry.Config[netip.AddrPort]{
		IDs: carry.IDs31, Path: l.pathTo, Text: netip.AddrPort.String, Ours: oap.Ours, ReplyAfter: replyAfter,
	}, l)
	return l
}

// Bootstrap implements ipcp.Ops.
func (l *layer) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	own := netip.AddrPortFrom(cfg.Settings.Addr("ip"), uint16(cfg.Settings.Number("port")))
	err := l.Begin(func() error {
		socket, err := l.env.Ports.UDP(own)
		if err != nil {
			return fmt.Errorf("bind UDP socket to %v: %w", own, err)
		}
		dir, err := newDirectory(l.env, l.family, own.Addr(), cfg.Settings.Addr("dns"), cfg.Settings.Text("hosts"))
		if err != nil {
			socket.Close()
			return err
		}
		l.port, l.socket, l.dir = own.Port(), socket, dir
		return nil
	}, l.close)
	if err == nil {
		l.env.Log.Infof("Bound UDP socket to %v.", own)
	}
	return cfg, err
}

// Run implements ipcp.Ops.
func (l *layer) Run(ctx context.Context) error {
	l.Serve(ctx, l.read, l.close)
	return nil
}

func (l *layer) close() {
	l.dir.close()
	l.socket.Close()
}

// Register implements ipcp.Ops.
func (l *layer) Register(ctx context.Context, h core.Hash) error {
	if err := l.dir.publish(ctx, h, true); err != nil {
		return err
	}
	return l.Flows.Register(ctx, h)
}

// Unregister implements ipcp.Ops. Here the name is gone at once, whatever the
// DNS server says.
func (l *layer) Unregister(ctx context.Context, h core.Hash) error {
	if err := l.Flows.Unregister(ctx, h); err != nil {
		return err
	}
	return l.dir.publish(ctx, h, false)
}

// Query implements ipcp.Ops.
func (l *layer) Query(ctx context.Context, h core.Hash) error {
	if l.Registered(h) {
		return nil
	}
	return l.dir.query(ctx, h)
}

// Show implements ipcp.Shower.
func (l *layer) Show() []view.Fact {
	facts := append([]view.Fact{{Name: "socket", Value: l.socket.LocalAddr().String()}}, l.Facts()...)
	if lost := l.socket.Lost(); lost > 0 {
		facts = append(facts, view.Fact{Name: "datagrams dropped by the system", Value: strconv.FormatUint(lost, 10)})
	}
	return facts
}

// pathTo returns the way to p.
func (l *layer) pathTo(p netip.AddrPort) ipcp.Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	path, ok := l.path[p.Addr()]
	if !ok {
		best := l.socket.PathMTU(p.Addr()) - l.family.header - eidLen
		path = ipcp.Path{MPL: mpl, Max: l.family.max - eidLen, Best: min(max(best, 512), l.family.max-eidLen)}
		if len(l.path) >= maxPaths {
			clear(l.path)
		}
		l.path[p.Addr()] = path
	}
	return path
}

// maxPaths bounds what is remembered of the ways to other systems.
const maxPaths = 4096

// Find implements carry.Out.
func (l *layer) Find(dst core.Hash) (netip.AddrPort, error) {
	addr, ok := l.dir.known(dst)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%w: where %v is, is not known", core.ErrName, dst)
	}
	return netip.AddrPortFrom(addr, l.port), nil
}

// Refresh implements carry.Refresher: the name may have moved.
func (l *layer) Refresh(dst core.Hash) { l.dir.refresh(dst) }

// Request implements carry.Out.
func (l *layer) Request(to netip.AddrPort, eid uint64, dst core.Hash, qos core.QoS, data []byte) error {
	rest := append([]byte(dst), data...)
	return l.send(to, &message{Code: flowRequest, SEID: uint32(eid), QoS: qos, Rest: rest})
}

// Reply implements carry.Out.
func (l *layer) Reply(to netip.AddrPort, remote, eid uint64, c core.Errno, data []byte) {
	m := &message{Code: flowReply, SEID: uint32(remote), Response: carry.Response(c)}
	if c == 0 {
		m.DEID, m.Rest = uint32(eid), data
	}
	_ = l.send(to, m) // an error: as if it were lost on the way
}

// Bye implements carry.Out.
func (l *layer) Bye(to netip.AddrPort, remote uint64) {
	_ = l.send(to, &message{Code: flowBye, SEID: uint32(remote)})
}

// Hello implements carry.Greeter.
func (l *layer) Hello(to netip.AddrPort) { _ = l.send(to, &message{Code: hello}) }

func (l *layer) send(to netip.AddrPort, m *message) error {
	_, err := l.socket.Send([]port.Datagram{{Peer: to, Body: m.append(nil)}})
	return err
}

// Carry implements carry.Out. Send waits while the socket is full, so all are
// taken; one that the socket refuses is lost.
func (l *layer) Carry(to netip.AddrPort, remote, _ uint64, packets [][]byte) int {
	binary.BigEndian.PutUint32(l.head[:], uint32(remote))
	l.batch = l.batch[:0]
	for _, p := range packets {
		l.batch = append(l.batch, port.Datagram{Peer: to, Head: l.head[:], Body: p})
	}
	for d := l.batch; len(d) > 0; {
		n, err := l.socket.Send(d)
		if errors.Is(err, core.ErrClosed) {
			break
		}
		if err != nil {
			n++
		}
		d = d[min(n, len(d)):]
	}
	return len(packets)
}

// Alive implements carry.Out.
func (l *layer) Alive(to netip.AddrPort, remote, _ uint64) {
	var b [eidLen]byte
	binary.BigEndian.PutUint32(b[:], uint32(remote))
	_, _ = l.socket.Send([]port.Datagram{{Peer: to, Body: b[:]}})
}

// readBatch is how many datagrams are received at a time.
const readBatch = 128

// read takes datagrams until the socket is closed.
func (l *layer) read() {
	d := make([]port.Datagram, readBatch)
	for {
		n, err := l.socket.Recv(d)
		if err != nil {
			return
		}
		for _, one := range d[:n] {
			if one.Refused {
				l.Refused(one.Peer)
			} else {
				l.received(one.Peer, one.Body)
			}
		}
		l.Flush()
	}
}

func (l *layer) received(from netip.AddrPort, b []byte) {
	if len(b) < eidLen {
		l.Count().Stray.Add(1)
		return
	}
	if eid := binary.BigEndian.Uint32(b); eid != 0 {
		l.Deliver(from, 0, uint64(eid), b[eidLen:])
		return
	}
	m, err := parse(b)
	if err != nil {
		l.Count().Stray.Add(1)
		return
	}
	switch m.Code {
	case flowRequest:
		if m.SEID == 0 { // no id to answer to
			l.Count().Stray.Add(1)
			return
		}
		l.Requested(from, uint64(m.SEID), core.Hash(m.Rest[:hashLen]), m.QoS, m.Rest[hashLen:])
	case flowReply:
		code := carry.Code(m.Response)
		if code == 0 && m.DEID == 0 {
			code = core.ErrMessage // no id to send to
		}
		l.Replied(from, uint64(m.SEID), uint64(m.DEID), code, m.Rest)
	case flowBye:
		l.Left(from, uint64(m.SEID))
	case hello:
		l.Greeted(from)
	}
}
