package ipcptest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
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
	// Keepalive returns whether a datagram is a keepalive.
	Keepalive func(datagram []byte) bool
	// Max is the largest packet.
	Max int
	// Flows is how many flows there are at a time; 0: 500.
	Flows int
	// Hello returns whether a datagram only shows that its sender lives; nil:
	// there are none, and the end of a system that says nothing is not noticed.
	Hello func(datagram []byte) bool
	// Silent says that a system does not answer for what it does not have.
	Silent bool
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
	t     *testing.T
	world World
	typ   ipcp.Type
	net   *porttest.Network
	nodes [2]*farNode
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
				synctest.Test(t, func(t *testing.T) {
					p := &farPair{t: t, world: w, typ: typ, net: porttest.New(7, wire)}
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

var farTests = []struct {
	name    string
	perfect bool // on a perfect wire alone
	run     func(*farPair)
}{
	{"packets of all sizes go both ways", true, (*farPair).packets},
	{"what was sent is received, or counted", false, (*farPair).echo},
	{"a name that is not registered is refused", true, (*farPair).unknown},
	{"a refusal's code reaches the client", true, (*farPair).refusal},
	{"a request that is lost is sent again", false, (*farPair).resent},
	{"a request that comes twice is one flow", true, (*farPair).twice},
	{"a reply from elsewhere is ignored", true, (*farPair).elsewhere},
	{"a client that gave up leaves no flow", true, (*farPair).lateReply},
	{"a request that nobody answers is withdrawn", true, (*farPair).unanswered},
	{"the end of a flow crosses the wire", true, (*farPair).end},
	{"what was written before the end arrives", true, (*farPair).drain},
	{"a silent peer is noticed", true, (*farPair).silence},
	{"an idle flow lives", true, (*farPair).idle},
	{"a system that is killed is noticed", true, (*farPair).killed},
	{"a forged word that a system is gone is no end", true, (*farPair).forged},
	{"a slow reader stalls nobody", true, (*farPair).slowReader},
	{"a system that starts again is not taken for the old one", true, (*farPair).restart},
	{"a name of this system is reached without the wire", true, (*farPair).loopback},
	{"many flows at once", true, (*farPair).many},
	{"a cut wire and a healed one", true, (*farPair).cut},
	{"rubbish does no harm", true, (*farPair).babble},
	{"a flood of requests is bounded", true, (*farPair).flood},
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
	proc := ipcp.NewProcess(p.typ, ipcp.Env{Name: "ipcp", Host: h, Ports: p.net.Opener(porttest.MAC(addr.Addr())), Clock: clock.Real, Log: logs.Discard()})
	h.ctl = proc
	ended := make(chan error, 1)
	go func() { ended <- proc.Run(ctx) }()
	n := &farNode{host: h, p: proc, addr: addr, stop: func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("end Run: %v", err)
		}
	}}
	got, err := proc.Bootstrap(ctx, cfg)
	must(p.t, "bootstrap", err)
	if got.Layer != cfg.Layer || got.Hash != cfg.Hash {
		p.t.Errorf("bootstrap with %v is in force as %v", cfg, got)
	}
	p.nodes[i] = n
}

// serve registers name with system i.
func (p *farPair) serve(i int, name string) core.Hash {
	h := p.hash(name)
	must(p.t, "register", p.nodes[i].p.Register(context.Background(), h))
	p.world.Find(p.net, h, i)
	return h
}

// connect makes a flow from system 0 to name at system 1, and asks again as an
// IRMd does.
func (p *farPair) connect(name string) (client, server *end) {
	return p.connectWith(p.hash(name), core.QoSRaw)
}

