package carry

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
)

func bubble(t *testing.T, ids IDs, test func(t *testing.T, n *node)) {
	synctest.Test(t, func(t *testing.T) { test(t, newNode(t, ids)) })
}

// TestBeforeUp: packets and the end of a flow that come before the flow is up are
// neither lost nor out of order.
func TestBeforeUp(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		n.hold = true
		eid := n.client(1, core.QoSRaw)
		n.Deliver("peer", 0, eid, []byte("before the reply"))
		n.Deliver("elsewhere", 0, eid, []byte("a stranger's"))
		n.Flush()
		n.Replied("peer", eid, 7, 0, []byte("ours"))
		n.Deliver("peer", 7, eid, []byte("before the memory"))
		n.Deliver("peer", 8, eid, []byte("of another flow"))
		n.Deliver("peer", 7, eid, nil)
		n.Left("peer", eid)
		n.want(t)
		n.attach(nil)
		n.mems[1].sees(t, "before the reply", "before the memory")
		n.want(t, "reply 1 0", "closed 1")
		n.Deliver("peer", 7, eid, []byte("after the end"))
		if n.Flows.early != 0 {
			t.Errorf("%d bytes are kept for ever", n.Flows.early)
		}
	})
}

// TestBeforeUpIsBounded: who sends before a flow is up takes no memory without
// bound, and what was kept goes with the flow.
func TestBeforeUpIsBounded(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		packet := make([]byte, 60001)
		for id := range core.FlowID(30) {
			eid := n.client(id, core.QoSRaw)
			for range 2 * maxEarly {
				n.Deliver("peer", 0, eid, packet[:1+60000*int(id%2)])
			}
			if kept := len(n.byID[id].early); kept > maxEarly {
				t.Fatalf("flow %d keeps %d packets", id, kept)
			}
		}
		if n.Flows.early > maxEarlyBytes {
			t.Errorf("%d bytes are kept, want at most %d", n.Flows.early, maxEarlyBytes)
		}
		for id := range core.FlowID(30) {
			n.FlowDealloc(ipcp.DeallocRequest{Flow: id}, func(error) {})
		}
		if n.Flows.early != 0 {
			t.Errorf("%d bytes are left", n.Flows.early)
		}
	})
}

// TestRequestComesAgain: a request that comes again is answered as before and
// makes no second flow, whatever has become of the first one.
func TestRequestComesAgain(t *testing.T) {
	accept := func(n *node) { n.FlowAllocResp(ipcp.AllocResponse{Flow: 101, Data: []byte("yes")}, n.done("accepted")) }
	leave := func(n *node) {
		n.FlowDealloc(ipcp.DeallocRequest{Flow: 101}, n.done("left"))
		time.Sleep(2 * drainTime)
	}
	tests := []struct {
		name  string
		first func(n *node)
		again []string
	}{
		{"not answered", func(n *node) {}, nil},
		{"accepted", accept, []string{"answer client 5 0 yes"}},
		{"refused", func(n *node) {
			n.FlowAllocResp(ipcp.AllocResponse{Flow: 101, Code: core.ErrAuth}, n.done("refused"))
		}, []string{fmt.Sprintf("answer client 5 %d ", int(core.ErrAuth))}},
		{"accepted and left", func(n *node) { accept(n); leave(n) }, []string{"answer client 5 1000 "}},
		{"left without an answer", leave, []string{"answer client 5 1000 "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, IDs31, func(t *testing.T, n *node) {
				n.Register(t.Context(), "dst")
				request := func(data string) { n.Requested("client", 5, "dst", core.QoSRaw, []byte(data)) }
				request("0123456789abcdef, at noon")
				tt.first(n)
				n.all()
				request("0123456789abcdef, a second later")
				n.want(t, tt.again...)
				n.Requested("client", 6, "dst", core.QoSRaw, []byte("0123456789abcdef"))
				n.want(t, "arrival 102")
				time.Sleep(time.Minute)
				n.Flows.mu.Lock()
				defer n.Flows.mu.Unlock()
				if len(n.asked) != n.slots.used || len(n.past) != 0 {
					t.Errorf("after a minute there are %d flows, and %d requests are remembered, %d of them over", n.slots.used, len(n.asked), len(n.past))
				}
			})
		})
	}
}

