// Package eth is the layer types that run straight on Ethernet: eth-dix, whose
// frames have an EtherType, and eth-llc, whose frames have an IEEE 802.2 header.
// All stations on one Ethernet with the same EtherType are members of one layer.
// The form of the messages is the C prototype's.
package eth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/carry"
	"o7s/core/ipcp/port"
	"o7s/core/oap"
	"o7s/core/view"
)

var device = ipcp.Option{
	Name: "dev", Value: "IF", Kind: ipcp.Text, Need: true, Place: 30,
	Help: "network device, such as eth0", Suggest: devices,
}

// LLC and Dix describe the layers on Ethernet to irm, irmd and ipcpd.
var (
	LLC = ipcp.Type{
		Name: "eth-llc", Rank: 3, Far: true, Does: ipcp.Provides,
		Options: []ipcp.Option{device},
		New:     func(env ipcp.Env) ipcp.Ops { return newLayer(llc, carry.IDsSAP, env) },
	}
	Dix = ipcp.Type{
		Name: "eth-dix", Rank: 4, Far: true, Does: ipcp.Provides,
		Options: []ipcp.Option{
			device,
			{
				Name: "ethertype", Value: "TYPE", Kind: ipcp.Number, Base: 16, Min: 0x0600, Max: 0xfffe, Default: "A000", Place: 40,
				Help: "EtherType of the layer's frames, in hexadecimal",
			},
		},
		New: func(env ipcp.Env) ipcp.Ops { return newLayer(dix, carry.IDs16, env) },
	}
)

// devices returns the network devices of this system.
func devices() []string {
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// layer implements ipcp.Ops. The flow calls are those of carry.Flows.
type layer struct {
	*carry.Flows[port.MAC]
	*format
	env ipcp.Env

	// Set by Bootstrap.
	dev    string
	dir    *directory
	socket port.Ether
	done   chan struct{} // closed when Run ends

	// The pump's alone.
	batch []port.Frame
	heads []byte
}

// mpl bounds how long a packet is under way: the C prototype's for Ethernet.
const mpl = 100 * time.Millisecond

// replyAfter keeps a reply from coming before the C prototype expects it.
const replyAfter = 5 * time.Millisecond

func newLayer(f *format, ids carry.IDs, env ipcp.Env) *layer {
	l := &layer{format: f, env: env, done: make(chan struct{})}
	l.Flows = carry.New(env, carry.Config[port.MAC]{
		IDs: ids, Path: l.path, Text: port.MAC.String, Ours: oap.Ours, Silent: true, ReplyAfter: replyAfter,
	}, l)
	return l
}

// Bootstrap implements ipcp.Ops.
func (l *layer) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	l.dev = cfg.Settings.Text("dev")
	proto := port.LLC
	if l.format == dix {
		proto = port.Proto(cfg.Settings.Number("ethertype"))
	}
	hashLen := cfg.Hash.Size()
	err := l.Begin(func() error {
		socket, err := l.env.Ports.Ether(l.dev, proto)
		if err != nil {
			return fmt.Errorf("open device %q: %w", l.dev, err)
		}
		l.socket = socket
		l.dir = newDirectory(l.env.Clock, l.ask)
		l.dir.hashLen = hashLen
		return nil
	}, l.close)
	if err == nil {
		l.env.Log.Infof("Using device %s, address %v, MTU %d.", l.dev, l.socket.MAC(), l.socket.MTU())
	}
	return cfg, err
}

// Run implements ipcp.Ops.
func (l *layer) Run(ctx context.Context) error {
	l.Serve(ctx, l.read, l.close)
	return nil
}

func (l *layer) close() {
	close(l.done)
	l.dir.close()
	l.socket.Close()
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
	link := "down"
	if l.socket.Up() {
		link = "up"
	}
	facts := append([]view.Fact{
		{Name: "device", Value: l.dev + " is " + link}, {Name: "address", Value: l.socket.MAC().String()},
		{Name: "MTU", Value: strconv.Itoa(l.socket.MTU())}, {Name: "names known elsewhere", Value: strconv.Itoa(l.dir.len())},
	}, l.Facts()...)
	if lost := l.socket.Lost(); lost > 0 {
		facts = append(facts, view.Fact{Name: "frames dropped by the system", Value: strconv.FormatUint(lost, 10)})
	}
	return facts
}

func (l *layer) path(port.MAC) ipcp.Path {
	n := l.maxPayload(l.socket.MTU())
	return ipcp.Path{MPL: mpl, Max: n, Best: n}
}

// Find implements carry.Out.
func (l *layer) Find(dst core.Hash) (port.MAC, error) {
	mac, ok := l.dir.station(dst)
	if !ok {
		return mac, fmt.Errorf("%w: at which station %v is, is not known", core.ErrName, dst)
	}
	return mac, nil
}

// Request implements carry.Out.
func (l *layer) Request(to port.MAC, eid uint64, dst core.Hash, qos core.QoS, data []byte) error {
	return l.manage(to, &message{Code: flowRequest, SEID: uint16(eid), QoS: qos, Rest: append([]byte(dst), data...)})
}

