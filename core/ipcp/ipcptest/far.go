package ipcptest

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/core/ipcp/port/porttest"
	"o7s/core/logs"
	"o7s/core/oap"
)

// World is how RunFar makes systems with a layer type whose flows cross a wire.
type World struct {
	// Config returns what system i, 0 or 1, bootstraps its IPCP with, and its
	// address on the network.
	Config func(i int) (ipcp.Config, netip.AddrPort)
	// Find makes the other systems find the name h at system i.
	Find func(n *porttest.Network, h core.Hash, i int)
	// Known returns datagrams as they are on the wire, for a babbler to send.
	Known [][]byte
	// Bad are datagrams that are no messages, or for no flow: each counts as
	// dropped, and none is answered.
	Bad [][]byte
	// Keepalive returns whether a datagram is a keepalive.
	Keepalive func(datagram []byte) bool
	// Max is the largest packet.
	Max int
	// Flows is how many flows there are at a time; 0: 4096. The race detector
	// makes that take minutes: under it there are at most 500.
	Flows int
	// Hello returns whether a datagram only shows that its sender lives; nil:
	// there are none, and the end of a system that says nothing is not noticed.
	Hello func(datagram []byte) bool
	// Silent says that a system does not answer for what it does not have.
	Silent bool

	// Net returns the flows that the IPCP of system i uses, and what ends
	// them; nil: it uses none.
	Net func(n *porttest.Network, i int) (ipcp.Net, func())
	// Join makes p, of system i, a member of the layer, beside other, which is
	// nil where p is the first. nil: p is bootstrapped. It waits, in virtual
	// time, until names of one system can be found from the other.
	Join func(i int, p, other *ipcp.Process) error
	// Healed waits, in virtual time, until p, of one system, can send to the other
	// again after the wire was cut. nil: it can at once.
	Healed func(p *ipcp.Process) error
	// Background returns whether a datagram may be sent at any time.
	Background func(datagram []byte) bool
	// Skip has the names of the tests that do not concern the type, and why.
	Skip map[string]string
}

// farSystem is what an IRMd does with the data of requests and replies.
type farSystem struct{ asked map[core.FlowID]*oap.Asked }

func (f *farSystem) ask(h *host, e *end) []byte {
	a, data, err := oap.Ask(nil, "", time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	f.asked[e.id] = a
	h.mu.Unlock()
	return data
}

func (f *farSystem) answer(e *end) []byte {
	data, _, err := oap.Answer(nil, "", e.request.Data, time.Now(), new(oap.Replay))
	if err != nil && len(e.request.Data) > 0 {
		e.h.t.Errorf("the data of a request: %v", err)
	}
	return data
}

func (f *farSystem) replied(h *host, r ipcp.AllocReply) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := f.asked[r.Flow]
	e := h.ends[r.Flow]
	if r.Code != 0 || e == nil || e.state == left || len(r.Data) == 0 {
		return
	}
	if _, err := a.Finish(r.Data, time.Now()); err != nil {
		h.t.Errorf("the data of the reply for flow %d: %v", r.Flow, err)
	}
	if r.From == "" || r.Path.Max <= 0 || r.Path.Best <= 0 || r.Path.MPL <= 0 {
		h.t.Errorf("the reply for flow %d does not say where the other end is: %+v", r.Flow, r)
	}
}

// farPair is two systems on one network.
type farPair struct {
	t       *testing.T
	world   World
	typ     ipcp.Type
	hostile bool // the wire is
	net     *porttest.Network
	nodes   [2]*farNode
	flows   map[*end]int // the number of the flow that an end is of
}

type farNode struct {
	*host
	p    *ipcp.Process
	addr netip.AddrPort
	stop func()
}

// hostile is a wire on which everything happens that happens on wires.
var hostile = porttest.Wire{Loss: 0.1, Duplicate: 0.1, Disorder: 0.2, Delay: 20 * time.Millisecond}

