// Package unicast is the layer over layers: flows of other layers join its members. A
// packet passes from member to member until the end of its flow. The members find the
// ways of packets (linkstate, pff), names (dht) and each other's flows (fa) themselves.
// Their messages have the form of the C prototype's.
//
// Two goroutines carry the packets. That of package carry takes packets that processes
// write to the flows between members. The other, read, takes packets from these flows
// to processes or to the next member. For a packet they take layer.mu only to wait for
// room, and for messages of the directory and of the management; with mb-ecn they take the
// small locks of congestion.
//
// The components are values that layer.mu guards. It is never held across a call of the
// Host, nor across one that waits. Under it messages are put into flows of Net, which takes
// no time, and Flows.mu of package carry is taken, but never the other way round.
package unicast

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/core/ipcp/carry"
	"o7s/core/ipcp/unicast/dht"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/fa"
	"o7s/core/ipcp/unicast/linkstate"
	"o7s/core/ipcp/unicast/pff"
	"o7s/core/logs"
	"o7s/core/oap"
)

// Type describes the unicast layer to irm, irmd and ipcpd.
var Type = ipcp.Type{
	Name: "unicast", Rank: 1, Far: true,
	Does:    ipcp.Provides | ipcp.Enrolls | ipcp.Connects,
	Options: layerOptions,
	Check:   checkOptions,
	New:     New,
}

const (
	maxAddr = 1<<32 - 1
	// mpl bounds how long a packet is on its way, as in the C prototype.
	mpl = 100 * time.Millisecond
	// replyAfter is the least time before a reply: the C prototype expects none earlier.
	replyAfter = 5 * time.Millisecond
)

// layer implements ipcp.Ops: it is one member. The flow calls are those of
// carry.Flows, whose addresses are those of members.
type layer struct {
	*carry.Flows[uint64]
	env ipcp.Env
	log logsOf

	// These draw the member's random address and id. Tests set their own.
	drawAddr func(but uint64) uint64
	drawID   func(b []byte)

	// Set once, before the layer is up.
	cfg    ipcp.Config
	opt    options
	own    uint64
	ctx    context.Context // until close
	cancel context.CancelFunc
	set    ipcp.Set // of the flows to other members
	accept ipcp.Acceptor
	wg     sync.WaitGroup // of all goroutines but read
	guests guests

	table atomic.Pointer[dt.Table]
	path  atomic.Pointer[ipcp.Path]
	count counters
	cong  congestion
	carry struct { // only the pump uses it
		head  [dt.HeaderLen]byte
		dirty []*adjacency
	}

	mu       sync.Mutex // guards the fields below
	up       bool
	closed   bool
	peer     uint64 // the member that the directory asks first; 0: none
	links    *linkstate.State
	dir      *dht.State
	ports    map[linkstate.Port]*adjacency // all flows to other members
	lastPort linkstate.Port
	kept     []*connection
	reach    map[uint64]bool // members that packets reach
	recalc   recalc
}

// logsOf has the components of the log.
type logsOf struct {
	unicast, conn, enroll, links, dt, dht, dir, fa, addr, ca, pff *logs.Logger
}

var (
	_ ipcp.Enroller     = (*layer)(nil)
	_ ipcp.Connecter    = (*layer)(nil)
	_ ipcp.Shower       = (*layer)(nil)
	_ carry.Out[uint64] = (*layer)(nil)
	_ carry.Refresher   = (*layer)(nil)
	_ linkstate.Out     = (*layer)(nil)
	_ dht.Out           = (*directoryOut)(nil)
)

// New returns a member of no layer yet.
func New(env ipcp.Env) ipcp.Ops {
	l := &layer{env: env, drawAddr: drawAddr, drawID: drawID}
	with := env.Log.With
	l.log = logsOf{
		unicast: with("unicast-ipcp"), conn: with("connection-manager"), enroll: with("enrollment"), links: with("link-state-routing"),
		dt: with("dt"), dht: with("dht"), dir: with("directory"), fa: with("flow-allocator"), addr: with("flat-addr-auth"), ca: with("ca"), pff: with("pff"),
	}
	l.Flows = carry.New(env, carry.Config[uint64]{
		IDs: carry.IDs64, Path: func(uint64) ipcp.Path { return *l.path.Load() }, Text: addrText,
		Ours: oap.Ours, Anonymous: true, ReplyAfter: replyAfter,
	}, l)
	l.path.Store(&ipcp.Path{MPL: mpl, Max: core.MaxPacket - dt.HeaderLen, Best: core.MaxPacket - dt.HeaderLen})
	l.cong.init()
	return l
}