// TestIDUsedAnew: a system that asks with an endpoint id that it had for another
// flow has left that one. Nothing that is due to the first flow hits the second.
func TestIDUsedAnew(t *testing.T) {
	tests := []struct {
		name string
		of   func(n *node)
		want []string
	}{
		{"not answered", func(n *node) {}, []string{"released 101", "arrival 102"}},
		{"about to be accepted", func(n *node) {
			n.hold = true
			n.FlowAllocResp(ipcp.AllocResponse{Flow: 101}, n.done("the first is accepted"))
			got := n.got
			n.hold = false
			time.AfterFunc(time.Second, func() { got(n.mem(101), nil) })
		}, []string{"arrival 102"}},
		{"accepted", func(n *node) {
			n.FlowAllocResp(ipcp.AllocResponse{Flow: 101}, func(error) {})
		}, []string{"end 101 1006", "arrival 102"}},
		{"left a moment ago", func(n *node) {
			n.FlowAllocResp(ipcp.AllocResponse{Flow: 101}, func(error) {})
			n.FlowDealloc(ipcp.DeallocRequest{Flow: 101}, n.done("left"))
		}, []string{"closed 101", "released 101", "left", "arrival 102"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, IDs16, func(t *testing.T, n *node) {
				n.Register(t.Context(), "dst")
				n.Requested("client", 5, "dst", core.QoSRaw, []byte("the first"))
				tt.of(n)
				n.all()
				n.Requested("client", 5, "dst", core.QoSRaw, []byte("the second"))
				n.want(t, tt.want...)
				n.FlowAllocResp(ipcp.AllocResponse{Flow: 102}, n.done("accepted"))
				time.Sleep(25 * time.Second)
				want := []string{"answer client 5 0 ", "accepted"}
				if tt.name == "about to be accepted" {
					want = append(want, "closed 101", "the first is accepted: canceled")
				}
				n.want(t, want...)
			})
		})
	}
}

// TestPastIsBounded: requests that are over take no memory without bound.
func TestPastIsBounded(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		n.Register(t.Context(), "dst")
		for i := range uint64(3 * maxPast) {
			n.Requested("client", i+1, "dst", core.QoSRaw, nil)
			n.FlowAllocResp(ipcp.AllocResponse{Flow: 101 + core.FlowID(i), Code: core.ErrAuth}, func(error) {})
		}
		if len(n.past) > maxPast || len(n.asked) > maxPast || n.waiting.n != 0 || len(n.waiting.of) != 0 {
			t.Errorf("%d past requests, %d asked, %d waiting of %d", len(n.past), len(n.asked), n.waiting.n, len(n.waiting.of))
		}
	})
}

// TestFloodLeavesIDs: requests that nobody answers leave half of a small id space
// to others.
func TestFloodLeavesIDs(t *testing.T) {
	bubble(t, IDsSAP, func(t *testing.T, n *node) {
		n.Register(t.Context(), "dst")
		for i := range uint64(1000) {
			n.Requested(fmt.Sprint("client", i), 4, "dst", core.QoSRaw, nil)
		}
		if n.waiting.n != 31 || n.slots.used != 31 {
			t.Errorf("%d requests wait and %d ids are used, want 31", n.waiting.n, n.slots.used)
		}
		if refused := n.Count().Requests.Load(); refused != 1000-31 {
			t.Errorf("%d were refused, want %d", refused, 1000-31)
		}
	})
}

