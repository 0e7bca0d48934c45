package irmd

import (
	"context"

	"o7s/core/irm"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// pageBytes bounds a page of a list, so that it fits a message.
const pageBytes = rpc.MaxMessage / 2

// handleAdmin registers the methods of administrators. A handler translates
// and calls; who may do it is decided in package irm.
func (d *daemon) handleAdmin(m *rpc.Mux) {
	d.handleSee(m)
	d.handleLog(m)
	rpc.HandleBlocking(m, irmctl.CreateIPCP, func(ctx context.Context, l *rpc.Link, r *irmctl.IPCPReq) (*irmctl.PID, error) {
		pid, err := d.m.CreateIPCP(ctx, caller(l), r.Name, r.Type)
		return &irmctl.PID{PID: pid}, err
	})
	rpc.HandleBlocking(m, irmctl.BootstrapIPCP, func(ctx context.Context, l *rpc.Link, r *irmctl.BootstrapReq) (*irmctl.PID, error) {
		pid, err := d.m.BootstrapIPCP(ctx, caller(l), r.Name, r.Type, r.Layer, r.Hash)
		return &irmctl.PID{PID: pid}, err
	})
	rpc.HandleBlocking(m, irmctl.DestroyIPCP, func(_ context.Context, l *rpc.Link, r *irmctl.IPCPReq) (*rpc.Empty, error) {
		return nil, d.m.DestroyIPCP(caller(l), r.Name)
	})
	rpc.HandleBlocking(m, irmctl.ListIPCPs, func(_ context.Context, _ *rpc.Link, r *irmctl.Page) (*irmctl.IPCPs, error) {
		list, more := page(d.m.IPCPs(), r.After, func(i irm.IPCPInfo) (string, irmctl.IPCP, int) {
			return i.Name, irmctl.IPCP(i), 32 + len(i.Name) + len(i.Type) + len(i.Layer)
		})
		return &irmctl.IPCPs{List: list, More: more}, nil
	})
	rpc.HandleBlocking(m, irmctl.BindProcess, func(_ context.Context, l *rpc.Link, r *irmctl.BindReq) (*rpc.Empty, error) {
		return nil, d.m.BindProcess(caller(l), r.PID, r.Name)
	})
	rpc.HandleBlocking(m, irmctl.UnbindProcess, func(_ context.Context, l *rpc.Link, r *irmctl.BindReq) (*rpc.Empty, error) {
		return nil, d.m.UnbindProcess(caller(l), r.PID, r.Name)
	})
	rpc.HandleBlocking(m, irmctl.BindProgram, func(_ context.Context, l *rpc.Link, r *irmctl.ProgramReq) (*rpc.Empty, error) {
		return nil, d.m.BindProgram(caller(l), programOf(r))
	})
	rpc.HandleBlocking(m, irmctl.UnbindProgram, func(_ context.Context, l *rpc.Link, r *irmctl.ProgramReq) (*rpc.Empty, error) {
		return nil, d.m.UnbindProgram(caller(l), canonical(r.Path), r.IPCP, r.Name)
	})
	rpc.HandleBlocking(m, irmctl.CreateName, func(_ context.Context, l *rpc.Link, r *irmctl.NameReq) (*rpc.Empty, error) {
		return nil, d.m.CreateName(caller(l), r.Name, r.Policy)
	})
	rpc.HandleBlocking(m, irmctl.DestroyName, func(ctx context.Context, l *rpc.Link, r *irmctl.NameReq) (*rpc.Empty, error) {
		return nil, d.m.DestroyName(ctx, caller(l), r.Name)
	})
	rpc.HandleBlocking(m, irmctl.RegisterName, func(ctx context.Context, l *rpc.Link, r *irmctl.RegisterReq) (*rpc.Empty, error) {
		return nil, d.m.RegisterName(ctx, caller(l), r.Name, r.Layers, r.IPCPs)
	})
	rpc.HandleBlocking(m, irmctl.UnregisterName, func(ctx context.Context, l *rpc.Link, r *irmctl.RegisterReq) (*rpc.Empty, error) {
		return nil, d.m.UnregisterName(ctx, caller(l), r.Name, r.Layers, r.IPCPs)
	})
	rpc.HandleBlocking(m, irmctl.ListNames, func(_ context.Context, _ *rpc.Link, r *irmctl.Page) (*irmctl.Names, error) {
		list, more := page(d.m.Names(), r.After, func(n irm.NameInfo) (string, irmctl.Name, int) {
			return n.Name, irmctl.Name(n), 16 + len(n.Name) + len(n.Policy)
		})
		return &irmctl.Names{List: list, More: more}, nil
	})
}

// page returns the part of a list, sorted by name, that follows after and
// fits a message. row gives an item's name, its form and its size in bytes.
func page[T, R any](all []T, after string, row func(T) (string, R, int)) (part []R, more bool) {
	size := 0
	for _, item := range all {
		name, r, n := row(item)
		if name <= after { // no name is empty
			continue
		}
		if size += n; size > pageBytes {
			return part, true
		}
		part = append(part, r)
	}
	return part, false
}
