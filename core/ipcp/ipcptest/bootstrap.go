package ipcptest

import (
	"context"
	"fmt"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
)

func testBeforeBootstrap(t *testing.T, h *host) {
	ctx := context.Background()
	resp, dealloc := h.answer("FlowAllocResp"), h.answer("FlowDealloc")
	h.ctl.FlowAllocResp(ipcp.AllocResponse{Flow: 1}, resp.done)
	h.ctl.FlowDealloc(ipcp.DeallocRequest{Flow: 1}, dealloc.done)
	for what, err := range map[string]error{
		"register":   h.ctl.Register(ctx, dst),
		"unregister": h.ctl.Unregister(ctx, dst),
		"query":      h.ctl.Query(ctx, dst),
		"allocate":   h.alloc(dst, core.QoSRaw).asked.wait(),
		"respond":    resp.wait(),
		"deallocate": dealloc.wait(),
	} {
		fails(t, what, err, core.ErrState)
	}
	// None of them has spoilt anything.
	h.layer(t)
	fails(t, "query", h.ctl.Query(ctx, dst), core.ErrName)
	h.empty(t)
}

func testBootstrap(t *testing.T, h *host) {
	for _, alg := range hash.SHA3() {
		t.Run(alg.String(), func(t *testing.T) {
			h := h.again(t)
			ctx := context.Background()
			must(t, "bootstrap", h.bootstrap(ctx, ipcp.Config{Layer: "layer", Hash: alg}))
			sum := alg.Sum("server")
			must(t, "register", h.ctl.Register(ctx, sum))
			must(t, "query", h.ctl.Query(ctx, sum))
			client := h.alloc(sum, core.QoSRaw)
			must(t, "allocate", client.asked.wait())
			server, err := h.arrival(sum)
			must(t, "wait for the request", err)
			must(t, "respond", server.respond(0).wait())
			h.end(t, client, server)
		})
	}
}

func testBootstrapOnce(t *testing.T, h *host) {
	ctx := context.Background()
	h.layer(t, dst)
	for _, cfg := range []ipcp.Config{{Layer: "layer"}, {Layer: "other", Hash: hash.SHA3_512}} {
		fails(t, "a second bootstrap", h.bootstrap(ctx, cfg), core.ErrState)
	}
	must(t, "query", h.ctl.Query(ctx, dst))
}

func testBootstrapInvalid(t *testing.T, h *host) {
	for _, alg := range []hash.Algorithm{hash.MD5 + 1, 255} {
		err := h.bootstrap(context.Background(), ipcp.Config{Layer: "layer", Hash: alg})
		fails(t, fmt.Sprintf("bootstrap with %v", alg), err, core.ErrUsage)
	}
	h.layer(t, dst) // the IPCP is still free to
}

func testDirectory(t *testing.T, h *host) {
	ctx := context.Background()
	h.layer(t)
	other := hash.SHA3_256.Sum("other")
	for _, step := range []struct {
		what          string
		do            func() error
		knows, others bool
	}{
		{"unregister of an unknown hash", func() error { return h.ctl.Unregister(ctx, dst) }, false, false},
		{"register", func() error { return h.ctl.Register(ctx, dst) }, true, false},
		{"register again", func() error { return h.ctl.Register(ctx, dst) }, true, false},
		{"register another", func() error { return h.ctl.Register(ctx, other) }, true, true},
		{"unregister", func() error { return h.ctl.Unregister(ctx, dst) }, false, true},
		{"unregister again", func() error { return h.ctl.Unregister(ctx, dst) }, false, true},
		{"register anew", func() error { return h.ctl.Register(ctx, dst) }, true, true},
	} {
		must(t, step.what, step.do())
		for _, q := range []struct {
			hash  core.Hash
			knows bool
		}{{dst, step.knows}, {other, step.others}} {
			if err := h.ctl.Query(ctx, q.hash); q.knows {
				must(t, "query after "+step.what, err)
			} else {
				fails(t, "query after "+step.what, err, core.ErrName)
			}
		}
	}
}