func (p *farPair) connectWith(h core.Hash, qos core.QoS) (client, server *end) {
	p.t.Helper()
	a, b := p.nodes[0], p.nodes[1]
	b.set(func() { b.accept = true })
	must(p.t, "query", a.p.Query(context.Background(), h))
	client = a.alloc(h, qos)
	must(p.t, "allocate", client.asked.wait())
	for _, after := range []time.Duration{time.Second, 3 * time.Second, 9 * time.Second} {
		time.AfterFunc(after, func() { p.again(client) })
	}
	code, err := client.reply()
	if err != nil || code != 0 {
		p.t.Fatalf("the client is answered %d, %v; want 0", int(code), err)
	}
	server, err = b.arrival(h)
	must(p.t, "wait for the request", err)
	must(p.t, "respond", server.answered.wait())
	return client, server
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

func (p *farPair) packets() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	if server.request.From == "" || server.request.QoS != core.QoSRaw {
		p.t.Errorf("the request is %+v", server.request)
	}
	sizes := []int{1, 2, 63, 64, 65, 1399, 1400, 1401, p.world.Max - 1, p.world.Max}
	exchange(p.t, client, server, 5*len(sizes), sizes)
	// One that is too large is dropped; the next one is not.
	must(p.t, "write", client.process.WritePacket(make([]byte, p.world.Max+1)))
	must(p.t, "send", send(client, 1, 1, []int{100}))
	must(p.t, "receive", receive(server, 1, 1, []int{100}))
	p.over(client, server)
}

// echo checks that no packet comes twice because of this project, changed, or on
// another flow.
func (p *farPair) echo() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	const n = 1000
	got := make(chan int, 1)
	go func() {
		buf := make([]byte, core.MaxPacket)
		count := 0
		for {
			m, err := server.process.ReadPacket(buf)
			if err != nil {
				break
			}
			i := int(buf[0]) | int(buf[1])<<8
			want := append([]byte{buf[0], buf[1]}, packet(3, i, 50)...)
			if !bytes.Equal(buf[:m], want) {
				p.t.Errorf("packet %d has changed", i)
			}
			count++
		}
		got <- count
	}()
	for i := range n {
		must(p.t, "write", client.process.WritePacket(append([]byte{byte(i), byte(i >> 8)}, packet(3, i, 50)...)))
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Second)
	must(p.t, "close", server.process.Close())
	count := <-got
	c := p.net.Count()
	if low, high := n-int(c.Lost), n+int(c.Duplicated); count < low || count > high {
		p.t.Errorf("%d of %d packets came, with %d datagrams lost and %d duplicated", count, n, c.Lost, c.Duplicated)
	}
	p.over(client, server)
}

func (p *farPair) unknown() {
	h := p.hash("nobody")
	if p.world.Silent {
		fails(p.t, "query of what nobody has", p.nodes[0].p.Query(context.Background(), h), core.ErrTimeout)
		return
	}
	p.world.Find(p.net, h, 1) // the directory says so, but system 1 does not know it
	a := p.nodes[0]
	must(p.t, "query", a.p.Query(context.Background(), h))
	client := a.alloc(h, core.QoSRaw)
	must(p.t, "allocate", client.asked.wait())
	code, err := client.reply()
	if err != nil || code != core.ErrName {
		p.t.Errorf("the client is answered %v, %v; want %v", code, err, core.ErrName)
	}
	fails(p.t, "query of what nobody has", a.p.Query(context.Background(), p.hash("nowhere")), core.ErrName)
	p.over()
}

// stranger is an address of neither system.
func (p *farPair) stranger() netip.AddrPort {
	ip := map[bool]string{true: "fd07::99", false: "10.7.0.99"}[p.nodes[1].addr.Addr().Is6()]
	return netip.AddrPortFrom(netip.MustParseAddr(ip), p.nodes[1].addr.Port())
}