// TestFloodOfOneSystem: a system that asks for flows again and again, from many ports,
// pushes out its own requests and nobody else's. Many systems together push out the
// oldest.
func TestFloodOfOneSystem(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		n.Register(t.Context(), "dst")
		n.Requested("192.0.2.1:3435", 4, "dst", core.QoSRaw, nil)
		time.Sleep(time.Millisecond)
		for i := range uint64(3 * maxPending) {
			n.Requested(fmt.Sprintf("192.0.2.66:%d", i+1), i, "dst", core.QoSRaw, nil)
		}
		if n.waiting.n != maxPending || len(n.waiting.of["192.0.2.1/32"]) != 1 {
			t.Errorf("%d requests wait, of %d systems", n.waiting.n, len(n.waiting.of))
		}
		n.all()
		n.FlowAllocResp(ipcp.AllocResponse{Flow: 101}, n.done("accepted"))
		n.want(t, "answer 192.0.2.1:3435 4 0 ", "accepted")

		n.Requested("192.0.2.1:3435", 5, "dst", core.QoSRaw, nil)
		for i := range uint64(maxPending) {
			time.Sleep(time.Microsecond)
			n.Requested(fmt.Sprintf("10.%d.%d.66:3435", i/256, i%256), i, "dst", core.QoSRaw, nil)
		}
		if n.waiting.n != maxPending || len(n.waiting.of) != maxPending {
			t.Errorf("%d requests wait, of %d systems", n.waiting.n, len(n.waiting.of))
		}
		if heard := n.all(); !slices.Contains(heard, "answer 192.0.2.1:3435 5 1000 ") {
			t.Error("the oldest is not refused")
		}
	})
}

// TestFloodOfLines: requests from outside write so many lines a second, and one
// that says how many are left out.
func TestFloodOfLines(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		var log bytes.Buffer
		n.Register(t.Context(), "dst")
		n.Flows.log = logs.New(logs.Options{Writer: &log, Level: slog.LevelDebug})
		for i := range uint64(1000) {
			n.Requested("stranger", i+1, "unknown", core.QoSRaw, nil)
			n.Requested("stranger", i+1, "dst", core.QoSRaw, nil)
		}
		time.Sleep(time.Second)
		n.Requested("stranger", 5000, "unknown", core.QoSRaw, nil)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != logs.MaxLines+2 || !strings.Contains(log.String(), "leaves out 1980 requests") {
			t.Errorf("%d lines: %q", len(lines), lines)
		}
	})
}

