package ipcptest

import (
	"errors"
	"fmt"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
)

func testClientFirst(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := h.connect(t, dst)
	must(t, "deallocate the client's end", client.dealloc().wait())
	fails(t, "deallocate it again", client.dealloc().wait(), core.ErrNotFound)
	h.held1(t, server)
	h.end(t, server)
}

func testServerFirst(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := h.connect(t, dst)
	must(t, "deallocate the server's end", server.dealloc().wait())
	fails(t, "deallocate it again", server.dealloc().wait(), core.ErrNotFound)
	h.held1(t, client)
	h.end(t, client)
}

// held1 checks that e is the only end left: it is its own process's to give
// up.
func (h *host) held1(t *testing.T, e *end) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ends) != 1 || h.ends[e.id] != e || e.state != allocated {
		t.Errorf("%d ends left and flow %d is %v, want only this one, allocated", len(h.ends), e.id, e.state)
	}
}

func testClientGivesUp(t *testing.T, h *host) {
	h.layer(t, dst)
	for range 3 {
		client, server := h.pending(t, dst)
		must(t, "deallocate", client.dealloc().wait())
		must(t, "wait for the withdrawal", come(server.gone))
		if server.deallocs != 1 {
			t.Errorf("the request was withdrawn %d times", server.deallocs)
		}
		fails(t, "respond to a request that was withdrawn", server.respond(0).wait(), core.ErrNotFound)
		h.empty(t)
	}
}

func testClientGivesUpEarly(t *testing.T, h *host) {
	h.layer(t, dst)
	h.set(func() { h.hold = true })
	client := h.alloc(dst, core.QoSRaw)
	gone := client.dealloc()
	h.release()
	server, err := h.arrival(dst)
	must(t, "wait for the request", err)
	must(t, "wait for the withdrawal", come(server.gone))
	must(t, "deallocate", gone.wait())
	_ = client.asked.wait() // the layer may have taken the request, or not
	h.empty(t)

	// The same where there is no request after all.
	h.set(func() { h.hold, h.noReq = true, core.ErrNotAllocated })
	client = h.alloc(dst, core.QoSRaw)
	gone = client.dealloc()
	h.release()
	_ = gone.wait()
	fails(t, "allocate", client.asked.wait(), core.ErrNotAllocated)
	h.empty(t)
}

func testServerGivesUp(t *testing.T, h *host) {
	h.layer(t, dst)
	for range 3 {
		client, server := h.pending(t, dst)
		must(t, "deallocate", server.dealloc().wait())
		code, err := client.reply()
		if err != nil || code == 0 {
			t.Errorf("the client is answered %d, %v; want a refusal", int(code), err)
		}
		fails(t, "deallocate the refused end", client.dealloc().wait(), core.ErrNotFound)
		h.empty(t)
	}
}

// testLeaveAnywhere makes flows whose client, server or both leave at the nth
// occasion in a call of the host, for every n.
func testLeaveAnywhere(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, tt := range []struct {
		who    string
		leaves func(*end) bool
	}{
		{"client", func(e *end) bool { return !e.server }},
		{"server", func(e *end) bool { return e.server }},
		{"client and server", func(e *end) bool { return true }},
	} {
		for n := 1; leaveAt(t, h, n, tt.leaves); n++ {
			if t.Failed() {
				t.Fatalf("the %s left at occasion %d", tt.who, n)
			}
		}
	}
	h.set(func() { h.accept, h.cut = false, nil })
	client, server := h.connect(t, dst)
	h.end(t, client, server)
}

// leaveAt makes a flow whose ends leave at the nth occasion if leaves says
// so, all others at the end. It reports whether there was an nth occasion.
func leaveAt(t *testing.T, h *host, n int, leaves func(*end) bool) bool {
	h.set(func() {
		h.accept = true
		h.cut = func() {
			h.mu.Lock()
			n--
			var leaving []*end
			for _, e := range h.ends {
				if n == 0 && leaves(e) && (e.known || !e.server) {
					leaving = append(leaving, e)
				}
			}
			h.mu.Unlock()
			for _, e := range leaving {
				e.leave()
			}
		}
	})
	client := h.alloc(dst, core.QoSRaw)
	must(t, "allocate", client.settled())
	// Across a wire the request may come after its client has left.
	server, err := h.arrival(dst)
	must(t, "wait for the request", err)
	must(t, "respond", server.settled())
	for _, e := range []*end{client, server} {
		e.leave()
	}
	for _, e := range []*end{client, server} {
		must(t, fmt.Sprintf("wait for the end of flow %d", e.id), come(e.gone))
	}
	h.empty(t)
	hit := false
	h.set(func() { hit, n = n <= 0, 0 }) // calls that have not ended yet do nothing more
	return hit
}