func (p *farPair) refusal() {
	h := p.serve(1, farName)
	a, b := p.nodes[0], p.nodes[1]
	must(p.t, "query", a.p.Query(context.Background(), h))
	for code, want := range map[core.Errno]core.Errno{
		core.ErrNotAllocated: core.ErrNotAllocated, core.ErrAuth: core.ErrAuth, core.ErrLimit: core.ErrNotAllocated,
	} {
		client := a.alloc(h, core.QoSRaw)
		must(p.t, "allocate", client.asked.wait())
		server, err := b.arrival(h)
		must(p.t, "wait for the request", err)
		must(p.t, "refuse", server.respond(code).wait())
		if got, err := client.reply(); err != nil || got != want {
			p.t.Errorf("refused with %v, the client is answered %v, %v; want %v", code, got, err, want)
		}
	}
	// What the ends of a flow can't do yet is not promised.
	client := a.alloc(h, core.QoSData)
	fails(p.t, "a flow in order", client.asked.wait(), core.ErrQoS)
	b.set(func() { b.noReq = core.ErrNotAllocated })
	client = a.alloc(h, core.QoSRaw)
	must(p.t, "allocate", client.asked.wait())
	if got, err := client.reply(); err != nil || got != core.ErrNotAllocated {
		p.t.Errorf("without a process, the client is answered %v, %v", got, err)
	}
	p.over()
}

func (p *farPair) resent() {
	h := p.serve(1, farName)
	must(p.t, "query", p.nodes[0].p.Query(context.Background(), h)) // is known for a while
	p.net.Set(func(w *porttest.Wire) { w.Cut = true })
	time.AfterFunc(2*time.Second, func() { p.net.Set(func(w *porttest.Wire) { w.Cut = false }) })
	start := time.Now()
	client, server := p.connect(farName)
	if took := time.Since(start); took < 2*time.Second || took > 10*time.Second {
		p.t.Errorf("it took %v", took)
	}
	p.over(client, server)
}

func (p *farPair) twice() {
	h := p.serve(1, farName)
	p.net.Set(func(w *porttest.Wire) { w.Duplicate = 1 })
	client, server := p.connect(farName)
	p.again(client) // is allocated: nothing happens
	time.Sleep(5 * time.Second)
	b := p.nodes[1]
	b.mu.Lock()
	made := len(b.made)
	b.mu.Unlock()
	if made != 1 {
		p.t.Errorf("%d flows arrived for %v, want 1", made, h)
	}
	p.over(client, server)
}

// elsewhere sends what the other system sends from another address.
func (p *farPair) elsewhere() {
	h := p.serve(1, farName)
	a, b := p.nodes[0], p.nodes[1]
	var replies [][]byte
	p.net.Tap(func(from, to netip.AddrPort, d []byte) {
		if from == b.addr {
			replies = append(replies, bytes.Clone(d))
		}
	})
	client, server := p.connectWith(h, core.QoSRaw)
	must(p.t, "send", send(server, 1, 1, []int{100}))
	must(p.t, "receive", receive(client, 1, 1, []int{100}))
	stranger := p.stranger()
	otherPort := netip.AddrPortFrom(b.addr.Addr(), b.addr.Port()+1)
	second := a.alloc(h, core.QoSRaw)
	must(p.t, "allocate", second.asked.wait())
	p.net.Tap(nil)
	for _, d := range replies {
		p.net.Inject(stranger, a.addr, d)
		p.net.Inject(otherPort, a.addr, d)
	}
	synctest.Wait()
	must(p.t, "send", send(server, 2, 1, []int{100}))
	must(p.t, "receive", receive(client, 2, 1, []int{100})) // and nothing of the stranger's
	server2, err := b.arrival(h)
	must(p.t, "wait for the second request", err)
	if code, err := second.reply(); err != nil || code != 0 {
		p.t.Errorf("the second client is answered %v, %v", code, err)
	}
	p.over(client, server, second, server2)
}

func (p *farPair) lateReply() {
	h := p.serve(1, farName)
	a, b := p.nodes[0], p.nodes[1]
	must(p.t, "query", a.p.Query(context.Background(), h))
	client := a.alloc(h, core.QoSRaw)
	must(p.t, "allocate", client.asked.wait())
	server, err := b.arrival(h)
	must(p.t, "wait for the request", err)
	must(p.t, "give up", client.dealloc().wait())
	must(p.t, "respond", server.respond(0).wait())
	// The client's system answers that nobody has the flow any more.
	must(p.t, "the end", ends(server, io.EOF))
	p.over(server)
}

