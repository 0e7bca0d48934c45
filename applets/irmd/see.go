package irmd

import (
	"context"
	"fmt"
	"os"

	"o7s/applets"
	"o7s/core/logs"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// pageBytes is the largest page of a list, in bytes. It fits a message.
const pageBytes = rpc.MaxMessage / 2

// handleSee registers the methods that show the system.
func (d *daemon) handleSee(m *rpc.Mux) {
	rpc.HandleBlocking(m, irmctl.ShowSystem, func(context.Context, *rpc.Link, *rpc.Empty) (*view.System, error) {
		s := d.m.System()
		s.Version, s.PID, s.RuntimeDir, s.LogLevel = applets.Version, os.Getpid(), d.dir, logs.LevelName(d.level.Level())
		return &s, nil
	})
	handleRows(m, irmctl.ShowIPCPs, d.m.EachIPCP)
	rpc.HandleBlocking(m, irmctl.ShowIPCP, func(ctx context.Context, _ *rpc.Link, r *irmctl.IPCPReq) (*irmctl.Facts, error) {
		facts, err := d.m.IPCPFacts(ctx, r.Name)
		return &irmctl.Facts{List: facts}, err
	})
	handleRows(m, irmctl.ShowNames, d.m.EachName)
	handleRows(m, irmctl.ShowRegistrations, d.m.EachRegistration)
	handleRows(m, irmctl.ShowBindings, d.m.EachBinding)
	handleRows(m, irmctl.ShowPrograms, d.m.EachProgram)
	handleRows(m, irmctl.ShowProcesses, d.m.EachProcess)
	handleRows(m, irmctl.ShowFlows, d.m.EachFlow)

	rpc.HandleBlocking(m, irmctl.Watch, func(ctx context.Context, l *rpc.Link, _ *rpc.Empty) (*rpc.Empty, error) {
		// A watcher that doesn't read loses its link.
		stop := d.m.Watch(func(e view.Event) { _ = rpc.Notify(l, irmctl.Event, &e) })
		defer stop()
		_ = rpc.Notify(l, irmctl.Event, &view.Event{Event: irmctl.Watching})
		<-ctx.Done()
		return nil, nil
	})
}

// handleRows registers the method that returns a list of rows in pages.
func handleRows[R view.Row](m *rpc.Mux, method rpc.Method[irmctl.Page, irmctl.Rows[R]], each func(after string, yield func(R) bool)) {
	rpc.HandleBlocking(m, method, func(_ context.Context, _ *rpc.Link, r *irmctl.Page) (*irmctl.Rows[R], error) {
		page := pageOf(r.After, each)
		return &page, nil
	})
}

// pageOf returns the rows that follow after: as many as are sure to fit a message.
func pageOf[R view.Row](after string, each func(after string, yield func(R) bool)) (page irmctl.Rows[R]) {
	size := 0
	each(after, func(row R) bool {
		// Printed with the names of its fields, a row is longer than in a
		// message.
		if size += len(fmt.Sprintf("%+v", row)); size > pageBytes && len(page.List) > 0 {
			page.More = true
			return false
		}
		page.List = append(page.List, row)
		return true
	})
	return page
}
