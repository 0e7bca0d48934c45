package irm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
)

// TestTutorial plays Tutorial 01 in one process. Its log is the golden one,
// but for the first line, which the daemon writes.
func TestTutorial(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	n.layer()
	server := n.process(1000, "oping")
	server.again = 1
	server.listen("", 8)
	if err := n.m.BindProcess(Caller{PID: 3, UID: 1000}, server.PID, "oping-server"); err != nil {
		t.Fatal(err)
	}
	if err := n.m.RegisterName(ctx, admin, "oping-server", []string{"local-layer"}, nil); err != nil {
		t.Fatal(err)
	}
	client := n.process(1000, "oping")
	id := client.mustAlloc("oping-server")
	if id != 0 || !slices.Equal(server.arrived, []core.FlowID{1}) {
		t.Fatalf("client got flow %d, server %v; want 0 and 1", id, server.arrived)
	}
	if err := client.dealloc(0); err != nil {
		t.Fatal(err)
	}
	n.m.Gone(client.me)
	if err := server.dealloc(1); err != nil {
		t.Fatal(err)
	}

	golden, err := os.ReadFile("../../testdata/irmd.golden")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(golden)), "\n")[1:]
	role := strings.NewReplacer(
		"==1==", "==IRMD==",
		strconv.Itoa(n.kids[0].pid), "IPCP", strconv.Itoa(server.PID), "SERVER", strconv.Itoa(client.PID), "CLIENT")
	got := n.lines()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("line %d is missing: %q", i, want[i])
		case i >= len(want):
			t.Fatalf("line %d is too much: %q", i, got[i])
		case role.Replace(got[i]) != want[i]:
			t.Fatalf("line %d: %q, want %q", i, got[i], want[i])
		}
	}
	n.empty()
}

// served is a node with a layer and a server that accepts for "s".
func served(t *testing.T, credit int) (*node, *proc, *proc) {
	n := newNode(t)
	n.layer()
	n.register("s")
	server := n.process(1000, "server")
	server.listen("s", credit)
	return n, server, n.process(1000, "client")
}

func TestFlowIDsAreReusedLowestFirst(t *testing.T) {
	n, server, client := served(t, 8)
	for want := range 3 {
		if id := client.mustAlloc("s"); id != core.FlowID(2*want) {
			t.Fatalf("allocation %d got flow %d, want %d", want, id, 2*want)
		}
	}
	client.dealloc(2)
	if id := client.mustAlloc("s"); id != 2 {
		t.Errorf("got flow %d, want 2: its server's end 3 is still held", id)
	}
	server.dealloc(3)
	client.dealloc(0)
	server.dealloc(1)
	if id := client.mustAlloc("s"); id != 0 {
		t.Errorf("got flow %d, want 0", id)
	}
	n.m.Gone(client.me)
	n.m.Gone(server.me)
	n.empty()
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name  string
		setup func(n *node)
		want  core.Errno
		say   string
	}{
		{"no layer", func(n *node) {}, core.ErrIPCP, "no layer yet"},
		{"unknown name", func(n *node) { n.layer() }, core.ErrName, "irm name register s"},
		{"created, not registered", func(n *node) {
			n.layer()
			n.m.CreateName(admin, "s", "")
		}, core.ErrIPCP, "registered in none"},
		{"no process", func(n *node) { n.layer(); n.register("s") }, core.ErrNotAllocated, "irm bind process"},
		{"unregistered", func(n *node) {
			n.layer()
			n.register("s")
			n.process(0, "server").listen("s", 1)
			n.m.UnregisterName(context.Background(), admin, "s", []string{"*"}, nil)
		}, core.ErrIPCP, "registered in none"},
		{"server gone", func(n *node) {
			n.layer()
			n.register("s")
			p := n.process(0, "server")
			p.listen("s", 1)
			n.m.Gone(p.me)
		}, core.ErrNotAllocated, "no process is bound"},
		{"listener closed", func(n *node) {
			n.layer()
			n.register("s")
			p := n.process(0, "server")
			p.listen("s", 1)
			n.m.Unlisten(p.me, 1)
		}, core.ErrNotAllocated, "no process is bound"},
		{"IPCP destroyed", func(n *node) {
			n.layer()
			n.register("s")
			n.process(0, "server").listen("s", 1)
			n.m.DestroyIPCP(admin, "local-ipcp")
		}, core.ErrIPCP, "no layer yet"},
		{"no memory", func(n *node) {
			n.layer()
			n.register("s")
			n.process(0, "server").listen("s", 1)
			n.noMemory = core.ErrLimit
		}, core.ErrLimit, ""},
		{"server's socket broken", func(n *node) {
			n.layer()
			n.register("s")
			p := n.process(0, "server")
			p.listen("s", 1)
			p.dead = true
		}, core.ErrNotAllocated, "has ended"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			tt.setup(n)
			o := n.process(0, "client").alloc("s")
			if !o.done || !errors.Is(o.err, tt.want) || !strings.Contains(o.err.Error(), tt.say) {
				t.Fatalf("answered %v, %v; want %v and %q", o.done, o.err, tt.want, tt.say)
			}
			n.empty()
		})
	}
}

