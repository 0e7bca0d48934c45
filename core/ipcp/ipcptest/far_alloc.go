package ipcptest

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp/port/porttest"
)

// The rules about the allocation of flows across systems.

func (p *farPair) unknown() {
	h := p.hash("nobody")
	if p.world.Silent {
		fails(p.t, "query of what nobody has", p.nodes[0].p.Query(context.Background(), h), core.ErrTimeout)
		return
	}
	p.world.Find(p.net, h, 1) // the directory says so, but system 1 does not know it
	p.find(h)
	p.answered(p.ask(h), core.ErrName)
	fails(p.t, "query of what nobody has", p.nodes[0].p.Query(context.Background(), p.hash("nowhere")), core.ErrName)
	p.over()
}

func (p *farPair) refusal() {
	h := p.serve(1, farName)
	b := p.nodes[1]
	p.find(h)
	for code, want := range map[core.Errno]core.Errno{
		core.ErrNotAllocated: core.ErrNotAllocated, core.ErrAuth: core.ErrAuth, core.ErrLimit: core.ErrNotAllocated,
	} {
		client := p.ask(h)
		server := p.arrival(h)
		must(p.t, "refuse", server.respond(code).wait())
		p.answered(client, want)
	}
	for _, name := range core.QoSNames() {
		qos, _ := core.QoSByName(name)
		client := p.askFor(h, qos)
		server := p.arrival(h)
		if server.request.QoS != qos {
			p.t.Errorf("where the client asks for %s the server sees %+v", name, server.request.QoS)
		}
		must(p.t, "refuse", server.respond(core.ErrAuth).wait())
		p.answered(client, core.ErrAuth)
	}
	b.set(func() { b.noReq = core.ErrNotAllocated })
	p.answered(p.ask(h), core.ErrNotAllocated)
	p.over()
}

func (p *farPair) resent() {
	p.find(p.serve(1, farName)) // is known for a while
	p.net.Set(func(w *porttest.Wire) { w.Cut = true })
	time.AfterFunc(2*time.Second, func() { p.net.Set(func(w *porttest.Wire) { w.Cut = false }) })
	start := time.Now()
	client, server := p.connect(farName)
	if took := time.Since(start); took < 2*time.Second || took > 10*time.Second {
		p.t.Errorf("it took %v", took)
	}
	p.talk(client, server)
	p.over(client, server)
}

func (p *farPair) lostReply() {
	p.find(p.serve(1, farName))
	b := p.nodes[1]
	lost := false
	p.net.Lose(func(from, to netip.AddrPort, d []byte) bool {
		first := from == b.addr && !p.hello(d) && !lost
		lost = lost || first
		return first
	})
	start := time.Now()
	client, server := p.connect(farName)
	if took := time.Since(start); !p.hostile && (took < time.Second || took > 2*time.Second) {
		p.t.Errorf("it took %v", took)
	}
	p.talk(client, server)
	p.oneFlow()
	p.over(client, server)
}

// oneFlow checks that there was one request for system 1's host.
func (p *farPair) oneFlow() {
	p.t.Helper()
	b := p.nodes[1]
	b.mu.Lock()
	made := len(b.made)
	b.mu.Unlock()
	if made != 1 {
		p.t.Errorf("%d flows arrived, want 1", made)
	}
}

func (p *farPair) twice() {
	p.serve(1, farName)
	p.net.Set(func(w *porttest.Wire) { w.Duplicate = 1 })
	var requests [][]byte
	p.net.Tap(func(from, _ netip.AddrPort, d []byte) {
		if from == p.nodes[0].addr && !p.hello(d) {
			requests = append(requests, bytes.Clone(d))
		}
	})
	client, server := p.connect(farName)
	p.net.Tap(nil)
	p.again(client) // is allocated: nothing happens
	time.Sleep(5 * time.Second)
	p.net.Set(func(w *porttest.Wire) { w.Duplicate = 0 })
	p.talk(client, server)
	p.over(client, server)
	// A request that was long under way.
	for _, d := range requests {
		p.net.Inject(p.nodes[0].addr, p.nodes[1].addr, d)
	}
	time.Sleep(time.Second)
	p.oneFlow()
	p.over()
}