// addrText returns an address as its four bytes in packets.
func addrText(addr uint64) string {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(addr))
	return fmt.Sprintf("%02x.%02x.%02x.%02x", b[0], b[1], b[2], b[3])
}

// Bootstrap implements ipcp.Ops.
func (l *layer) Bootstrap(ctx context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	return cfg, l.begin(ctx, cfg, 0)
}

// begin makes this a member of the layer cfg. peer is the address of another member, or
// 0.
func (l *layer) begin(ctx context.Context, cfg ipcp.Config, peer uint64) error {
	return l.Begin(func() error {
		if l.env.Net == nil {
			return fmt.Errorf("%w: the IPCP can't use flows", core.ErrNotSupported)
		}
		set, err := l.env.Net.NewSet()
		if err != nil {
			return err
		}
		accept, err := l.env.Net.Listen(ctx)
		if err != nil {
			set.Close()
			return fmt.Errorf("accept flows of other members: %w", err)
		}
		l.start(cfg, peer, set, accept)
		return nil
	}, l.close)
}

// drawAddr returns a random address that is not but.
func drawAddr(but uint64) uint64 {
	for {
		if a := uint64(rand.Uint32()); a != 0 && a != but {
			return a
		}
	}
}

// drawID fills b with random bytes.
func drawID(b []byte) { _, _ = crand.Read(b) } // it never fails

// start starts the components.
func (l *layer) start(cfg ipcp.Config, peer uint64, set ipcp.Set, accept ipcp.Acceptor) {
	l.cfg, l.opt, l.peer, l.set, l.accept = cfg, parseOptions(cfg.Settings), peer, set, accept
	l.own = l.drawAddr(peer)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	id := make([]byte, cfg.Hash.Size())
	l.drawID(id)
	o := l.opt
	l.log.addr.Debugf("Flat address initialized to %s.", addrText(l.own))
	l.log.unicast.Infof("IPCP got address %d.", l.own)
	if o.ecn {
		l.log.ca.Debugf("Using multi-bit ECN.")
	} else {
		l.log.ca.Debugf("Using no congestion avoidance.")
	}
	l.log.links.Debugf("Using link state routing policy.")
	l.log.links.Debugf("LS update interval: %d seconds.", o.update/time.Second)
	l.log.links.Debugf("LS link timeout   : %d seconds.", o.timeout/time.Second)
	l.log.links.Debugf("LS recalc interval: %d seconds.", o.recalc/time.Second)
	for range cubes {
		l.log.pff.Debugf("Using %v PFF policy.", o.policy)
	}
	l.log.dir.Infof("Using DHT policy.")
	l.log.dht.Infof("DHT initialized.")
	l.log.dht.Debugf("  ID: %v [%d bytes].", core.Hash(id), len(id))
	l.log.dht.Debugf("  address: %s.", addrText(l.own))
	l.log.dht.Debugf("  peer: %s.", addrText(peer))
	l.log.dht.Infof("  parameters: alpha=%d, k=%d, t_exp=%d, t_refr=%d, t_replicate=%d.", o.alpha, o.k, o.expire/time.Second, o.refresh/time.Second, o.repl/time.Second)

	l.mu.Lock()
	defer l.mu.Unlock()
	clk := lockedClock{l}
	l.ports = make(map[linkstate.Port]*adjacency)
	l.table.Store(&dt.Table{})
	l.up = true
	l.links = linkstate.New(linkstate.Config{Own: l.own, Update: o.update, Timeout: o.timeout}, clk, l)
	l.dir = dht.New(dht.Config{
		Own: l.own, ID: string(id), Peer: peer, Alpha: o.alpha, K: o.k, Expire: o.expire, Refresh: o.refresh, Replicate: o.repl, Random: rand.Uint64,
	}, clk, (*directoryOut)(l))
	l.wg.Go(l.welcome)
	l.cong.start(l)
}