func TestRequestWaitsForAnAcceptor(t *testing.T) {
	n, server, client := served(t, 1)
	client.mustAlloc("s")
	o := client.alloc("s")
	if o.done {
		t.Fatalf("answered %v though the server does not accept", o.err)
	}
	if err := n.m.Accept(server.me, 1, 1); err != nil {
		t.Fatal(err)
	}
	if !o.done || o.err != nil || len(server.arrived) != 2 {
		t.Errorf("after Accept: answered %v, %v; server has %v", o.done, o.err, server.arrived)
	}
}

// A process that never says that it has taken its flows gets so many, and the
// next when it has said so of one.
func TestFlowsOnTheirWayToAProcessAreBounded(t *testing.T) {
	n, server, client := served(t, registry.MaxArriving)
	server.silent = true
	for range registry.MaxArriving {
		client.mustAlloc("s")
	}
	if err := n.m.Accept(server.me, 1, 2); err != nil {
		t.Fatal(err)
	}
	first, second := client.alloc("s"), client.alloc("s")
	if first.done || len(server.arrived) != registry.MaxArriving {
		t.Fatalf("answered %v, with %d flows on their way", first.done, len(server.arrived))
	}
	server.unsaid[0]()
	if !first.done || first.err != nil || second.done {
		t.Errorf("one was taken: the next is answered %v, %v, the one after %v", first.done, first.err, second.done)
	}
	server.unsaid[1]()
	if !second.done || second.err != nil {
		t.Errorf("two were taken: the second is answered %v, %v", second.done, second.err)
	}
	n.m.Gone(client.me)
	n.m.Gone(server.me)
	n.empty()
}

// Flows on their way to one listener make those for another one of the process wait,
// and no longer than that.
func TestFlowsOnTheirWayByAnotherListener(t *testing.T) {
	for what, end := range map[string]func(*node, *proc){
		"taken":      func(_ *node, server *proc) { server.unsaid[0]() },
		"taken back": func(n *node, server *proc) { server.refused[0]() },
	} {
		t.Run(what, func(t *testing.T) {
			n, server, client := served(t, registry.MaxArriving)
			n.register("t")
			server.silent = true
			if err := n.m.Listen(t.Context(), Caller{UID: 1000}, server.me, 2, "t", nil, 1); err != nil {
				t.Fatal(err)
			}
			for range registry.MaxArriving {
				client.mustAlloc("s")
			}
			o := client.alloc("t")
			if o.done {
				t.Fatalf("answered with %d flows on their way", len(server.arrived))
			}
			end(n, server)
			if !o.done || o.err != nil {
				t.Errorf("when there is room: answered %v, %v", o.done, o.err)
			}
			n.m.Gone(client.me)
			n.m.Gone(server.me)
			n.empty()
		})
	}
}