func (p *farPair) unanswered() {
	h := p.serve(1, farName)
	a, b := p.nodes[0], p.nodes[1]
	must(p.t, "query", a.p.Query(context.Background(), h))
	client := a.alloc(h, core.QoSRaw)
	must(p.t, "allocate", client.asked.wait())
	server, err := b.arrival(h)
	must(p.t, "wait for the request", err)
	start := time.Now()
	code := <-client.codes
	if took := time.Since(start); code != core.ErrNotAllocated || took < 17*time.Second || took > 20*time.Second {
		p.t.Errorf("the client is answered %v after %v", code, took)
	}
	must(p.t, "withdraw", come(server.gone))
	p.over()
}

// end ends a flow at either end: the other one reads what came before, then
// io.EOF.
func (p *farPair) end() {
	p.serve(1, farName)
	for _, first := range []int{0, 1} {
		client, server := p.connect(farName)
		a, b := client, server
		if first == 1 {
			a, b = server, client
		}
		must(p.t, "send", send(a, 1, 3, farSizes))
		must(p.t, "deallocate", a.dealloc().wait())
		must(p.t, "receive", receive(b, 1, 3, farSizes))
		must(p.t, "the end", ends(b, io.EOF))
		if err := b.process.WritePacket([]byte("x")); err == nil {
			p.t.Error("a write after the end succeeds")
		}
		p.over(b)
	}
}

func (p *farPair) drain() {
	p.serve(1, farName)
	for range 20 {
		client, server := p.connect(farName)
		must(p.t, "send", send(client, 1, farRoom, farSizes))
		must(p.t, "deallocate", client.dealloc().wait())
		must(p.t, "receive", receive(server, 1, farRoom, farSizes))
		must(p.t, "the end", ends(server, io.EOF))
		p.over(server)
	}
}

func (p *farPair) silence() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	p.net.Set(func(w *porttest.Wire) { w.Cut = true })
	start := time.Now()
	for _, e := range []*end{client, server} {
		code := <-e.ended
		if took := time.Since(start); code != core.ErrFlowPeer || took < 119*time.Second || took > 123*time.Second {
			p.t.Errorf("flow %d ended with %v after %v, want %v after 120 s", e.id, code, took, core.ErrFlowPeer)
		}
	}
	p.net.Set(func(w *porttest.Wire) { w.Cut = false })
	sent := p.net.Count().Sent
	time.Sleep(100 * time.Second)
	if more := p.net.Count().Sent - sent; more != 0 {
		p.t.Errorf("%d datagrams of a flow that has ended", more)
	}
	p.over(client, server)
}

func (p *farPair) idle() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	var times [2][]time.Time
	p.net.Tap(func(from, _ netip.AddrPort, d []byte) {
		i := 0
		if from == p.nodes[1].addr {
			i = 1
		}
		if p.world.Hello != nil && p.world.Hello(d) {
			return
		}
		if p.world.Keepalive(d) {
			times[i] = append(times[i], time.Now())
		} else {
			p.t.Errorf("an idle flow sends %x", d)
		}
	})
	time.Sleep(301 * time.Second)
	p.net.Tap(nil)
	for i, all := range times {
		if len(all) < 9 || len(all) > 10 {
			p.t.Errorf("system %d sent %d keepalives in 301 s, want one each 30 s", i, len(all))
		}
		for j := 1; j < len(all); j++ {
			if d := all[j].Sub(all[j-1]); d < 29*time.Second || d > 31*time.Second+100*time.Millisecond {
				p.t.Errorf("system %d: %v between two keepalives", i, d)
			}
		}
	}
	exchange(p.t, client, server, 10, farSizes)
	p.over(client, server)
}