// TestOrder: whatever else goes on, the host hears nothing of an id after it was
// told that the id is free, and a caller hears of that after the host.
func TestOrder(t *testing.T) {
	quick := core.QoS{Timeout: 400 * time.Millisecond}
	tests := []struct {
		name    string
		prepare func(n *node) (eid uint64)
		then    func(n *node, eid uint64)
		want    []string
	}{
		{"a silent flow is deallocated", func(n *node) uint64 {
			eid := n.client(1, quick)
			n.Replied("peer", eid, 7, 0, nil)
			return eid
		}, func(n *node, _ uint64) {
			time.Sleep(5 * time.Second)
			n.FlowDealloc(ipcp.DeallocRequest{Flow: 1}, n.done("left"))
		}, []string{"end 1 1006", "closed 1", "released 1", "left"}},
		{"a client gives up as it is refused", func(n *node) uint64 { return n.client(1, core.QoSRaw) }, func(n *node, eid uint64) {
			n.Replied("peer", eid, 0, core.ErrAuth, nil)
			n.FlowDealloc(ipcp.DeallocRequest{Flow: 1}, n.done("left"))
		}, []string{fmt.Sprintf("reply 1 %d", int(core.ErrAuth)), "left: not found"}},
		{"a client gives up as it is accepted", func(n *node) uint64 { return n.client(1, core.QoSRaw) }, func(n *node, eid uint64) {
			n.Replied("peer", eid, 7, 0, nil)
			n.FlowDealloc(ipcp.DeallocRequest{Flow: 1}, n.done("left"))
		}, []string{"closed 1", "released 1", "left"}},
		{"a server answers as its request is withdrawn", func(n *node) uint64 {
			n.Requested("client", 5, "dst", core.QoSRaw, nil)
			return 0
		}, func(n *node, _ uint64) {
			time.Sleep(20 * time.Second)
			n.FlowAllocResp(ipcp.AllocResponse{Flow: 101}, n.done("accepted"))
		}, []string{"answer client 5 1000 ", "released 101", "accepted: not found"}},
		{"a server answers a request that was withdrawn before it had an id", func(n *node) uint64 {
			n.late = true
			n.Requested("client", 5, "dst", core.QoSRaw, nil)
			time.Sleep(20 * time.Second)
			return 0
		}, func(n *node, _ uint64) {
			n.announce()
			n.FlowAllocResp(ipcp.AllocResponse{Flow: 101}, n.done("accepted"))
		}, []string{"released 101", "accepted: not found"}},
		{"both ends leave", func(n *node) uint64 { return n.up(1) }, func(n *node, eid uint64) {
			n.Left("peer", eid)
			n.FlowDealloc(ipcp.DeallocRequest{Flow: 1}, n.done("left"))
			n.FlowDealloc(ipcp.DeallocRequest{Flow: 1}, n.done("left again"))
		}, []string{"closed 1", "closed 1", "released 1", "left", "left again: not found"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, IDs31, func(t *testing.T, n *node) {
				n.Register(t.Context(), "dst")
				eid := tt.prepare(n)
				n.all()
				// Somebody is at work on what follows from an earlier decision, and
				// that takes its time.
				n.gate = make(chan struct{})
				go n.Requested("slow", 1, "unknown", core.QoSRaw, nil)
				synctest.Wait()
				tt.then(n, eid)
				synctest.Wait()
				n.want(t)
				close(n.gate)
				synctest.Wait()
				got := n.all()
				if len(got) == 0 || got[0] != "answer slow 1 1007 " {
					t.Fatalf("heard %q first", got)
				}
				n.heard = nil
				for _, h := range got[1:] {
					if h != "alive 7" && h != "bye peer 7" {
						n.heard = append(n.heard, h)
					}
				}
				n.want(t, tt.want...)
			})
		})
	}
}

// TestNoMemory: a flow whose memory can't be had is refused at both ends, once.
func TestNoMemory(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		n.hold = true
		n.up(1)
		n.attach(core.ErrLimit)
		n.want(t, "bye peer 7", "reply 1 1000")
		n.up(1) // the id is free
		n.FlowDealloc(ipcp.DeallocRequest{Flow: 1}, n.done("left"))
		n.attach(core.ErrLimit)
		n.want(t, "released 1", "left", "bye peer 7")
		n.Register(t.Context(), "dst")
		n.nextID = 100
		n.Requested("client", 5, "dst", core.QoSRaw, nil)
		n.FlowAllocResp(ipcp.AllocResponse{Flow: 101}, n.done("accepted"))
		n.attach(core.ErrLimit)
		n.want(t, "arrival 101", "answer client 5 1000 ", "accepted: "+core.ErrLimit.Error())
		if n.Carried() != 0 || len(n.byID) != 0 {
			t.Errorf("%d flows and %d ids are left", n.Carried(), len(n.byID))
		}
	})
}