func TestWaitEnds(t *testing.T) {
	tests := []struct {
		name string
		end  func(n *node, server, client *proc, o *outcome)
		want core.Errno
	}{
		{"time-out", func(_ *node, _, _ *proc, _ *outcome) { time.Sleep(core.AllocTimeout) }, core.ErrTimeout},
		{"cancel", func(_ *node, _, _ *proc, o *outcome) { o.cancel() }, core.ErrCanceled},
		{"server gone", func(n *node, s, _ *proc, _ *outcome) { n.m.Gone(s.me) }, core.ErrNotAllocated},
		{"unlisten", func(n *node, s, _ *proc, _ *outcome) { n.m.Unlisten(s.me, 1) }, core.ErrNotAllocated},
		{"client gone", func(n *node, _, c *proc, _ *outcome) { n.m.Gone(c.me) }, core.ErrFlowDown},
		{"IPCP killed", func(n *node, _, _ *proc, _ *outcome) { n.kids[0].kill() }, core.ErrFlowDown},
		{"IPCP destroyed", func(n *node, _, _ *proc, _ *outcome) { n.m.DestroyIPCP(admin, "local-ipcp") }, core.ErrFlowDown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, server, client := served(t, 1)
				first := client.mustAlloc("s")
				o := client.alloc("s")
				tt.end(n, server, client, o)
				synctest.Wait()
				if !o.done || !errors.Is(o.err, tt.want) {
					t.Errorf("answered %v, %v; want %v", o.done, o.err, tt.want)
				}
				client.dealloc(first)
				for _, id := range server.arrived {
					server.dealloc(id)
				}
				n.empty()
				n.m.Stop()
			})
		})
	}
}

func TestSilentCallerTimesOutAfterItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, client := served(t, 1)
		client.mustAlloc("s")
		took := make(chan time.Duration, 1)
		start := time.Now()
		n.m.FlowAlloc(client.me, "s", core.QoSRaw, 3*time.Second, func(_ HandedFlow, err error) {
			took <- time.Since(start)
		})
		if d := <-took; d != 3*time.Second {
			t.Errorf("answered after %v", d)
		}
		n.m.Stop()
	})
}

func TestLoadBalance(t *testing.T) {
	for policy, want := range map[string][]int{"round-robin": {3, 3, 3}, "spillover": {0, 0, 9}} {
		t.Run(policy, func(t *testing.T) {
			n := newNode(t)
			n.layer()
			if err := n.m.CreateName(admin, "s", policy); err != nil {
				t.Fatal(err)
			}
			n.register("s")
			var servers []*proc
			for range 3 {
				p := n.process(0, "server")
				p.listen("s", 8)
				p.again = 1
				servers = append(servers, p)
			}
			client := n.process(0, "client")
			for range 9 {
				client.mustAlloc("s")
			}
			for i, p := range servers {
				if len(p.arrived) != want[i] {
					t.Errorf("server %d got %d of 9 flows, want %d", i, len(p.arrived), want[i])
				}
			}
		})
	}
}

func TestSpilloverSpills(t *testing.T) {
	n := newNode(t)
	n.layer()
	n.register("s")
	a, b := n.process(0, "a"), n.process(0, "b")
	a.listen("s", 1)
	b.listen("s", 1)
	client := n.process(0, "client")
	client.mustAlloc("s")
	client.mustAlloc("s")
	if len(a.arrived) != 1 || len(b.arrived) != 1 {
		t.Errorf("a got %v, b got %v: want one each, as neither accepts again", a.arrived, b.arrived)
	}
}