// Reply implements carry.Out.
func (l *layer) Reply(to port.MAC, remote, eid uint64, c core.Errno, data []byte) {
	m := &message{Code: flowReply, DEID: uint16(remote), Response: carry.Response(c)}
	if c == 0 {
		m.SEID, m.Rest = uint16(eid), data
	}
	_ = l.manage(to, m) // an error: as if it were lost on the way
}

// Bye implements carry.Out.
func (l *layer) Bye(to port.MAC, remote uint64) {
	_ = l.manage(to, &message{Code: flowBye, DEID: uint16(remote)})
}

// Refresh implements carry.Refresher: the station may have gone, or have another
// address.
func (l *layer) Refresh(dst core.Hash) { l.dir.refresh(dst) }

// ask broadcasts a query for the station of h.
func (l *layer) ask(h core.Hash) {
	_ = l.manage(port.Broadcast, &message{Code: nameQuery, Rest: []byte(h)})
}

// manage sends a management message.
func (l *layer) manage(to port.MAC, m *message) error {
	b := make([]byte, l.head, l.head+l.fixed()+len(m.Rest))
	b = l.append(b, m)
	l.put(b, l.mgmt, l.mgmt, len(b)-l.head)
	_, err := l.socket.Send([]port.Frame{{Peer: to, Body: b}})
	return err
}

// Carry implements carry.Out. Send waits while the socket is full, so all are
// taken; one that the device refuses is lost.
func (l *layer) Carry(to port.MAC, remote, eid uint64, packets [][]byte) int {
	l.batch = l.batch[:0]
	if need := len(packets) * l.head; cap(l.heads) < need {
		l.heads = make([]byte, need)
	}
	for i, p := range packets {
		head := l.heads[i*l.head : (i+1)*l.head]
		l.put(head, uint16(remote), uint16(eid), len(p))
		l.batch = append(l.batch, port.Frame{Peer: to, Head: head, Body: p})
	}
	for f := l.batch; len(f) > 0; {
		n, err := l.socket.Send(f)
		if errors.Is(err, core.ErrClosed) {
			break
		}
		if err != nil {
			n++
		}
		f = f[min(n, len(f)):]
	}
	return len(packets)
}

// Alive implements carry.Out.
func (l *layer) Alive(to port.MAC, remote, eid uint64) {
	head := make([]byte, l.head)
	l.put(head, uint16(remote), uint16(eid), 0)
	_, _ = l.socket.Send([]port.Frame{{Peer: to, Body: head}})
}

// readBatch is how many frames are received at a time.
const readBatch = 128

// read takes frames until the socket is closed.
func (l *layer) read() {
	var watcher sync.WaitGroup
	watcher.Go(l.watch)
	defer watcher.Wait()
	f := make([]port.Frame, readBatch)
	for {
		n, err := l.socket.Recv(f)
		if err != nil {
			return
		}
		for i := range f[:n] {
			l.received(&f[i])
		}
		l.Flush()
	}
}

// watch tells of a link that goes down or comes up. Flows live on: packets are
// lost meanwhile.
func (l *layer) watch() {
	was, mtu := true, l.socket.MTU()
	for {
		if now := l.socket.MTU(); now != mtu {
			mtu = now
			l.env.Log.Infof("Device %s has the MTU %d.", l.dev, mtu)
		}
		if up := l.socket.Up(); up != was {
			was = up
			if up {
				l.env.Log.Infof("Device %s is up.", l.dev)
			} else {
				l.env.Log.Warnf("Device %s is down: nothing is sent or received.", l.dev)
			}
		}
		select {
		case <-l.socket.Changed():
		case <-l.done:
			return
		}
	}
}

func (l *layer) received(f *port.Frame) {
	dst, src, payload, err := l.parse(f.Body)
	if err != nil || f.Peer.IsGroup() || f.Peer == l.socket.MAC() {
		l.Count().Stray.Add(1)
		return
	}
	if !l.isMgmt(dst, src) {
		if f.Group {
			l.Count().Stray.Add(1)
			return
		}
		l.Deliver(f.Peer, uint64(src), uint64(dst), payload)
		return
	}
	m, err := l.message(payload)
	if err != nil || f.Group != (m.Code == nameQuery) {
		l.Count().Stray.Add(1)
		return
	}
	l.managed(f.Peer, &m)
}

// managed takes a management message.
func (l *layer) managed(from port.MAC, m *message) {
	switch m.Code {
	case flowReply:
		code := carry.Code(m.Response)
		if code == 0 && (m.SEID == l.mgmt || m.SEID > l.maxID) {
			code = core.ErrMessage // no id to send to
		}
		l.Replied(from, uint64(m.DEID), uint64(m.SEID), code, m.Rest)
		return
	case flowBye:
		l.Left(from, uint64(m.DEID))
		return
	}
	if len(m.Rest) < l.dir.hashLen {
		l.Count().Stray.Add(1)
		return
	}
	h, data := core.Hash(m.Rest[:l.dir.hashLen]), m.Rest[l.dir.hashLen:]
	switch m.Code {
	case flowRequest:
		if m.SEID != l.mgmt && m.SEID <= l.maxID {
			l.Requested(from, uint64(m.SEID), h, m.QoS, data)
		}
	case nameQuery:
		if l.Registered(h) {
			_ = l.manage(from, &message{Code: nameReply, Rest: []byte(h)})
		}
	case nameReply:
		l.dir.answered(h, from)
	}
}