// cubes is how many classes of forwarding there are. All have the same table.
const cubes = 3

// close ends the components and the flows to other members.
func (l *layer) close() {
	l.mu.Lock()
	l.closed = true
	l.links.Stop()
	l.dir.Stop()
	l.recalc.stop()
	for _, c := range l.kept {
		c.stop()
	}
	l.kept = nil
	all := l.ports
	l.ports = make(map[linkstate.Port]*adjacency)
	l.mu.Unlock()
	l.cong.stop()
	l.cancel()
	l.accept.Close()
	for _, a := range all {
		a.hop.SetDown()
		a.flow.Close()
	}
	l.wg.Wait()
	l.set.Close()
}

// Run implements ipcp.Ops.
func (l *layer) Run(ctx context.Context) error {
	l.Serve(ctx, l.read, l.close)
	return nil
}

// lockedClock calls back under the member's lock.
type lockedClock struct{ l *layer }

func (c lockedClock) Now() time.Time { return c.l.env.Clock.Now() }

func (c lockedClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return c.l.env.Clock.AfterFunc(d, func() {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		if !c.l.closed {
			f()
		}
	})
}

// Register implements ipcp.Ops.
func (l *layer) Register(ctx context.Context, h core.Hash) error {
	if err := l.checkHash(h); err != nil {
		return err
	}
	if err := l.Flows.Register(ctx, h); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.dir.Register(h)
	}
	return nil
}

// Unregister implements ipcp.Ops.
func (l *layer) Unregister(ctx context.Context, h core.Hash) error {
	if err := l.Flows.Unregister(ctx, h); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.dir.Unregister(h)
	}
	return nil
}

func (l *layer) checkHash(h core.Hash) error {
	if len(h) != l.cfg.Hash.Size() {
		return fmt.Errorf("%w: a hash of %d bytes, those of this layer have %d", core.ErrUsage, len(h), l.cfg.Hash.Size())
	}
	return nil
}

// Query implements ipcp.Ops.
func (l *layer) Query(ctx context.Context, h core.Hash) error {
	if l.Registered(h) {
		return nil
	}
	if err := l.checkHash(h); err != nil {
		return err
	}
	found := make(chan uint64, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errEnds
	}
	l.dir.Find(h, func(addr uint64) { found <- addr })
	l.mu.Unlock()
	select {
	case addr := <-found:
		if addr == 0 {
			return core.ErrName
		}
		return nil
	case <-l.ctx.Done():
		return errEnds
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
}

var errEnds = fmt.Errorf("%w: the IPCP ends", core.ErrState)

// Find implements carry.Out.
func (l *layer) Find(dst core.Hash) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if addr, ok := l.dir.Known(dst); ok {
		return addr, nil
	}
	return 0, fmt.Errorf("%w: where %v is, is not known", core.ErrName, dst)
}

// Refresh implements carry.Refresher.
func (l *layer) Refresh(dst core.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.dir.Find(dst, func(uint64) {})
	}
}

// directoryOut is dht.Out; l.mu is held.
type directoryOut layer

// Send implements dht.Out.
func (d *directoryOut) Send(addr uint64, msg []byte) {
	_ = (*layer)(d).send(addr, dt.Directory, msg) // an error is like a message that is lost
}

// Reachable implements dht.Out.
func (d *directoryOut) Reachable(addr uint64) bool { return d.reach[addr] }

// Alone implements dht.Out.
func (d *directoryOut) Alone() bool {
	for _, a := range d.ports {
		if a.component == ipcp.DataTransfer {
			return false
		}
	}
	return true
}

// Event implements dht.Out.
func (d *directoryOut) Event(what string, key core.Hash, addr uint64, expires time.Time) {
	d.log.dht.Debugf("<%v, %s> Adding entry (%s).", key, addrText(addr), what)
	if !expires.IsZero() {
		d.log.dht.Debugf("Stored value until %s (UTC).", expires.UTC().Format(time.DateTime))
	}
}