func TestNamedListenerComesBeforeTheOneForAll(t *testing.T) {
	n := newNode(t)
	n.layer()
	n.register("s")
	p := n.process(0, "server")
	p.listen("", 1)
	if err := n.m.Listen(context.Background(), admin, p.me, 2, "s", nil, 1); err != nil {
		t.Fatal(err)
	}
	client := n.process(0, "client")
	client.mustAlloc("s")
	if p.Listener(2).Credit != 0 || p.Listener(1).Credit != 1 {
		t.Error("the flow arrived at the listener for all names")
	}
}

func TestIPCPDeathEndsItsFlows(t *testing.T) {
	n, server, client := served(t, 8)
	id := client.mustAlloc("s")
	n.lines()
	n.kids[0].kill()
	if !slices.Equal(client.down, []core.FlowID{id}) || !slices.Equal(server.down, []core.FlowID{1}) {
		t.Errorf("told down: client %v, server %v", client.down, server.down)
	}
	if l := n.lines(); len(l) == 0 || !strings.Contains(l[0], "(EE): IPCP 101 (local-ipcp) died: signal: killed.") {
		t.Errorf("log %q", l)
	}
	if len(n.m.IPCPs()) != 0 {
		t.Error("the dead IPCP is still listed")
	}
	if err := client.dealloc(id); err != nil {
		t.Error(err)
	}
	if err := server.dealloc(1); err != nil {
		t.Error(err)
	}
	n.empty()
	n.layer() // its name is free
	n.register("s")
	client.mustAlloc("s")
}

func TestProcessDeathDeallocatesFirst(t *testing.T) {
	n, server, client := served(t, 8)
	client.mustAlloc("s")
	n.lines()
	n.m.Gone(client.me)
	l := n.lines()
	if last := l[len(l)-1]; !strings.HasSuffix(last, "Dead process removed: "+strconv.Itoa(client.PID)+".") {
		t.Errorf("last line %q", last)
	}
	if !strings.Contains(l[0], "Deallocating flow 0 for process "+strconv.Itoa(client.PID)) {
		t.Errorf("first line %q", l[0])
	}
	n.m.Gone(server.me)
	n.empty()
}

// TestDeathInTheMiddle ends each party, or the wish, at the moment the log
// shows a line, which is between two messages.
func TestDeathInTheMiddle(t *testing.T) {
	lines := []string{
		"Allocating flow 0 to", "Allocating flow to", "Flow req arrived", "Flow request arrived", "Pending local",
		"Finished allocating", "Responding 0", "Flow on flow_id 0", "Flow allocation completed", "Finished responding", "Flow on flow_id 1",
	}
	for _, line := range lines {
		for _, who := range []string{"client", "server", "ipcp", "cancel"} {
			t.Run(who+" at "+line, func(t *testing.T) {
				n, server, client := served(t, 8)
				hit := false
				o := &outcome{}
				n.cut = func(s string) {
					if hit || !strings.Contains(s, line) {
						return
					}
					hit = true
					if who == "cancel" {
						if o.cancel != nil {
							o.cancel()
						}
						return
					}
					n.end(who, server, client)
				}
				got := client.alloc("s")
				if !hit {
					t.Fatal("the line never came")
				}
				if !got.done {
					t.Error("the allocation was never answered")
				}
				n.cut = nil
				n.m.Gone(client.me)
				n.m.Gone(server.me)
				n.empty()
				if who == "server" && got.err == nil {
					t.Error("allocated though the server died first")
				}
			})
		}
	}
}

// A flow that the layer has ended is listed as ended until its process gives it up.
func TestEndedFlow(t *testing.T) {
	n, _, client := served(t, 8)
	id := client.mustAlloc("s")
	i := IPCP{n.m.reg.IPCP("local-ipcp")}
	if err := n.m.FlowEnd(i, id, core.ErrFlowPeer); err != nil {
		t.Fatal(err)
	}
	if err := n.m.FlowEnd(i, id, core.ErrFlowPeer); !errors.Is(err, core.ErrState) || len(client.down) != 1 {
		t.Errorf("ended again: error %v, the process is told %d times", err, len(client.down))
	}
	states := make(map[core.FlowID]string)
	for _, f := range n.m.Flows() {
		states[f.ID] = f.State
	}
	if states[id] != "ended" || states[1-id] != "allocated" {
		t.Errorf("states %v", states)
	}
	if err := client.dealloc(id); err != nil {
		t.Error(err)
	}
}

