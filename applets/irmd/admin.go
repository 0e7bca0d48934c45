package irmd

import (
	"context"

	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// handleAdmin registers the methods of administrators. A handler translates a
// message into a call of the Manager, which decides who may make it.
func (d *daemon) handleAdmin(m *rpc.Mux) {
	d.handleSee(m)
	d.handleLog(m)
	handleBlocking(d, m, irmctl.CreateIPCP, func(ctx context.Context, l *rpc.Link, r *irmctl.IPCPReq) (*irmctl.PID, error) {
		pid, err := d.m.CreateIPCP(ctx, caller(l), r.Name, r.Type)
		return &irmctl.PID{PID: pid}, err
	})
	handleBlocking(d, m, irmctl.BootstrapIPCP, func(ctx context.Context, l *rpc.Link, r *irmctl.BootstrapReq) (*irmctl.PID, error) {
		pid, err := d.m.BootstrapIPCP(ctx, caller(l), r.Name, r.Type, r.Draft)
		if err == nil && r.Autobind {
			err = d.m.Autobind(caller(l), r.Name)
		}
		return &irmctl.PID{PID: pid}, err
	})
	handleBlocking(d, m, irmctl.EnrollIPCP, func(ctx context.Context, l *rpc.Link, r *irmctl.EnrollReq) (*irmctl.PID, error) {
		pid, err := d.m.EnrollIPCP(ctx, caller(l), r.Name, r.Type, r.Enrollment)
		if err == nil && r.Autobind {
			err = d.m.Autobind(caller(l), r.Name)
		}
		return &irmctl.PID{PID: pid}, err
	})
	handleBlocking(d, m, irmctl.ConnectIPCP, func(ctx context.Context, l *rpc.Link, r *irmctl.ConnectReq) (*rpc.Empty, error) {
		return nil, d.m.ConnectIPCP(ctx, caller(l), r.Name, r.Connection)
	})
	handleBlocking(d, m, irmctl.DisconnectIPCP, func(ctx context.Context, l *rpc.Link, r *irmctl.ConnectReq) (*rpc.Empty, error) {
		return nil, d.m.DisconnectIPCP(ctx, caller(l), r.Name, r.Connection)
	})
	handleBlocking(d, m, irmctl.DestroyIPCP, func(_ context.Context, l *rpc.Link, r *irmctl.IPCPReq) (*rpc.Empty, error) {
		return nil, d.m.DestroyIPCP(caller(l), r.Name)
	})
	handleBlocking(d, m, irmctl.BindProcess, func(ctx context.Context, l *rpc.Link, r *irmctl.BindReq) (*rpc.Empty, error) {
		if err := d.users.named(r.PID); err != nil {
			return nil, err
		}
		return nil, d.inTurn(ctx, l, func() error { return d.m.BindProcess(caller(l), r.PID, r.Name) })
	})
	handleBlocking(d, m, irmctl.UnbindProcess, func(ctx context.Context, l *rpc.Link, r *irmctl.BindReq) (*rpc.Empty, error) {
		return nil, d.inTurn(ctx, l, func() error { return d.m.UnbindProcess(caller(l), r.PID, r.Name) })
	})
	handleBlocking(d, m, irmctl.BindProgram, func(ctx context.Context, l *rpc.Link, r *irmctl.ProgramReq) (*rpc.Empty, error) {
		p, err := d.programOf(l, r)
		if err != nil {
			return nil, err
		}
		return nil, d.inTurn(ctx, l, func() error { return d.m.BindProgram(caller(l), p) })
	})
	handleBlocking(d, m, irmctl.UnbindProgram, func(ctx context.Context, l *rpc.Link, r *irmctl.ProgramReq) (*rpc.Empty, error) {
		p, _ := d.programOf(l, r) // where it can't be found the path is as it was typed
		return nil, d.inTurn(ctx, l, func() error { return d.m.UnbindProgram(caller(l), p.Path, p.IPCP, p.Name) })
	})
	handleBlocking(d, m, irmctl.CreateName, func(_ context.Context, l *rpc.Link, r *irmctl.NameReq) (*rpc.Empty, error) {
		return nil, d.m.CreateName(caller(l), r.Name, r.Policy)
	})
	handleBlocking(d, m, irmctl.DestroyName, func(ctx context.Context, l *rpc.Link, r *irmctl.NameReq) (*rpc.Empty, error) {
		return nil, d.m.DestroyName(ctx, caller(l), r.Name)
	})
	handleBlocking(d, m, irmctl.RegisterName, func(ctx context.Context, l *rpc.Link, r *irmctl.RegisterReq) (*rpc.Empty, error) {
		return nil, d.m.RegisterName(ctx, caller(l), r.Name, r.Layers, r.IPCPs)
	})
	handleBlocking(d, m, irmctl.UnregisterName, func(ctx context.Context, l *rpc.Link, r *irmctl.RegisterReq) (*rpc.Empty, error) {
		return nil, d.m.UnregisterName(ctx, caller(l), r.Name, r.Layers, r.IPCPs)
	})
}

// handleBlocking registers a method whose handler may block. It is answered once
// what follows from it is done: its lines are in the log when its caller goes on.
func handleBlocking[Req, Resp any](d *daemon, m *rpc.Mux, method rpc.Method[Req, Resp], f func(context.Context, *rpc.Link, *Req) (*Resp, error)) {
	rpc.HandleBlocking(m, method, func(ctx context.Context, l *rpc.Link, r *Req) (*Resp, error) {
		resp, err := f(ctx, l, r)
		d.m.Wait()
		return resp, err
	})
}
