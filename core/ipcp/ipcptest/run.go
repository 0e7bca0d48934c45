package ipcptest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
)

// runTests are about the end of Run. Each is in a bubble of its own, where a
// goroutine that is left behind fails the test.
var runTests = []struct {
	name string
	run  func(*testing.T, ipcp.Type)
}{
	{"Run ends before bootstrap", bubble(func(t *testing.T, r *running) {})},
	{"Run ends with a layer", bubble(func(t *testing.T, r *running) { r.layer(t, dst) })},
	{"Run ends after flows", bubble(func(t *testing.T, r *running) {
		r.layer(t, dst)
		for range 3 {
			client, server := r.connect(t, dst)
			r.end(t, client, server)
		}
	})},
	{"Run ends with flows", bubble(testRunEndsWithFlows)},
	{"Run ends in an allocation", func(t *testing.T, typ ipcp.Type) {
		for n, hit := 1, true; hit; n++ {
			hit = false
			bubble(func(t *testing.T, r *running) { hit = testRunEndsAt(t, r, n) })(t, typ)
			if t.Failed() {
				t.Fatalf("Run ended at occasion %d", n)
			}
		}
	}},
}

// running is a host and its IPCP.
type running struct {
	*host
	p      *ipcp.Process
	cancel func()
	wait   func() error
}

// bubble returns a test that starts an IPCP, calls test, and ends the IPCP's
// Run; once where the closing of flows takes its time.
func bubble(test func(*testing.T, *running)) func(*testing.T, ipcp.Type) {
	return func(t *testing.T, typ ipcp.Type) {
		// A second of the bubble takes no time.
		for name, linger := range map[string]time.Duration{"quick closing": 0, "slow closing": time.Second} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { runs(t, typ, linger, test) })
			})
		}
	}
}

func runs(t *testing.T, typ ipcp.Type, linger time.Duration, test func(*testing.T, *running)) {
	r := &running{host: newHost(t, false)}
	r.linger = linger
	r.p, r.cancel, r.wait = startProcess(typ, r.host, logs.Discard())
	r.ctl = r.p
	test(t, r)
	r.cancel()
	must(t, "end Run", r.wait())
	r.quiet(t)
	if s := r.p.State(); s != ipcp.Shutdown {
		t.Errorf("after Run the IPCP is in state %v, want shutdown", s)
	}
	fails(t, "register after Run", r.p.Register(context.Background(), dst), core.ErrState)
}

// quiet checks that the layer has closed what it was given and that none of
// its goroutines is in a call of it.
func (h *host) quiet(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	memories := h.memories
	h.mu.Unlock()
	for _, m := range memories {
		if m.layer().lends() {
			t.Error("Run has returned, but packets of a flow are lent still")
		}
		select {
		case <-m.layer().over:
		default:
			t.Error("Run has returned, but its end of a flow is not closed")
		}
	}
}

func testRunEndsWithFlows(t *testing.T, r *running) {
	r.layer(t, dst)
	client, server := r.connect(t, dst)
	idle, _ := r.connect(t, dst)
	_, _ = r.pending(t, dst) // nobody answers it
	if client.peer != nil {
		return // spliced: the flow goes on without the layer
	}
	sent := make(chan error, 1)
	go func() { sent <- untilRefused(client) }()
	must(t, "fill the flow at the client", client.process.full())
	must(t, "fill the flow at the server", server.process.peer.full())
	r.cancel()
	fails(t, "write", within(sent), core.ErrFlowDown)
	must(t, "receive what came before", receive(server, 0, room, []int{1}))
	must(t, "the end", endsAfter(server, 1, core.ErrFlowDown))
	must(t, "the end", ends(idle, core.ErrFlowDown))
}

// endsAfter is ends where up to n packets may come before: those that the layer
// had in hand.
func endsAfter(e *end, n int, want error) error {
	err := ends(e, want)
	for ; err != nil && n > 0; n-- {
		err = ends(e, want)
	}
	return err
}

// testRunEndsAt ends Run at the nth occasion in a call of the host. It reports
// whether there was one.
func testRunEndsAt(t *testing.T, r *running, n int) bool {
	hit := false
	r.layer(t, dst)
	r.set(func() {
		r.accept = true
		r.cut = func() {
			now := false
			r.set(func() {
				n--
				now = n == 0
				hit = hit || now
			})
			if now {
				r.cancel()
				time.Sleep(time.Millisecond) // all others wait
			}
		}
	})
	client := r.alloc(dst, core.QoSRaw)
	_ = client.asked.wait()
	client.leave()
	time.Sleep(time.Millisecond)
	var was bool
	r.set(func() { was = hit })
	return was
}