// TestDeathWhileTheMemoryIsMade ends each party, or the wish, while nothing else
// holds the flow's memory: nobody gets it, and it is given back.
func TestDeathWhileTheMemoryIsMade(t *testing.T) {
	for _, who := range []string{"client", "server", "ipcp", "layer", "cancel"} {
		t.Run(who, func(t *testing.T) {
			n, server, client := served(t, 8)
			n.making = func() {
				n.making = nil
				n.m.mu.Lock()
				i, a := n.m.reg.IPCP("local-ipcp"), n.m.allocs[n.m.reg.Flow(0)]
				n.m.mu.Unlock()
				switch who {
				case "layer":
					if err := n.m.ProviderDealloc(IPCP{i}, 0); err != nil {
						t.Error(err)
					}
				case "cancel":
					a.cancel()
				default:
					n.end(who, server, client)
				}
			}
			got := client.alloc("s")
			// What a client that has gone is told reaches nobody.
			if !got.done || got.err == nil && who != "client" {
				t.Errorf("answered %v, %v", got.done, got.err)
			}
			n.m.Gone(client.me)
			n.m.Gone(server.me)
			n.empty()
		})
	}
}

func TestNamesAndRegistrations(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	n.layer()
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	check("create", n.m.CreateName(admin, "a", "round-robin"), nil)
	check("create again, same policy", n.m.CreateName(admin, "a", ""), nil)
	check("create again, other policy", n.m.CreateName(admin, "a", "spillover"), core.ErrExists)
	check("create, unknown policy", n.m.CreateName(admin, "b", "random"), core.ErrUsage)
	check("create, empty", n.m.CreateName(admin, "", ""), core.ErrUsage)
	check("create, too long", n.m.CreateName(admin, strings.Repeat("x", 256), ""), core.ErrUsage)
	check("register in unknown layer", n.m.RegisterName(ctx, admin, "c", []string{"nowhere"}, nil), core.ErrNotFound)
	check("register nowhere", n.m.RegisterName(ctx, admin, "c", nil, nil), core.ErrUsage)
	if got := n.m.Names(); len(got) != 1 || got[0].Name != "a" || got[0].Policy != "round-robin" {
		t.Errorf("names %v: a refused call has changed something", got)
	}
	check("register", n.m.RegisterName(ctx, admin, "c", []string{"local*"}, nil), nil)
	check("register again", n.m.RegisterName(ctx, admin, "c", nil, []string{"local-ipcp"}), nil)
	if got := n.m.Names(); len(got) != 2 || got[1].Name != "c" || got[1].Policy != "spillover" {
		t.Errorf("names %v", got)
	}
	check("unregister", n.m.UnregisterName(ctx, admin, "c", []string{"*"}, nil), nil)
	check("unregister again", n.m.UnregisterName(ctx, admin, "c", []string{"*"}, nil), nil)
	check("unregister unknown", n.m.UnregisterName(ctx, admin, "x", []string{"*"}, nil), core.ErrName)
	check("destroy", n.m.DestroyName(ctx, admin, "a"), nil)
	check("destroy unknown", n.m.DestroyName(ctx, admin, "a"), core.ErrName)
}