// RunFar runs the suite on the far layer type typ: two systems, each with a fake
// IRMd, on a wire that is perfect or hostile, in virtual time.
func RunFar(t *testing.T, typ ipcp.Type, w World) {
	typ = declared(t, typ)
	for _, tt := range farTests {
		for name, wire := range map[string]porttest.Wire{"perfect wire": {}, "hostile wire": hostile} {
			if wire.Loss > 0 && tt.perfect {
				continue
			}
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				if why := w.Skip[tt.name]; why != "" {
					t.Skip(why)
				}
				synctest.Test(t, func(t *testing.T) {
					p := &farPair{t: t, world: w, typ: typ, hostile: wire.Loss > 0, net: porttest.New(7, wire), flows: make(map[*end]int)}
					defer func() {
						for _, n := range p.nodes {
							if n != nil {
								n.stop()
							}
						}
					}()
					for i := range p.nodes {
						p.start(i)
					}
					tt.run(p)
				})
			})
		}
	}
}

// farTests are the rules. Those for a perfect wire alone say what only such a wire
// can promise, or need none.
var farTests = []struct {
	name    string
	perfect bool
	run     func(*farPair)
}{
	{"a name that is not registered is refused", false, (*farPair).unknown},
	{"a refusal's code reaches the client", false, (*farPair).refusal},
	{"a request that is lost is sent again", false, (*farPair).resent},
	{"a reply that is lost is sent again", false, (*farPair).lostReply},
	{"a request that comes twice is one flow", false, (*farPair).twice},
	{"a reply from elsewhere is ignored", false, (*farPair).elsewhere},
	{"packets that come before the reply are kept", true, (*farPair).early},
	{"a client that gave up leaves no flow", false, (*farPair).lateReply},
	{"both ends give up", false, (*farPair).bothGiveUp},
	{"a request that nobody answers is withdrawn", false, (*farPair).unanswered},

	{"packets of all sizes go both ways", true, (*farPair).packets},
	{"the largest packet arrives, a larger one does not", false, (*farPair).largest},
	{"what was sent is received, or counted", false, (*farPair).echo},
	{"the end of a flow crosses the wire", false, (*farPair).end},
	{"an end whose first word is lost crosses the wire", true, (*farPair).lostEnd},
	{"what was written before the end arrives", true, (*farPair).drain},
	{"a slow reader stalls nobody", false, (*farPair).slowReader},
	{"a name of this system is reached without the wire", true, (*farPair).loopback},
	{"many flows at once", false, (*farPair).many},

	{"a silent peer is noticed", false, (*farPair).silence},
	{"an idle flow lives", false, (*farPair).idle},
	{"idle flows live on a bad wire", true, (*farPair).idleOnBad},
	{"a system that is killed is noticed", true, (*farPair).killed},
	{"a forged word that a system is gone is no end", true, (*farPair).forged},
	{"a server's system that starts again is not taken for the old one", false, func(p *farPair) { p.restart(1) }},
	{"a client's system that starts again is not taken for the old one", false, func(p *farPair) { p.restart(0) }},
	{"a cut wire and a healed one", false, (*farPair).cut},
	{"what is no message is dropped and counted", true, (*farPair).noMessage},
	{"what was for a flow that is over hits no other", true, (*farPair).dead},
	{"rubbish does no harm", false, (*farPair).babble},
	{"a flood of requests is bounded", false, (*farPair).flood},
}

// farSizes are sizes of packets that each wire carries.
var farSizes = []int{1, 64, 1400}

// farName is a name that system 1 serves.
const farName = "server"

func (p *farPair) hash(name string) core.Hash {
	cfg, _ := p.world.Config(0)
	return cfg.Hash.Sum(name)
}