// TestVisit: a visit takes at most its bounds of one flow, counts what the path
// does not carry, and leaves a flow whose wire is full until Resume.
func TestVisit(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		eid := n.up(1)
		m, fl := n.mems[1], n.slots.find(eid)
		lend := func(count, size int) {
			m.lend = nil
			for range count {
				m.lend = append(m.lend, make([]byte, size))
			}
			m.taken = 0
		}
		visit := func() int {
			n.set.news <- fl
			synctest.Wait()
			return m.taken
		}
		lend(500, 1)
		if got := visit(); got != visitPackets {
			t.Errorf("a visit takes %d packets, want %d", got, visitPackets)
		}
		lend(3, 1001)
		if got := visit(); got != 3 || n.Count().TooLarge.Load() != 3 {
			t.Errorf("%d packets are taken and %d too large, want 3", got, n.Count().TooLarge.Load())
		}
		n.cfg.Path = func(string) ipcp.Path { return ipcp.Path{Max: core.MaxPacket} }
		lend(10, 20000)
		if got := visit(); got != 3 {
			t.Errorf("a visit takes %d packets of 20000 bytes, want 3", got)
		}
		sent := n.Count().Sent.Load()
		n.takes = 2
		lend(10, 100)
		if got := visit(); got != 2 || n.set.watches(m) || n.Count().Sent.Load() != sent+2 {
			t.Errorf("a full wire takes %d of 10 packets, want 2; watched: %v", got, n.set.watches(m))
		}
		n.Resume(eid)
		n.Resume(eid + 1) // is nobody's
		if !n.set.watches(m) {
			t.Error("after Resume the flow is not watched")
		}
		m.lend, m.end = nil, io.EOF
		if visit(); n.set.watches(m) {
			t.Error("a flow whose process writes no more is still watched")
		}
	})
}

// TestResumeDuringVisit: a Resume that comes while Carry says that the wire is
// full is not lost.
func TestResumeDuringVisit(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		eid := n.up(1)
		fl := n.slots.find(eid)
		resumes := fl.resumes.Load()
		n.Resume(eid)
		n.park(fl, resumes)
		if !n.set.watches(n.mems[1]) {
			t.Error("the flow waits for a Resume that has come")
		}
	})
}

// TestHostile: bytes from outside hit no flow but their own.
func TestHostile(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		n.Register(t.Context(), "dst")
		eid := n.up(1)
		asked := n.client(2, core.QoSRaw)
		n.all()
		for _, id := range []uint64{0, 1, eid - 1, eid + 1<<16, eid ^ 1<<30, asked, 1<<63 + eid, ^uint64(0)} {
			for _, from := range []string{"peer", "elsewhere"} {
				if id == asked && from == "peer" {
					continue
				}
				n.Deliver(from, 0, id, []byte("x"))
				n.Left(from, id)
				n.Replied(from, id, 9, 0, nil)
				n.Replied(from, id, 9, core.ErrAuth, nil)
			}
		}
		n.Deliver("elsewhere", 0, eid, []byte("x"))
		n.Deliver("peer", 8, eid, []byte("x"))
		n.Left("elsewhere", eid)
		n.Replied("peer", eid, 9, 0, nil) // is up already
		n.Requested("x", 1, "dst", core.QoSRaw, make([]byte, ipcp.MaxData+1))
		n.Replied("peer", asked, 9, 0, make([]byte, ipcp.MaxData+1))
		n.Flush()
		n.want(t, fmt.Sprintf("reply 2 %d", int(core.ErrMessage)))
		n.mems[1].sees(t)
		n.Deliver("peer", 7, eid, []byte("own"))
		n.Flush()
		n.mems[1].sees(t, "own")
	})
}

// TestFull: packets for a process that does not read are dropped and counted.
func TestFull(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		eid := n.up(1)
		n.mems[1].full = true
		n.Deliver("peer", 0, eid, []byte("x"))
		n.Flush()
		if c := n.Count(); c.Full.Load() != 1 || c.Received.Load() != 0 {
			t.Errorf("%d dropped, %d received", c.Full.Load(), c.Received.Load())
		}
		if got := fact(n, 1, "dropped, the process did not read"); got != "1" {
			t.Errorf("the flow shows %q drops, want 1", got)
		}
	})
}