func TestIPCPs(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	n.layer()
	n.lines()
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	boot := func(name, typ, layer, alg string, given ...ipcp.Setting) error {
		_, err := n.m.BootstrapIPCP(ctx, admin, name, typ, ipcp.Draft{Layer: layer, Hash: alg, Settings: given})
		return err
	}
	create := func(name, typ string) error {
		_, err := n.m.CreateIPCP(ctx, admin, name, typ)
		return err
	}
	check("bootstrap twice", boot("local-ipcp", "local", "l", ""), core.ErrState)
	check("bootstrap, no type", boot("x", "", "l", ""), core.ErrNotFound)
	check("bootstrap, unknown type", boot("x", "remote", "l", ""), core.ErrIPCPType)
	check("bootstrap, no layer", boot("x", "local", "", ""), core.ErrUsage)
	check("bootstrap, hash", boot("x", "local", "l", "MD5"), core.ErrUsage)
	check("bootstrap, option", boot("x", "local", "l", "", ipcp.Setting{Name: "dev", Value: "eth0"}), core.ErrUsage)
	check("create, name taken", create("local-ipcp", "local"), core.ErrExists)
	check("create, prefix of type", create("x", "loc"), core.ErrIPCPType)
	check("destroy unknown", n.m.DestroyIPCP(admin, "x"), core.ErrNotFound)
	n.noSpawn = errors.New("no such file")
	check("spawn fails", create("x", "local"), n.noSpawn)
	n.noSpawn = nil
	if got := n.m.IPCPs(); len(got) != 1 || len(n.lines()) != 0 {
		t.Errorf("IPCPs %v: a refused call has changed something", got)
	}
	check("create", create("x", "local"), nil)
	check("prefix of type", boot("x", "l", "layer-x", "SHA3_512"), nil)
	if got := n.m.IPCPs(); len(got) != 2 || got[1].Layer != "layer-x" {
		t.Errorf("IPCPs %v", got)
	}
	check("destroy", n.m.DestroyIPCP(admin, "x"), nil)
	check("again under the name", boot("x", "local", "layer-x", ""), nil)
}

func TestRights(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	n.layer()
	user := Caller{PID: 9, UID: 2000, Groups: []int{2000}}
	_, e1 := n.m.CreateIPCP(ctx, user, "x", "local")
	_, e2 := n.m.BootstrapIPCP(ctx, user, "x", "local", ipcp.Draft{Layer: "l"})
	for i, err := range []error{e1, e2,
		n.m.DestroyIPCP(user, "local-ipcp"), n.m.CreateName(user, "x", ""), n.m.DestroyName(ctx, user, "x"),
		n.m.RegisterName(ctx, user, "x", []string{"*"}, nil), n.m.UnregisterName(ctx, user, "x", []string{"*"}, nil),
	} {
		if !errors.Is(err, core.ErrPermission) || !strings.Contains(err.Error(), "root, uid 1000, uid 1001 and members of group ouroboros") {
			t.Errorf("call %d by a user: %v", i, err)
		}
	}
	for _, c := range []Caller{{UID: 0}, {UID: 1000}, {UID: 1001}, {UID: 7, Groups: []int{1, 50}}} {
		if err := n.m.CreateName(c, "by-"+strconv.Itoa(c.UID), ""); err != nil {
			t.Errorf("%v is an administrator: %v", c, err)
		}
	}
}

func TestWhoMayBind(t *testing.T) {
	n := newNode(t)
	mine, yours := n.process(2000, "mine"), n.process(3000, "yours")
	me, you := Caller{PID: 8, UID: 2000}, Caller{PID: 9, UID: 3000}
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	check("own process", n.m.BindProcess(me, mine.PID, "a"), nil)
	check("again", n.m.BindProcess(me, mine.PID, "a"), nil)
	check("another's process", n.m.BindProcess(me, yours.PID, "b"), core.ErrPermission)
	check("name held by another", n.m.BindProcess(you, yours.PID, "a"), core.ErrPermission)
	check("listen for a name held by another", n.m.Listen(context.Background(), you, yours.me, 1, "a", nil, 1), core.ErrPermission)
	check("administrator, name held by another", n.m.BindProcess(admin, yours.PID, "a"), nil)
	check("unbind another's", n.m.UnbindProcess(me, yours.PID, "a"), core.ErrPermission)
	check("unbind another's by administrator", n.m.UnbindProcess(admin, yours.PID, "a"), nil)
	check("unbind what is not bound", n.m.UnbindProcess(you, yours.PID, "a"), core.ErrNotFound)
	check("unbind all of nothing", n.m.UnbindProcess(you, yours.PID, ""), nil)
	check("unbind all", n.m.UnbindProcess(me, mine.PID, ""), nil)
	check("a released name is free", n.m.BindProcess(you, yours.PID, "a"), nil)
	check("unknown pid", n.m.BindProcess(admin, 99999, "a"), core.ErrNotFound)
	check("bad name", n.m.BindProcess(admin, mine.PID, "a\x00"), core.ErrUsage)
}