// start starts system i.
func (p *farPair) start(i int) {
	cfg, addr := p.world.Config(i)
	h := newHost(p.t, false)
	h.far = &farSystem{asked: make(map[core.FlowID]*oap.Asked)}
	ctx, cancel := context.WithCancel(context.Background())
	env := ipcp.Env{Name: "ipcp", Host: h, Ports: p.net.Opener(porttest.MAC(addr.Addr())), Clock: clock.Real, Log: logs.Discard()}
	endNet := func() {}
	if p.world.Net != nil {
		env.Net, endNet = p.world.Net(p.net, i)
	}
	proc := ipcp.NewProcess(p.typ, env)
	h.ctl = proc
	ended := make(chan error, 1)
	go func() { ended <- proc.Run(ctx) }()
	n := &farNode{host: h, p: proc, addr: addr, stop: func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("end Run: %v", err)
		}
		endNet()
	}}
	p.nodes[i] = n
	if p.world.Join != nil {
		var other *ipcp.Process
		if o := p.nodes[1-i]; o != nil {
			other = o.p
		}
		must(p.t, "join", p.world.Join(i, proc, other))
		return
	}
	got, err := proc.Bootstrap(ctx, cfg)
	must(p.t, "bootstrap", err)
	if got.Layer != cfg.Layer || got.Hash != cfg.Hash {
		p.t.Errorf("bootstrap with %v is in force as %v", cfg, got)
	}
}

// serve registers name with system i.
func (p *farPair) serve(i int, name string) core.Hash {
	h := p.hash(name)
	must(p.t, "register", p.nodes[i].p.Register(context.Background(), h))
	p.world.Find(p.net, h, i)
	return h
}

// find has system 0 find h.
func (p *farPair) find(h core.Hash) {
	p.t.Helper()
	must(p.t, "query", p.nodes[0].p.Query(context.Background(), h))
}

// ask asks system 0 for a flow to h, and asks again as an IRMd does; on a hostile
// wire more often.
func (p *farPair) ask(h core.Hash) *end { return p.askFor(h, core.QoSRaw) }

func (p *farPair) askFor(h core.Hash, qos core.QoS) *end {
	p.t.Helper()
	client := p.nodes[0].alloc(h, qos)
	must(p.t, "allocate", client.asked.wait())
	times := []time.Duration{1, 3, 9}
	if p.hostile {
		times = []time.Duration{1, 2, 3, 4, 5, 6, 7}
	}
	for _, s := range times {
		time.AfterFunc(s*time.Second, func() { p.again(client) })
	}
	return client
}

// connect makes a flow from system 0 to name at system 1.
func (p *farPair) connect(name string) (client, server *end) {
	p.t.Helper()
	h := p.hash(name)
	b := p.nodes[1]
	b.set(func() { b.accept = true })
	p.find(h)
	client = p.ask(h)
	p.answered(client, 0)
	server = p.arrival(h)
	must(p.t, "respond", server.answered.wait())
	n := len(p.flows)
	p.flows[client], p.flows[server] = n, n
	return client, server
}

// answered waits until client is answered, which must be with want.
func (p *farPair) answered(client *end, want core.Errno) {
	p.t.Helper()
	if code, err := client.reply(); err != nil || code != want {
		p.t.Fatalf("the client is answered %d, %v; want %d", int(code), err, int(want))
	}
}

// arrival returns the next request for h at system 1.
func (p *farPair) arrival(h core.Hash) *end {
	p.t.Helper()
	server, err := p.nodes[1].arrival(h)
	must(p.t, "wait for the request", err)
	return server
}

// again sends the request of client once more, if nothing has answered it.
func (p *farPair) again(client *end) {
	h := client.h
	h.mu.Lock()
	waits := client.state == pending
	req := ipcp.AllocRequest{Flow: client.id, Dst: client.dst, QoS: client.qos, Again: true}
	if waits {
		var err error
		if req.Data, err = h.far.asked[client.id].Again(time.Now()); err != nil {
			h.t.Error(err)
		}
	}
	h.mu.Unlock()
	if waits {
		h.ctl.FlowAlloc(req, func(error) {})
	}
}

// hello reports whether a datagram only shows that its sender lives.
func (p *farPair) hello(d []byte) bool {
	return p.world.Hello != nil && p.world.Hello(d) || p.world.Background != nil && p.world.Background(d)
}

// cutWire lets nothing pass while f runs.
func (p *farPair) cutWire(f func()) {
	p.net.Set(func(w *porttest.Wire) { w.Cut = true })
	f()
	p.net.Set(func(w *porttest.Wire) { w.Cut = false })
}