// killed ends system 1 without a word.
func (p *farPair) killed() {
	if p.world.Hello == nil {
		return
	}
	p.serve(1, farName)
	client, _ := p.connect(farName)
	time.Sleep(10 * time.Second)
	p.net.Set(func(w *porttest.Wire) { w.Cut = true })
	p.nodes[1].stop()
	p.nodes[1] = nil
	p.net.Set(func(w *porttest.Wire) { w.Cut = false })
	start := time.Now()
	code := <-client.ended
	if took := time.Since(start); code != core.ErrFlowDown || took > time.Second+400*time.Millisecond {
		p.t.Errorf("the flow ended with %v after %v, want %v after a second", code, took, core.ErrFlowDown)
	}
	must(p.t, "deallocate", client.dealloc().wait())
}

// forged has the wire lie now and then, while the other system lives.
func (p *farPair) forged() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	for range 100 {
		for i, n := range p.nodes {
			p.net.Refuse(n.addr, p.nodes[1-i].addr)
		}
		time.Sleep(100 * time.Millisecond)
	}
	exchange(p.t, client, server, 20, farSizes)
	p.over(client, server)
}

func (p *farPair) slowReader() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	slow, slowServer := p.connect(farName)
	for i := range 4 * farRoom { // far more than the memory of the one who does not read
		must(p.t, "write", slow.process.WritePacket(packet(1, i, 100)))
	}
	exchange(p.t, client, server, 50, farSizes)
	must(p.t, "receive", receive(slowServer, 1, farRoom, []int{100}))
	p.over(client, server, slow, slowServer)
}

func (p *farPair) restart() {
	h := p.serve(1, farName)
	client, server := p.connect(farName)
	p.net.Set(func(w *porttest.Wire) { w.Cut = true }) // no word of its end
	p.nodes[1].stop()
	p.nodes[1] = nil
	p.net.Set(func(w *porttest.Wire) { w.Cut = false })
	p.start(1)
	must(p.t, "register", p.nodes[1].p.Register(context.Background(), h))
	second, secondServer := p.connect(farName)
	// The first client still sends to an id of the system that has gone.
	must(p.t, "send", send(client, 5, 5, []int{100}))
	exchange(p.t, second, secondServer, 20, farSizes)
	_ = server
	must(p.t, "deallocate", client.dealloc().wait())
	p.over(second, secondServer)
}

func (p *farPair) loopback() {
	h := p.serve(0, farName)
	a := p.nodes[0]
	a.set(func() { a.accept = true })
	must(p.t, "query", a.p.Query(context.Background(), h))
	client := a.alloc(h, core.QoSRaw)
	must(p.t, "allocate", client.asked.wait())
	server, err := a.arrival(h)
	must(p.t, "wait for the request", err)
	if code, err := client.reply(); err != nil || code != 0 {
		p.t.Fatalf("the client is answered %v, %v", code, err)
	}
	must(p.t, "respond", server.answered.wait())
	if client.peer != server {
		p.t.Error("the flow is not spliced")
	}
	if n := p.net.Count().Sent; n != 0 {
		p.t.Errorf("%d datagrams were sent", n)
	}
	p.over(client, server)
	must(p.t, "unregister", a.p.Unregister(context.Background(), h))
}

func (p *farPair) many() {
	n := 500
	if p.world.Flows > 0 {
		n = p.world.Flows
	}
	p.serve(1, farName)
	var pairs [][2]*end
	goroutines := runtime.NumGoroutine()
	for range n {
		client, server := p.connect(farName)
		pairs = append(pairs, [2]*end{client, server})
	}
	if more := runtime.NumGoroutine() - goroutines; more > 4 { // those of timers that fire just now
		p.t.Errorf("%d flows take %d goroutines", n, more)
	}
	for i, e := range pairs {
		must(p.t, "send", send(e[0], i, 2, farSizes))
		must(p.t, "send", send(e[1], i+1, 2, farSizes))
	}
	for i, e := range pairs {
		must(p.t, "receive", receive(e[1], i, 2, farSizes))
		must(p.t, "receive", receive(e[0], i+1, 2, farSizes))
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	var all []*end
	for _, e := range pairs {
		all = append(all, e[0], e[1])
	}
	p.over(all...)
}

func (p *farPair) cut() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	p.net.Set(func(w *porttest.Wire) { w.Cut = true })
	must(p.t, "send", send(client, 1, 3, farSizes))
	time.Sleep(60 * time.Second)
	p.net.Set(func(w *porttest.Wire) { w.Cut = false })
	exchange(p.t, client, server, 20, farSizes)
	p.over(client, server)
}