func TestListenerUnbindsWhatItBound(t *testing.T) {
	n := newNode(t)
	p := n.process(1000, "server")
	p.listen("a", 1)
	if err := n.m.BindProcess(admin, p.PID, "a"); err != nil {
		t.Fatal(err)
	}
	n.m.Unlisten(p.me, 1)
	if !p.Bound("a") {
		t.Error("closing a listener undid an administrator's bind")
	}
	p.listen("b", 1)
	n.m.Unlisten(p.me, 1)
	if p.Bound("b") {
		t.Error("still bound though the listener is closed")
	}
	if err := n.m.Unlisten(p.me, 1); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("unlisten twice: %v", err)
	}
}

func TestExecReplacesTheProcess(t *testing.T) {
	n, server, client := served(t, 8)
	client.mustAlloc("s")
	again := n.m.Announce(Caller{PID: client.PID, UID: 1000}, "other", "/bin/other", client)
	if n.m.reg.Process(client.PID) != again.record {
		t.Error("the old process is still in the table")
	}
	n.m.Gone(server.me)
	n.empty()
}

func TestForeignIDsAreHarmless(t *testing.T) {
	n, server, client := served(t, 8)
	client.mustAlloc("s")
	stranger := IPCP{&registry.IPCP{}}
	for what, err := range map[string]error{
		"dealloc another's flow":   client.dealloc(1),
		"dealloc no flow":          client.dealloc(77),
		"provider dealloc":         n.m.ProviderDealloc(stranger, 0),
		"reply":                    n.m.FlowAllocReply(stranger, ipcp.AllocReply{}),
		"splice":                   n.m.Splice(stranger, 0, 1),
		"accept at another's":      n.m.Accept(client.me, 1, 1),
		"accept at no listener":    n.m.Accept(server.me, 99, 1),
		"provider dealloc unknown": n.m.ProviderDealloc(stranger, 99),
	} {
		if !errors.Is(err, core.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
	if err := n.m.Accept(server.me, 1, MaxCredit+1); !errors.Is(err, core.ErrUsage) {
		t.Errorf("credit beyond the bound: %v", err)
	}
	if err := client.dealloc(0); err != nil {
		t.Error(err)
	}
}

// lateControl calls before ahead of each FlowAlloc, and notes the calls.
type lateControl struct {
	ipcp.Control
	before func()
	calls  *[]string
}

func (c lateControl) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	c.before()
	*c.calls = append(*c.calls, fmt.Sprint("alloc ", req.Flow))
	c.Control.FlowAlloc(req, done)
}

func (c lateControl) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	*c.calls = append(*c.calls, fmt.Sprint("dealloc ", req.Flow))
	c.Control.FlowDealloc(req, done)
}