// healed waits until packets can go both ways again after the wire was cut. Nothing
// is lost meanwhile: with some bad luck it would take longer than flows live on a
// wire that is cut.
func (p *farPair) healed() {
	if p.world.Healed == nil {
		return
	}
	var loss float64
	p.net.Set(func(w *porttest.Wire) { loss, w.Loss = w.Loss, 0 })
	for _, n := range p.nodes {
		must(p.t, "wait for a way to the other system", p.world.Healed(n.p))
	}
	p.net.Set(func(w *porttest.Wire) { w.Loss = loss })
}

// talk checks that packets go both ways between a and b: all of them and in order
// on a perfect wire, some and each of them unharmed on a hostile one.
func (p *farPair) talk(a, b *end) {
	p.t.Helper()
	if !p.hostile {
		exchange(p.t, a, b, 20, farSizes)
		return
	}
	all(p.t, func() error { return p.say(a, b) }, func() error { return p.say(b, a) })
}

// say writes packets to the flow until ten different ones have come at the other
// end.
func (p *farPair) say(from, to *end) error {
	flow := p.flows[from]
	got := make(chan error, 1)
	go func() {
		seen := make(map[string]bool)
		buf := make([]byte, core.MaxPacket)
		for len(seen) < 10 {
			n, err := to.process.ReadPacket(buf)
			if err != nil {
				got <- fmt.Errorf("flow %d: after %d packets: %w", flow, len(seen), err)
				return
			}
			var of, i int
			var server bool
			if _, err := fmt.Sscanf(string(buf[:n]), "flow %d from %t packet %d\n", &of, &server, &i); err != nil || string(buf[:n]) != said(flow, from.server, i) {
				got <- fmt.Errorf("flow %d: got %.60q", flow, buf[:n])
				return
			}
			seen[string(buf[:n])] = true
		}
		got <- nil
	}()
	for i := 0; ; i++ {
		select {
		case err := <-got:
			return err
		default:
		}
		if err := from.process.WritePacket([]byte(said(flow, from.server, i))); err != nil {
			return fmt.Errorf("flow %d: write: %w", flow, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// said is the ith packet of say. It tells of which flow it is.
func said(flow int, server bool, i int) string {
	return fmt.Sprintf("flow %d from %t packet %d\n%s", flow, server, i, packet(flow, i, 50))
}

// gone waits until the process at e knows that the flow has ended: at once where a
// Bye can't be lost, else by the time-out at the latest.
func (p *farPair) gone(e *end) {
	p.t.Helper()
	if !p.hostile {
		must(p.t, "the end", ends(e, io.EOF))
		return
	}
	read := make(chan error, 1)
	go func() {
		buf := make([]byte, core.MaxPacket)
		for {
			if _, err := e.process.ReadPacket(buf); err != nil && err != errNothing {
				read <- err
				return
			}
		}
	}()
	select {
	case err := <-read:
		if err != io.EOF {
			p.t.Errorf("the end of flow %d reads as %v, want %v", e.id, err, io.EOF)
		}
	case code := <-e.ended:
		if code != core.ErrFlowPeer {
			p.t.Errorf("flow %d has ended with %v, want %v", e.id, code, core.ErrFlowPeer)
		}
	case <-time.After(130 * time.Second):
		p.t.Errorf("the end of flow %d is not noticed", e.id)
	}
}

// facts returns the numbers that a system shows.
func (n *farNode) facts(t *testing.T) map[string]int {
	facts, err := n.p.Show(context.Background())
	must(t, "show", err)
	numbers := make(map[string]int)
	for _, f := range facts {
		if i, err := strconv.Atoi(f.Value); err == nil {
			numbers[f.Name] = i
		}
	}
	return numbers
}

// over deallocates ends and checks that nothing is left on both systems.
func (p *farPair) over(ends ...*end) {
	p.t.Helper()
	for _, e := range ends {
		must(p.t, "deallocate", e.dealloc().wait())
	}
	synctest.Wait()
	for _, n := range p.nodes {
		n.empty(p.t)
	}
}
