package irm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/ipcp"
)

// The tests below are what the simulation has found, each as small as it gets.

// TestUnlistenLeavesFlowsToTheOtherListener: a process that is bound by hand
// and has a listener for all names takes what a listener of that name left
// waiting.
func TestUnlistenLeavesFlowsToTheOtherListener(t *testing.T) {
	n, server, client := served(t, 1)
	if err := n.m.BindProcess(admin, server.PID, "s"); err != nil {
		t.Fatal(err)
	}
	if err := n.m.Listen(context.Background(), admin, server.me, 2, "", nil, 1); err != nil {
		t.Fatal(err)
	}
	client.mustAlloc("s")
	o := client.alloc("s")
	if o.done {
		t.Fatalf("answered %v by the listener for all names", o.err)
	}
	if err := n.m.Unlisten(server.me, 1); err != nil {
		t.Fatal(err)
	}
	if !o.done || o.err != nil {
		t.Errorf("after Unlisten: answered %v, %v", o.done, o.err)
	}
}

// earlyDeath spawns IPCPs that have died before Spawn returns.
type earlyDeath struct{ *node }

func (e earlyDeath) Spawn(ctx context.Context, i IPCP, died func(Child, error)) (Child, error) {
	c, err := e.node.Spawn(ctx, i, died)
	if err == nil {
		c.(*kid).kill()
	}
	return c, err
}

func TestIPCPThatDiesAtOnceLeavesNothing(t *testing.T) {
	n := newNode(t)
	n.m.cfg.Spawner = earlyDeath{n}
	_, err := n.m.BootstrapIPCP(context.Background(), admin, "local-ipcp", "local", ipcp.Draft{Layer: "local-layer"})
	if !errors.Is(err, core.ErrIPCP) {
		t.Errorf("bootstrap: %v, want ErrIPCP", err)
	}
	n.m.cfg.Spawner = n
	n.layer() // its name is free
}

// TestNameIsNotRegisteredAsItIsDestroyed: the two calls come one after the
// other, whatever the IPCP takes for the first.
func TestNameIsNotRegisteredAsItIsDestroyed(t *testing.T) {
	n := newNode(t)
	n.layer()
	destroyed := make(chan error, 1)
	n.cut = func(line string) {
		if strings.Contains(line, "Finished registering") {
			n.cut = nil
			go func() { destroyed <- n.m.DestroyName(context.Background(), admin, "s") }()
			n.m.mu.Lock()
			for len(n.m.naming["s"].waiting) == 0 { // until it waits
				n.m.mu.Unlock()
				n.m.mu.Lock()
			}
			n.m.mu.Unlock()
		}
	}
	n.register("s")
	if err := <-destroyed; err != nil {
		t.Fatal(err)
	}
	if i := n.m.reg.IPCP("local-ipcp"); i.Knows("s") {
		t.Error("a name that does not exist is registered")
	}
}

// TestRemovalIsLoggedLast: a process that gives up a flow whose IPCP has gone,
// and ends in the middle of that, is removed after the flow.
func TestRemovalIsLoggedLast(t *testing.T) {
	n, _, client := served(t, 1)
	id := client.mustAlloc("s")
	n.kids[0].kill()
	n.lines()
	n.cut = func(line string) {
		if strings.Contains(line, "Deallocating flow 0 for") {
			n.cut = nil
			n.m.Gone(client.me)
		}
	}
	if err := client.dealloc(id); err != nil {
		t.Fatal(err)
	}
	lines := n.lines()
	if last := lines[len(lines)-1]; !strings.Contains(last, "Dead process removed") {
		t.Errorf("the last line is %q", last)
	}
}
