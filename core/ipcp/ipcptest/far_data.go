package ipcptest

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"o7s/core"
)

// The rules about packets across systems.

func (p *farPair) packets() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	if server.request.From == "" || server.request.QoS != core.QoSRaw {
		p.t.Errorf("the request is %+v", server.request)
	}
	sizes := []int{1, 2, 63, 64, 65, 1399, 1400, 1401, p.world.Max - 1, p.world.Max}
	exchange(p.t, client, server, 5*len(sizes), sizes)
	p.over(client, server)
}

// largest sends packets around the largest that the wire carries until one of each
// size has come.
func (p *farPair) largest() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	sizes := []int{p.world.Max - 1, p.world.Max, p.world.Max + 1}
	come := make(chan map[int]bool, 1)
	go func() {
		buf := make([]byte, core.MaxPacket)
		seen := make(map[int]bool)
		for {
			n, err := server.process.ReadPacket(buf)
			if err != nil {
				break
			}
			if !bytes.Equal(buf[:n], packet(n, n, n)) {
				p.t.Errorf("a packet of %d bytes has changed", n)
			}
			seen[n] = true
		}
		come <- seen
	}()
	for range 20 {
		for _, n := range sizes {
			must(p.t, "write", client.process.WritePacket(packet(n, n, n)))
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(time.Second)
	must(p.t, "close", server.process.Close())
	if seen := <-come; len(seen) != 2 || !seen[sizes[0]] || !seen[sizes[1]] {
		p.t.Errorf("packets of these sizes came: %v; want %v", seen, sizes[:2])
	}
	p.over(client, server)
}

// echo checks that no packet comes twice because of this project, changed, or on
// another flow, and that each is received or counted as dropped.
func (p *farPair) echo() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	time.Sleep(time.Second) // until all that was sent for the allocation has come
	a, b := p.nodes[0], p.nodes[1]
	before := [2]map[string]int{a.facts(p.t), b.facts(p.t)}
	sent, arrived := 0, 0
	is := func(from netip.AddrPort, d []byte) int {
		if from == a.addr && !p.hello(d) && !p.world.Keepalive(d) {
			return 1
		}
		return 0
	}
	p.net.Tap(func(from, _ netip.AddrPort, d []byte) { sent += is(from, d) })
	p.net.Arrived(func(from, _ netip.AddrPort, d []byte) { arrived += is(from, d) })
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
			if count++; count == 300 { // does not read for a while
				time.Sleep(500 * time.Millisecond)
			}
		}
		got <- count
	}()
	for i := range n {
		must(p.t, "write", client.process.WritePacket(append([]byte{byte(i), byte(i >> 8)}, packet(3, i, 50)...)))
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Second)
	p.net.Tap(nil)
	p.net.Arrived(nil)
	after := [2]map[string]int{a.facts(p.t), b.facts(p.t)}
	must(p.t, "close", server.process.Close())
	read := <-got
	change := func(i int, name string) int { return after[i][name] - before[i][name] }
	if s := change(0, "packets sent"); s != n || sent != n {
		p.t.Errorf("%d packets are counted as sent, %d datagrams were, want %d", s, sent, n)
	}
	received, full := change(1, "packets received"), change(1, "dropped, the process did not read")
	if stray := change(1, "dropped, for no flow here"); received+full+stray != arrived || read != received || full == 0 {
		p.t.Errorf("%d came; %d are counted as received, %d as not read and %d as stray; the process has read %d", arrived, received, full, stray, read)
	}
	if !p.hostile && arrived != n {
		p.t.Errorf("%d of %d arrived", arrived, n)
	}
	p.over(client, server)
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
		if !p.hostile {
			must(p.t, "receive", receive(b, 1, 3, farSizes))
		}
		p.gone(b)
		if err := b.process.WritePacket([]byte("x")); err == nil && !p.hostile {
			p.t.Error("a write after the end succeeds")
		}
		p.over(b)
	}
}

// lostEnd loses the first word that a flow has ended.
func (p *farPair) lostEnd() {
	p.serve(1, farName)
	for _, first := range []int{0, 1} {
		client, server := p.connect(farName)
		time.Sleep(time.Second) // until all that was sent for the allocation has come
		a, b := client, server
		if first == 1 {
			a, b = server, client
		}
		lost := 0
		p.net.Lose(func(from, _ netip.AddrPort, d []byte) bool {
			if from != p.nodes[first].addr || p.hello(d) || p.world.Keepalive(d) || lost > 0 {
				return false
			}
			lost++
			return true
		})
		start := time.Now()
		must(p.t, "deallocate", a.dealloc().wait())
		must(p.t, "the end", ends(b, io.EOF))
		if took := time.Since(start); lost != 1 || took > time.Second {
			p.t.Errorf("after %d lost words the end came in %v, want 1 and a second at most", lost, took)
		}
		p.net.Lose(nil)
		stray := p.nodes[1-first].facts(p.t)["dropped, for no flow here"]
		p.over(b)
		// What comes twice is no fault either.
		client, server = p.connect(farName)
		must(p.t, "deallocate", client.dealloc().wait())
		must(p.t, "the end", ends(server, io.EOF))
		p.over(server)
		time.Sleep(time.Second)
		if n := p.nodes[1-first].facts(p.t)["dropped, for no flow here"]; n != stray {
			p.t.Errorf("the end of a flow counts as %d drops", n-stray)
		}
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

func (p *farPair) slowReader() {
	p.serve(1, farName)
	client, server := p.connect(farName)
	slow, slowServer := p.connect(farName)
	for i := range 4 * farRoom { // far more than the memory of the one who does not read
		must(p.t, "write", slow.process.WritePacket(packet(1, i, 100)))
	}
	p.talk(client, server)
	if !p.hostile {
		must(p.t, "receive", receive(slowServer, 1, farRoom, []int{100}))
	}
	p.over(client, server, slow, slowServer)
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
	n := 4096
	if p.world.Flows > 0 {
		n = p.world.Flows
	}
	if p.hostile {
		n = min(n, 200)
	} else if raceDetector {
		n = min(n, 500)
	}
	p.serve(1, farName)
	var pairs [][2]*end
	goroutines := runtime.NumGoroutine()
	for range n {
		client, server := p.connect(farName)
		pairs = append(pairs, [2]*end{client, server})
	}
	// Some may be those of timers that fire just now.
	if more := runtime.NumGoroutine() - goroutines; more > 4 && !p.hostile {
		p.t.Errorf("%d flows take %d goroutines", n, more)
	}
	if p.hostile {
		for _, e := range pairs {
			p.talk(e[0], e[1])
		}
	} else {
		for i, e := range pairs {
			must(p.t, "send", send(e[0], i, 2, farSizes))
			must(p.t, "send", send(e[1], i+1, 2, farSizes))
		}
		for i, e := range pairs {
			must(p.t, "receive", receive(e[1], i, 2, farSizes))
			must(p.t, "receive", receive(e[0], i+1, 2, farSizes))
		}
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
	p.cutWire(func() {
		for range 3 {
			must(p.t, "write", client.process.WritePacket([]byte("lost")))
		}
		time.Sleep(60 * time.Second)
	})
	p.healed()
	p.talk(client, server)
	p.over(client, server)
}
