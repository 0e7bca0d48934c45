package ipcptest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp/port/porttest"
)

// The rules about systems that are silent, start again, or mean no good.

func (p *farPair) silence() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	p.talk(client, server)
	p.net.Set(func(w *porttest.Wire) { w.Cut = true })
	start := time.Now()
	for _, e := range []*end{client, server} {
		code := <-e.ended
		if took := time.Since(start); code != core.ErrFlowPeer || took < 119*time.Second || took > 123*time.Second {
			p.t.Errorf("flow %d ended with %v after %v, want %v after 120 s", e.id, code, took, core.ErrFlowPeer)
		}
	}
	p.net.Set(func(w *porttest.Wire) { w.Cut = false })
	more := 0
	p.net.Tap(func(_, _ netip.AddrPort, d []byte) {
		if !p.hello(d) {
			more++
		}
	})
	time.Sleep(100 * time.Second)
	p.net.Tap(nil)
	if more != 0 {
		p.t.Errorf("%d datagrams of a flow that has ended", more)
	}
	p.over(client, server)
}

func (p *farPair) idle() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	// One that is lost has the other end ask for more of them.
	p.net.Set(func(w *porttest.Wire) { w.Loss = 0 })
	time.Sleep(time.Second)
	var times [2][]time.Time
	p.net.Tap(func(from, _ netip.AddrPort, d []byte) {
		i := 0
		if from == p.nodes[1].addr {
			i = 1
		}
		switch {
		case p.hello(d):
		case p.world.Keepalive(d):
			times[i] = append(times[i], time.Now())
		default:
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
	p.talk(client, server)
	p.over(client, server)
}

// idleOnBad has idle flows live for an hour on a wire that loses a fifth of what is
// sent: four keepalives in a row, now and then.
func (p *farPair) idleOnBad() {
	p.serve(1, farName)
	var all []*end
	for range 20 {
		client, server := p.connect(farName)
		all = append(all, client, server)
	}
	p.net.Set(func(w *porttest.Wire) { w.Loss = 0.2 })
	time.Sleep(time.Hour)
	p.net.Set(func(w *porttest.Wire) { w.Loss = 0 })
	for _, e := range all {
		select {
		case code := <-e.ended:
			p.t.Errorf("flow %d has ended: %v", e.id, code)
		default:
		}
	}
	p.over(all...)
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
	if took := time.Since(start); code != core.ErrFlowDown || took > time.Second {
		p.t.Errorf("the flow ended with %v after %v, want %v within a second", code, took, core.ErrFlowDown)
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

// restart starts system i again, which has said no word of its end.
func (p *farPair) restart(i int) {
	h := p.serve(1, farName)
	client, server := p.connect(farName)
	old := []*end{client, server}
	p.cutWire(func() {
		p.nodes[i].stop()
		p.nodes[i] = nil
	})
	p.start(i)
	if i == 1 {
		must(p.t, "register", p.nodes[1].p.Register(context.Background(), h))
	}
	second, secondServer := p.connect(farName)
	// The first flow's other end still sends to an id of the system that has gone.
	left := old[1-i]
	for range 5 {
		must(p.t, "write", left.process.WritePacket([]byte("for the old one")))
	}
	p.talk(second, secondServer)
	must(p.t, "deallocate", left.dealloc().wait())
	p.over(second, secondServer)
}

// noMessage sends what is no message, from a stranger and from the other system's
// address.
func (p *farPair) noMessage() {
	if len(p.world.Bad) == 0 {
		p.t.Skip("the test of the type has none")
	}
	p.serve(1, farName)
	client, server := p.connect(farName)
	time.Sleep(time.Second) // until all that was sent for the allocation has come
	for i, n := range p.nodes {
		for _, from := range []netip.AddrPort{p.stranger(), p.nodes[1-i].addr} {
			for j, d := range p.world.Bad {
				const stray = "dropped, for no flow here"
				before := n.facts(p.t)[stray]
				p.net.Tap(func(_, _ netip.AddrPort, answer []byte) {
					if !p.hello(answer) && !bytes.Equal(answer, d) {
						p.t.Errorf("datagram %d, %x, is answered %x", j, d, answer)
					}
				})
				p.net.Inject(from, n.addr, d)
				synctest.Wait()
				p.net.Tap(nil)
				if got := n.facts(p.t)[stray] - before; got != 1 {
					p.t.Errorf("datagram %d, %x from %v, counts as %d drops, want 1", j, d, from, got)
				}
			}
		}
	}
	p.talk(client, server)
	p.over(client, server)
}

// dead sends once more, with another flow there, all that was sent for one that is
// over.
func (p *farPair) dead() {
	p.serve(1, farName)
	type sent struct {
		from, to netip.AddrPort
		d        []byte
	}
	var all []sent
	p.net.Tap(func(from, to netip.AddrPort, d []byte) {
		if !p.hello(d) {
			all = append(all, sent{from, to, bytes.Clone(d)})
		}
	})
	client, server := p.connect(farName)
	p.talk(client, server)
	p.over(client, server)
	time.Sleep(time.Second)
	p.net.Tap(nil)
	client, server = p.connect(farName)
	for range 3 {
		for _, s := range all {
			p.net.Inject(s.from, s.to, s.d)
			synctest.Wait()
		}
		p.talk(client, server)
	}
	p.over(client, server)
}

// babble sends random datagrams, and known ones with some bytes changed. It sends them
// from a stranger first, which no flow may notice, and then from the other system's
// address, which may harm the flows with that system alone.
func (p *farPair) babble() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	b := p.nodes[1]
	b.set(func() { b.accept = false; b.noReq = core.ErrNotAllocated })
	var known [][]byte
	p.net.Tap(func(_, _ netip.AddrPort, d []byte) { known = append(known, bytes.Clone(d)) })
	p.answered(p.ask(p.hash(farName)), core.ErrNotAllocated)
	p.net.Tap(nil)
	known = append(known, p.world.Known...)
	rnd := rand.New(rand.NewPCG(3, 4))
	stranger := p.stranger()
	for i := range 20000 {
		p.net.Inject(stranger, p.nodes[i%2].addr, mutant(rnd, known))
		if i%50 == 0 {
			synctest.Wait()
		}
	}
	time.Sleep(time.Second)
	p.talk(client, server) // unharmed
	for i := range 20000 {
		p.net.Inject(p.nodes[1-i%2].addr, p.nodes[i%2].addr, mutant(rnd, known))
		if i%50 == 0 {
			synctest.Wait()
		}
	}
	time.Sleep(time.Second)
	b.set(func() { b.noReq = nil })
	second, secondServer := p.connect(farName)
	p.talk(second, secondServer)
	p.over(client, server, second, secondServer)
}

// mutant returns random bytes, or one of known that is changed or cut off.
func mutant(rnd *rand.Rand, known [][]byte) []byte {
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
	return d
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
	second := p.ask(h)
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
	time.Sleep(time.Second)
	b.mu.Lock()
	waiting := len(b.ends) - 1
	b.mu.Unlock()
	if waiting > 1024 || waiting < 31 {
		p.t.Errorf("%d requests wait, want at most 1024", waiting)
	}
	p.talk(client, server)
	if p.hostile { // the refusal may be lost
		for s := range time.Duration(5) {
			time.AfterFunc((20+s)*time.Second, func() { p.again(second) })
		}
	}
	if code := <-second.codes; code == 0 {
		p.t.Errorf("the flow of the flood's time is answered %v", code)
	}
	time.Sleep(20 * time.Second)
	p.over(client, server)
}