// stranger is an address of neither system.
func (p *farPair) stranger() netip.AddrPort {
	ip := map[bool]string{true: "fd07::99", false: "10.7.0.99"}[p.nodes[1].addr.Addr().Is6()]
	return netip.AddrPortFrom(netip.MustParseAddr(ip), p.nodes[1].addr.Port())
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
	client, server := p.connect(farName)
	p.talk(server, client)
	stranger := p.stranger()
	otherPort := netip.AddrPortFrom(b.addr.Addr(), b.addr.Port()+1)
	second := p.ask(h)
	p.net.Tap(nil)
	for _, d := range replies {
		p.net.Inject(stranger, a.addr, d)
		p.net.Inject(otherPort, a.addr, d)
	}
	synctest.Wait()
	p.talk(server, client) // and nothing of the stranger's
	server2 := p.arrival(h)
	p.answered(second, 0)
	p.over(client, server, second, server2)
}

// early has a server that speaks at once, and is faster than its reply; then one
// that leaves, too.
func (p *farPair) early() {
	h := p.serve(1, farName)
	b := p.nodes[1]
	b.set(func() { b.accept = true })
	for _, leaves := range []bool{false, true} {
		p.find(h)
		var reply []byte
		p.net.Lose(func(from, _ netip.AddrPort, d []byte) bool {
			if from != b.addr || reply != nil || p.hello(d) {
				return false
			}
			reply = bytes.Clone(d)
			return true
		})
		client := p.ask(h)
		server := p.arrival(h)
		must(p.t, "respond", server.answered.wait())
		time.Sleep(10 * time.Millisecond) // the reply may be late on purpose
		must(p.t, "send", send(server, 1, 3, farSizes))
		if leaves {
			must(p.t, "deallocate", server.dealloc().wait())
		}
		time.Sleep(10 * time.Millisecond)
		p.net.Lose(nil)
		p.net.Inject(b.addr, p.nodes[0].addr, reply)
		p.answered(client, 0)
		must(p.t, "receive", receive(client, 1, 3, farSizes))
		if leaves {
			must(p.t, "the end", ends(client, io.EOF))
			p.over(client)
		} else {
			p.talk(client, server)
			p.over(client, server)
		}
	}
}

func (p *farPair) lateReply() {
	h := p.serve(1, farName)
	p.find(h)
	client := p.ask(h)
	server := p.arrival(h)
	must(p.t, "give up", client.dealloc().wait())
	must(p.t, "respond", server.respond(0).wait())
	// The client's system answers that nobody has the flow any more.
	p.gone(server)
	p.over(server)
}

// bothGiveUp has both ends leave, before and after the request is answered.
func (p *farPair) bothGiveUp() {
	h := p.serve(1, farName)
	p.find(h)
	for _, first := range []int{0, 1} {
		ends := []*end{p.ask(h), p.arrival(h)}
		must(p.t, "give up", ends[first].dealloc().wait())
		if first == 1 {
			p.answered(ends[0], core.ErrNotAllocated)
			p.over()
			continue
		}
		p.over(ends[1])
	}
	for range 5 {
		client, server := p.connect(farName)
		left := []*answer{client.dealloc(), server.dealloc()}
		for _, a := range left {
			must(p.t, "deallocate", a.wait())
		}
		p.over()
		p.nodes[1].set(func() { p.nodes[1].accept = false })
	}
}

func (p *farPair) unanswered() {
	h := p.serve(1, farName)
	p.find(h)
	start := time.Now()
	client := p.ask(h)
	server := p.arrival(h)
	if p.hostile { // the refusal may be lost
		for s := range time.Duration(5) {
			time.AfterFunc((20+s)*time.Second, func() { p.again(client) })
		}
	}
	code := <-client.codes
	if took := time.Since(start); code != core.ErrNotAllocated || took < 17*time.Second || took > 20*time.Second && !p.hostile {
		p.t.Errorf("the client is answered %v after %v", code, took)
	}
	must(p.t, "withdraw", come(server.gone))
	p.over()
}
