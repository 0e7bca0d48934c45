package ipcpctl

import (
	"context"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/view"
	"o7s/ipc/rpc"
)

// Client is ipcp.Control of an IPCP at the other end of a link. Its flow
// calls answer on the link's reader.
type Client struct{ Link *rpc.Link }

var _ ipcp.Control = Client{}

// Bootstrap implements ipcp.Control.
func (c Client) Bootstrap(ctx context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	r, err := rpc.Do(ctx, c.Link, Bootstrap, &cfg, nil)
	if err != nil {
		return ipcp.Config{}, err
	}
	return r.Body, nil
}

// Enroll implements ipcp.Control.
func (c Client) Enroll(ctx context.Context, e ipcp.Enrollment) (ipcp.Config, error) {
	r, err := rpc.Do(ctx, c.Link, Enroll, &e, nil)
	if err != nil {
		return ipcp.Config{}, err
	}
	return r.Body, nil
}

// Connect implements ipcp.Control.
func (c Client) Connect(ctx context.Context, x ipcp.Connection) error {
	_, err := rpc.Do(ctx, c.Link, Connect, &x, nil)
	return err
}

// Disconnect implements ipcp.Control.
func (c Client) Disconnect(ctx context.Context, x ipcp.Connection) error {
	_, err := rpc.Do(ctx, c.Link, Disconnect, &x, nil)
	return err
}

// Register implements ipcp.Control.
func (c Client) Register(ctx context.Context, h core.Hash) error {
	_, err := rpc.Do(ctx, c.Link, Register, &HashReq{h}, nil)
	return err
}

// Unregister implements ipcp.Control.
func (c Client) Unregister(ctx context.Context, h core.Hash) error {
	_, err := rpc.Do(ctx, c.Link, Unregister, &HashReq{h}, nil)
	return err
}

// Query implements ipcp.Control.
func (c Client) Query(ctx context.Context, h core.Hash) error {
	_, err := rpc.Do(ctx, c.Link, Query, &HashReq{h}, nil)
	return err
}

// FlowAlloc implements ipcp.Control.
func (c Client) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	rpc.Go(c.Link, FlowAlloc, &req, outcome(done))
}

// FlowAllocResp implements ipcp.Control.
func (c Client) FlowAllocResp(resp ipcp.AllocResponse, done func(error)) {
	rpc.Go(c.Link, FlowAllocResp, &resp, outcome(done))
}

// FlowDealloc implements ipcp.Control.
func (c Client) FlowDealloc(req ipcp.DeallocRequest, done func(error)) {
	rpc.Go(c.Link, FlowDealloc, &req, outcome(done))
}

// Show implements ipcp.Control.
func (c Client) Show(ctx context.Context) ([]view.Fact, error) {
	r, err := rpc.Do(ctx, c.Link, Show, &rpc.Empty{}, nil)
	if err != nil {
		return nil, err
	}
	return r.Body.List, nil
}

// ShowFlow implements ipcp.Control.
func (c Client) ShowFlow(ctx context.Context, id core.FlowID) ([]view.Fact, error) {
	r, err := rpc.Do(ctx, c.Link, ShowFlow, &FlowReq{id}, nil)
	if err != nil {
		return nil, err
	}
	return r.Body.List, nil
}

func outcome(done func(error)) func(*rpc.Reply[rpc.Empty], error) {
	return func(_ *rpc.Reply[rpc.Empty], err error) { done(err) }
}

// answer returns the done that answers call.
func answer(call *rpc.Call[rpc.Empty]) func(error) {
	return func(err error) {
		if err != nil {
			call.Fail(err)
		} else {
			// If the answer does not arrive, the link has ended, which the
			// caller sees.
			_ = call.Reply(nil)
		}
	}
}

// HandleControl registers handlers for the methods of ipcp.Control with m, the
// Mux of the IPCP's end. They call c.
func HandleControl(m *rpc.Mux, c ipcp.Control) {
	rpc.HandleBlocking(m, Bootstrap, func(ctx context.Context, _ *rpc.Link, r *ipcp.Config) (*ipcp.Config, error) {
		cfg, err := c.Bootstrap(ctx, *r)
		return &cfg, err
	})
	rpc.HandleBlocking(m, Enroll, func(ctx context.Context, _ *rpc.Link, r *ipcp.Enrollment) (*ipcp.Config, error) {
		cfg, err := c.Enroll(ctx, *r)
		return &cfg, err
	})
	rpc.HandleBlocking(m, Connect, func(ctx context.Context, _ *rpc.Link, r *ipcp.Connection) (*rpc.Empty, error) {
		return nil, c.Connect(ctx, *r)
	})
	rpc.HandleBlocking(m, Disconnect, func(ctx context.Context, _ *rpc.Link, r *ipcp.Connection) (*rpc.Empty, error) {
		return nil, c.Disconnect(ctx, *r)
	})
	rpc.HandleBlocking(m, Register, func(ctx context.Context, _ *rpc.Link, r *HashReq) (*rpc.Empty, error) {
		return nil, c.Register(ctx, r.Hash)
	})
	rpc.HandleBlocking(m, Unregister, func(ctx context.Context, _ *rpc.Link, r *HashReq) (*rpc.Empty, error) {
		return nil, c.Unregister(ctx, r.Hash)
	})
	rpc.HandleBlocking(m, Query, func(ctx context.Context, _ *rpc.Link, r *HashReq) (*rpc.Empty, error) {
		return nil, c.Query(ctx, r.Hash)
	})
	rpc.HandleBlocking(m, Show, func(ctx context.Context, _ *rpc.Link, _ *rpc.Empty) (*Facts, error) {
		facts, err := c.Show(ctx)
		return &Facts{facts}, err
	})
	rpc.HandleBlocking(m, ShowFlow, func(ctx context.Context, _ *rpc.Link, r *FlowReq) (*Facts, error) {
		facts, err := c.ShowFlow(ctx, r.Flow)
		return &Facts{facts}, err
	})
	rpc.Handle(m, FlowAlloc, func(call *rpc.Call[rpc.Empty], r *ipcp.AllocRequest) {
		c.FlowAlloc(*r, answer(call))
	})
	rpc.Handle(m, FlowAllocResp, func(call *rpc.Call[rpc.Empty], r *ipcp.AllocResponse) {
		c.FlowAllocResp(*r, answer(call))
	})
	rpc.Handle(m, FlowDealloc, func(call *rpc.Call[rpc.Empty], r *ipcp.DeallocRequest) {
		c.FlowDealloc(*r, answer(call))
	})
}