// Request implements carry.Out.
func (l *layer) Request(to uint64, eid uint64, dst core.Hash, qos core.QoS, data []byte) error {
	m := &fa.Message{Code: fa.Request, From: l.own, Sender: eid, QoS: qos, Rest: append([]byte(dst), data...)}
	return l.send(to, dt.FlowAllocator, m.Append(nil))
}

// Reply implements carry.Out.
func (l *layer) Reply(to uint64, remote, eid uint64, code core.Errno, data []byte) {
	m := &fa.Message{Code: fa.Reply, Receiver: remote, Response: carry.Response(code)}
	if code == 0 {
		m.Sender, m.Rest = eid, data
	}
	_ = l.send(to, dt.FlowAllocator, m.Append(nil)) // an error is like a message that is lost
}

// Bye implements carry.Out.
func (l *layer) Bye(to uint64, remote uint64) {
	m := &fa.Message{Code: fa.Bye, Receiver: remote}
	_ = l.send(to, dt.FlowAllocator, m.Append(nil))
}

// Alive implements carry.Out.
func (l *layer) Alive(to uint64, remote, _ uint64) { _ = l.send(to, remote, nil) }

// allocator takes a message of the flow allocator.
func (l *layer) allocator(b []byte) {
	m, err := fa.Parse(b, l.cfg.Hash.Size())
	if err != nil {
		l.count.bad.Add(1)
		return
	}
	switch m.Code {
	case fa.Request:
		if m.From != l.own && m.Sender >= dt.FirstFlow {
			n := l.cfg.Hash.Size()
			l.Requested(m.From, m.Sender, core.Hash(m.Rest[:n]), m.QoS, m.Rest[n:])
		}
	case fa.Reply:
		if id, ok := l.ID(m.Receiver); ok {
			l.log.fa.Debugf("IPCP received msg response %d for flow on fd %d.", m.Response, id)
		}
		code := carry.Code(m.Response)
		if code == 0 && m.Sender < dt.FirstFlow {
			code = core.ErrMessage // no id to send to
		}
		l.Replied(0, m.Receiver, m.Sender, code, m.Rest)
	case fa.Update:
		l.cong.update(m.Receiver, m.ECE)
	case fa.Bye:
		l.Left(0, m.Receiver)
	}
}

var errNoWay = errors.New("there is no way to it")

// recalc decides when routes are made again: soon after a change, but less and less
// often while changes go on.
type recalc struct {
	timer clock.Timer
	due   bool
	last  time.Time
	hold  time.Duration
}

// recalcMin is the least time before routes are made again.
const recalcMin = 10 * time.Millisecond

func (r *recalc) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

// Changed implements linkstate.Out; l.mu is held.
func (l *layer) Changed() {
	r := &l.recalc
	if r.due {
		return
	}
	r.due = true
	wait := time.Duration(0)
	switch quiet := l.env.Clock.Now().Sub(r.last); {
	case quiet >= 2*max(r.hold, recalcMin):
		r.hold = recalcMin
	default:
		r.hold = min(2*max(r.hold, recalcMin), l.opt.recalc)
		wait = max(r.hold-quiet, 0)
	}
	r.timer = lockedClock{l}.AfterFunc(wait, l.route)
}

// route makes the routes; l.mu is held.
func (l *layer) route() {
	l.recalc.due, l.recalc.last = false, l.env.Clock.Now()
	hops := l.hops()
	routes := pff.Routes(l.opt.policy, l.links.Graph(), l.own, func(addr uint64) bool { return len(hops[addr]) > 0 })
	table := make(dt.Table, len(routes))
	reach := make(map[uint64]bool, len(routes))
	for addr, via := range routes {
		r := &dt.Route{Spread: l.opt.policy == pff.ECMP}
		for _, n := range via {
			r.Hops = append(r.Hops, hops[n]...)
		}
		table[uint32(addr)] = r
		reach[addr] = true
	}
	l.table.Store(&table)
	l.reach = reach
	near := make([]uint64, 0, len(hops))
	for addr := range hops {
		near = append(near, addr)
	}
	l.dir.Topology(near)
}