// A process that gives up or dies as its IPCP is being told of the flow: the
// IPCP hears of that second, else it would keep an end that nobody has.
func TestGivesUpBeforeTheIPCPKnows(t *testing.T) {
	for _, dies := range []bool{false, true} {
		n := newNode(t)
		n.layer()
		n.register("s")
		server := n.process(0, "server")
		server.listen("s", 8)
		client := n.process(0, "client")
		var calls []string
		i := n.m.reg.IPCP("local-ipcp")
		i.Control = lateControl{i.Control, func() {
			if dies {
				n.m.Gone(client.me)
				return
			}
			n.m.mu.Lock()
			a := n.m.allocs[n.m.reg.Flow(0)]
			n.m.mu.Unlock()
			a.cancel() // as its timer would
		}, &calls}
		client.alloc("s")
		for _, id := range server.arrived { // the server sees the end, and releases its own
			if err := server.dealloc(id); err != nil {
				t.Error(err)
			}
		}
		if len(calls) < 2 || calls[0] != "alloc 0" || !slices.Contains(calls, "dealloc 0") {
			t.Errorf("dies %v: the IPCP was asked to %v; want alloc 0, then dealloc 0", dies, calls)
		}
		n.empty()
	}
}

// heldControl and heldUser note the messages about flows. Before the first of kind
// hold goes out they call held.
type notes struct {
	sent []string
	hold string
	held func()
}

func (n *notes) note(call string, id core.FlowID) {
	if f := n.held; f != nil && call == n.hold {
		n.held = nil
		f()
	}
	n.sent = append(n.sent, fmt.Sprint(call, " ", id))
}

type heldControl struct {
	ipcp.Control
	*notes
}

func (c heldControl) FlowAlloc(r ipcp.AllocRequest, done func(error)) {
	c.note("alloc", r.Flow)
	c.Control.FlowAlloc(r, done)
}

func (c heldControl) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	c.note("dealloc", req.Flow)
	c.Control.FlowDealloc(req, done)
}

type heldUser struct {
	*proc
	*notes
}

func (u heldUser) FlowDown(id core.FlowID, code core.Errno) {
	u.note("down", id)
	u.proc.FlowDown(id, code)
}

// TestMessagesOfAnIDKeepTheirOrder: while a message about a flow is on its way to
// the socket, the flow ends and its id is the next flow's. The message comes before
// those of the next flow.
func TestMessagesOfAnIDKeepTheirOrder(t *testing.T) {
	for _, call := range []string{"dealloc", "down"} {
		t.Run(call, func(t *testing.T) {
			n, server, client := served(t, 8)
			i := n.m.reg.IPCP("local-ipcp")
			sent := &notes{hold: call}
			i.Control = heldControl{i.Control, sent}
			client.User = heldUser{client, sent}
			layerEnds := func() {
				if err := n.m.ProviderDealloc(IPCP{i}, 0); err != nil {
					t.Error(err)
				}
			}
			client.mustAlloc("s")
			var next *outcome
			sent.held = func() {
				if call == "dealloc" {
					layerEnds()
				} else {
					_ = client.dealloc(0) // answered later
				}
				next = client.alloc("s")
			}
			if call == "dealloc" {
				_ = client.dealloc(0)
			} else {
				layerEnds()
			}
			if next == nil || !next.done { // the layer knows nothing of its own end: it may refuse
				t.Fatalf("the next flow: %+v", next)
			}
			if want := []string{"alloc 0", call + " 0", "alloc 0"}; len(sent.sent) < 3 || !slices.Equal(sent.sent[:3], want) {
				t.Errorf("sent %q, want %q first", sent.sent, want)
			}
			n.m.Gone(client.me)
			n.m.Gone(server.me)
			n.empty()
		})
	}
}

// A flow that its server does not take costs the listener nothing: the next one
// is its.
func TestListenerOutlivesAFlowItCannotTake(t *testing.T) {
	_, server, client := served(t, 1)
	server.dead = true
	client.alloc("s")
	server.dead = false
	if o := client.alloc("s"); o.err != nil || !o.done {
		t.Errorf("the next flow: done %v, %v", o.done, o.err)
	}
	if len(server.arrived) != 1 {
		t.Errorf("%d flows arrived", len(server.arrived))
	}
}