// babble sends random datagrams, and known ones with some bytes changed, from
// strangers and from the other system's address.
func (p *farPair) babble() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	b := p.nodes[1]
	b.set(func() { b.accept = false; b.noReq = core.ErrNotAllocated })
	var known [][]byte
	p.net.Tap(func(_, _ netip.AddrPort, d []byte) { known = append(known, bytes.Clone(d)) })
	other, err := p.oneMore()
	if !errors.Is(err, core.ErrNotAllocated) {
		p.t.Errorf("the client is answered %v", err)
	}
	_ = other
	p.net.Tap(nil)
	known = append(known, p.world.Known...)
	rnd := rand.New(rand.NewPCG(3, 4))
	stranger := p.stranger()
	for i := range 20000 {
		d := bytes.Clone(known[rnd.IntN(len(known))])
		switch rnd.IntN(4) {
		case 0:
			d = d[:rnd.IntN(len(d)+1)]
		case 1:
			d = make([]byte, rnd.IntN(100))
			for j := range d {
				d[j] = byte(rnd.Uint32())
			}
		default:
			for range 1 + rnd.IntN(4) {
				if len(d) > 0 {
					d[rnd.IntN(min(len(d), 64))] = byte(rnd.Uint32())
				}
			}
		}
		p.net.Inject(stranger, p.nodes[i%2].addr, d)
		if i%50 == 0 {
			synctest.Wait()
		}
	}
	synctest.Wait()
	exchange(p.t, client, server, 20, farSizes) // unharmed
	p.over(client, server)
}

// oneMore asks for a flow that is refused.
func (p *farPair) oneMore() (*end, error) {
	client := p.nodes[0].alloc(p.hash(farName), core.QoSRaw)
	if err := client.asked.wait(); err != nil {
		return client, err
	}
	code, err := client.reply()
	if err == nil && code != 0 {
		err = code
	}
	return client, err
}

// flood asks from made-up addresses for what nobody accepts.
func (p *farPair) flood() {
	h := p.serve(1, farName)
	client, server := p.connect(farName)
	b := p.nodes[1]
	b.set(func() { b.accept = false })
	var request []byte
	p.net.Tap(func(from, _ netip.AddrPort, d []byte) {
		if from == p.nodes[0].addr && len(d) > 47 {
			request = bytes.Clone(d)
		}
	})
	second := p.nodes[0].alloc(h, core.QoSRaw)
	must(p.t, "allocate", second.asked.wait())
	synctest.Wait()
	p.net.Tap(nil)
	ip := netip.MustParseAddr(map[bool]string{true: "fd08::", false: "10.8.0.0"}[b.addr.Addr().Is6()])
	for i := range 3000 {
		ip = ip.Next()
		p.net.Inject(netip.AddrPortFrom(ip, b.addr.Port()), b.addr, request)
		if i%50 == 0 {
			synctest.Wait()
		}
	}
	synctest.Wait()
	b.mu.Lock()
	waiting := len(b.ends) - 1
	b.mu.Unlock()
	if waiting > 1024 {
		p.t.Errorf("%d requests wait, want at most 1024", waiting)
	}
	exchange(p.t, client, server, 20, farSizes)
	time.Sleep(20 * time.Second)
	if code, err := second.reply(); err != nil || code == 0 {
		p.t.Errorf("the flow of the flood's time is answered %v, %v", code, err)
	}
	p.over(client, server)
}