func testUnknownIDs(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := h.connect(t, dst)
	for _, id := range []core.FlowID{2, 1000, 1<<32 - 1} {
		resp, dealloc := h.answer("FlowAllocResp"), h.answer("FlowDealloc")
		h.ctl.FlowAllocResp(ipcp.AllocResponse{Flow: id}, resp.done)
		h.ctl.FlowDealloc(ipcp.DeallocRequest{Flow: id}, dealloc.done)
		fails(t, fmt.Sprintf("respond to flow %d", id), resp.wait(), core.ErrNotFound)
		fails(t, fmt.Sprintf("deallocate flow %d", id), dealloc.wait(), core.ErrNotFound)
	}
	twice := h.answer("FlowAlloc of an id in use")
	h.ctl.FlowAlloc(ipcp.AllocRequest{Flow: client.id, Dst: dst}, twice.done)
	fails(t, "allocate an id in use", twice.wait(), core.ErrState)
	h.end(t, client, server)
}

// testReuse asks for a flow in the very call by which the layer lets go of an
// id, before its answer: the IRMd may give that id to anybody.
func testReuse(t *testing.T, h *host) {
	for _, tt := range reuses {
		if h.wire && tt.near {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			h := h.again(t)
			h.layer(t, dst)
			client, server := h.pending(t, dst)
			again := make(chan *end, 1)
			h.set(func() {
				h.freed = func() {
					h.set(func() { h.freed = nil })
					again <- h.alloc(dst, core.QoSRaw)
				}
			})
			tt.free(t, client, server)
			next := <-again
			must(t, "allocate", next.asked.wait())
			nextServer, err := h.arrival(dst)
			must(t, "wait for the request", err)
			must(t, "respond", nextServer.respond(0).wait())
			h.end(t, next, nextServer)
		})
	}
}

var reuses = []struct {
	name string
	near bool // no wire can promise it
	free func(t *testing.T, client, server *end)
}{
	{"refused", false, func(t *testing.T, _, server *end) {
		must(t, "respond", server.respond(core.ErrNotAllocated).wait())
	}},
	{"server left", false, func(t *testing.T, _, server *end) {
		must(t, "deallocate", server.dealloc().wait())
	}},
	{"client gave up", true, func(t *testing.T, client, _ *end) {
		must(t, "deallocate", client.dealloc().wait())
	}},
	{"deallocated", false, func(t *testing.T, client, server *end) {
		must(t, "respond", server.respond(0).wait())
		must(t, "deallocate", client.dealloc().wait())
		must(t, "deallocate", server.dealloc().wait())
	}},
}

// testMany has clients that make flows at the same time, one after the other
// each.
func testMany(t *testing.T, h *host) {
	const clients, rounds = 16, 20
	var names []core.Hash
	for i := range clients {
		names = append(names, hash.SHA3_256.Sum(fmt.Sprint("server ", i)))
	}
	h.layer(t, names...)
	var work []func() error
	for i, name := range names {
		work = append(work, func() error {
			for r := range rounds {
				if err := h.round(name, i+r); err != nil {
					return fmt.Errorf("client %d, round %d: %w", i, r, err)
				}
			}
			return nil
		})
	}
	all(t, work...)
	h.empty(t)
}

// round makes a flow to name, which ends in one of several ways.
func (h *host) round(name core.Hash, how int) error {
	client := h.alloc(name, core.QoSRaw)
	if err := client.asked.wait(); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	server, err := h.arrival(name)
	if err != nil {
		return fmt.Errorf("wait for the request: %w", err)
	}
	switch how % 4 {
	case 0: // refused
		if err := server.respond(core.ErrNotAllocated).wait(); err != nil {
			return fmt.Errorf("refuse: %w", err)
		}
		return come(client.gone)
	case 1: // given up while it is answered
		resp := server.respond(0)
		gone := client.dealloc()
		// Across a wire the layer may have found first that the client has left.
		if err := gone.wait(); err != nil && !(h.wire && errors.Is(err, core.ErrNotFound)) {
			return fmt.Errorf("give up: %w", err)
		}
		if resp.wait() == nil {
			return server.dealloc().wait()
		}
		return come(server.gone)
	}
	if err := server.respond(0).wait(); err != nil {
		return fmt.Errorf("respond: %w", err)
	}
	if code, err := client.reply(); err != nil || code != 0 {
		return fmt.Errorf("the client is answered %d, %v; want 0", int(code), err)
	}
	first, second := client, server
	if how%4 == 3 {
		first, second = server, client
	}
	if err := first.dealloc().wait(); err != nil {
		return fmt.Errorf("deallocate the first end: %w", err)
	}
	if err := second.dealloc().wait(); err != nil {
		return fmt.Errorf("deallocate the second end: %w", err)
	}
	return nil
}
