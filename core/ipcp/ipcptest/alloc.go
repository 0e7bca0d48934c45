package ipcptest

import (
	"context"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
)

func testUnknownHash(t *testing.T, h *host) {
	ctx := context.Background()
	h.layer(t, hash.SHA3_256.Sum("other"))
	h.set(func() { h.noReq = core.ErrInternal }) // nothing may ask for it
	fails(t, "allocate", h.alloc(dst, core.QoSRaw).asked.wait(), core.ErrName)
	must(t, "register", h.ctl.Register(ctx, dst))
	must(t, "unregister", h.ctl.Unregister(ctx, dst))
	fails(t, "allocate after unregister", h.alloc(dst, core.QoSRaw).asked.wait(), core.ErrName)

	h.set(func() { h.noReq = nil })
	must(t, "register again", h.ctl.Register(ctx, dst))
	client, server := h.connect(t, dst) // with the id that was refused
	h.end(t, client, server)
}

func testAlloc(t *testing.T, h *host) {
	h.layer(t, dst, hash.SHA3_256.Sum("other"))
	for _, qos := range []core.QoS{core.QoSRaw, core.QoSVideo, {}} {
		if h.wire && qos.InOrder {
			continue
		}
		client := h.alloc(dst, qos)
		must(t, "allocate", client.asked.wait())
		server, err := h.arrival(dst)
		must(t, "wait for the request", err)
		if server.qos != qos {
			t.Errorf("the request has QoS %+v, want %+v", server.qos, qos)
		}
		select {
		case code := <-client.codes:
			t.Errorf("the client is answered %d before the server has answered", int(code))
		default:
		}
		must(t, "respond", server.respond(0).wait())
		code, err := client.reply()
		if err != nil || code != 0 {
			t.Fatalf("the client is answered %d, %v; want 0", int(code), err)
		}
		h.mu.Lock()
		if client.peer != server && (client.process == nil || server.process == nil) {
			t.Error("the two ends are neither spliced nor both attached")
		}
		h.mu.Unlock()
		h.end(t, client, server)
	}
}

func testUnregisterKeepsFlows(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := h.connect(t, dst)
	client2, server2 := h.pending(t, dst)
	must(t, "unregister", h.ctl.Unregister(context.Background(), dst))
	must(t, "respond", server2.respond(0).wait())
	h.end(t, client, server, client2, server2)
}

func testRefuse(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, code := range []core.Errno{core.ErrNotAllocated, core.ErrPermission, 4242} {
		client, server := h.pending(t, dst)
		must(t, "respond", server.respond(code).wait())
		got, err := client.reply()
		if err != nil || got != code {
			t.Errorf("the client is answered %d, %v; want %d", int(got), err, int(code))
		}
		fails(t, "respond again", server.respond(0).wait(), core.ErrNotFound)
		h.empty(t) // so the next round has the same ids
	}
	client, server := h.connect(t, dst)
	h.end(t, client, server)
}

func testNoRequest(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, want := range []core.Errno{core.ErrNotAllocated, core.ErrName, core.ErrLimit} {
		h.set(func() { h.noReq = want })
		fails(t, "allocate", h.alloc(dst, core.QoSRaw).asked.wait(), want)
		h.empty(t)
	}
	h.set(func() { h.noReq = nil })
	client, server := h.connect(t, dst)
	h.end(t, client, server)
}

func testNoJoin(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, tt := range []struct {
		what string
		bad  func(client, server *end) *end
	}{
		{"the client's end", func(client, _ *end) *end { return client }},
		{"the server's end", func(_, server *end) *end { return server }},
	} {
		client, server := h.pending(t, dst)
		bad := tt.bad(client, server).id
		h.set(func() {
			h.noJoin = func(id core.FlowID) error {
				if id == bad {
					return core.ErrLimit
				}
				return nil
			}
		})
		fails(t, "respond without "+tt.what, server.respond(0).wait(), core.ErrLimit)
		must(t, "wait for the end of the client's", come(client.gone))
		if client.refused == nil {
			if code, err := client.reply(); err != nil || code == 0 {
				t.Errorf("without %s the client is answered %d, %v; want a refusal", tt.what, int(code), err)
			}
		}
		h.empty(t)
	}
	h.set(func() { h.noJoin = nil })
	client, server := h.connect(t, dst)
	h.end(t, client, server)
}

func testAnswerOnce(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := h.connect(t, dst)
	for _, code := range []core.Errno{0, core.ErrNotAllocated} {
		fails(t, "respond again", server.respond(code).wait(), core.ErrState)
	}
	h.end(t, client, server)
}

func testAnswerClient(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := h.pending(t, dst)
	a := h.answer("FlowAllocResp of the client's end")
	h.ctl.FlowAllocResp(ipcp.AllocResponse{Flow: client.id}, a.done)
	fails(t, "respond to the client's end", a.wait(), core.ErrNotFound)
	must(t, "respond", server.respond(0).wait())
	h.end(t, client, server)
}