// fact returns what n shows of a flow.
func fact(n *node, id core.FlowID, name string) string {
	for _, f := range n.ShowFlow(id) {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// TestShowFlow: what people are shown of a flow.
func TestShowFlow(t *testing.T) {
	bubble(t, IDs31, func(t *testing.T, n *node) {
		n.client(2, core.QoSRaw)
		eid := n.up(1)
		time.Sleep(40 * time.Second) // a keepalive is sent after 30 s
		for name, want := range map[string]string{
			"endpoint ids": fmt.Sprintf("%d here, 7 there", eid),
			"keepalive":    "when nothing else was sent for 30s; 2m0s of silence end the flow",
			"last heard":   "40s ago",
			"last sent":    "10s ago",
			"ended":        "",
		} {
			if got := fact(n, 1, name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		n.Left("peer", eid)
		if fact(n, 1, "ended") == "" {
			t.Error("the flow does not show that its other end has left")
		}
		for _, id := range []core.FlowID{2, 3} {
			if got := n.ShowFlow(id); got != nil {
				t.Errorf("flow %d, which is not up, shows %v", id, got)
			}
		}
	})
}

func TestCodes(t *testing.T) {
	for _, tt := range []struct {
		code core.Errno
		wire int32
		back core.Errno
	}{
		{0, 0, 0}, {core.ErrName, -1007, core.ErrName}, {core.ErrAuth, -int32(core.ErrAuth), core.ErrAuth},
		{core.ErrLimit, -1000, core.ErrNotAllocated}, {-5, -1000, core.ErrNotAllocated},
	} {
		if w := Response(tt.code); w != tt.wire || Code(w) != tt.back {
			t.Errorf("%d is %d on the wire and %d again, want %d and %d", tt.code, w, Code(w), tt.wire, tt.back)
		}
	}
	for _, wire := range []int32{1, -1, -999, -1100, -5000, -1 << 31, 1<<31 - 1} {
		if c := Code(wire); c != core.ErrNotAllocated {
			t.Errorf("%d is error %d, want %d", wire, c, core.ErrNotAllocated)
		}
	}
}

// carriers returns a flow that is up and lends 64 packets.
func carriers(t testing.TB, size int) (n *node, fl *flow[string], m *memory, packet []byte) {
	n = newNode(t, IDs31)
	fl = n.slots.find(n.up(1))
	m = n.mems[1]
	m.discard = true
	packet = make([]byte, size)
	for range visitPackets {
		m.lend = append(m.lend, packet)
	}
	return n, fl, m, packet
}

// TestNoCopies: what a process wrote goes to the wire from where it lies, and what
// comes is copied by the memory alone.
func TestNoCopies(t *testing.T) {
	n, fl, m, packet := carriers(t, 64)
	n.visit(fl, make([][]byte, visitPackets))
	if &n.last[0] != &packet[0] {
		t.Error("a packet is copied on its way to the wire")
	}
	n.Deliver("peer", 7, fl.eid, packet)
	if &m.last[0] != &packet[0] {
		t.Error("a packet is copied on its way from the wire")
	}
}

// TestNoAllocations: a packet takes no memory, in either direction.
func TestNoAllocations(t *testing.T) {
	n, fl, _, packet := carriers(t, 64)
	batch := make([][]byte, visitPackets)
	if a := testing.AllocsPerRun(100, func() { n.visit(fl, batch) }); a != 0 {
		t.Errorf("a visit takes %v allocations", a)
	}
	if a := testing.AllocsPerRun(100, func() {
		for range 64 {
			n.Deliver("peer", 7, fl.eid, packet)
		}
		n.Flush()
	}); a != 0 {
		t.Errorf("64 packets that come take %v allocations", a)
	}
}

// BenchmarkCarry is what this package adds to a packet on its way out and in.
func BenchmarkCarry(b *testing.B) {
	n, fl, _, packet := carriers(b, 64)
	b.Run("out", func(b *testing.B) {
		b.ReportAllocs()
		batch := make([][]byte, visitPackets)
		for i := 0; i < b.N; i += visitPackets {
			n.visit(fl, batch)
		}
	})
	b.Run("in", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			n.Deliver("peer", 7, fl.eid, packet)
			if i%64 == 63 {
				n.Flush()
			}
		}
	})
}
