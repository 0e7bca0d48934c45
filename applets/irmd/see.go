package irmd

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"o7s/applets"
	"o7s/core/logs"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// pageBytes is the largest page of a list, in bytes of a message. What else the
// message has takes a few.
const pageBytes = rpc.MaxMessage / 2

// handleSee registers the methods that show the system.
func (d *daemon) handleSee(m *rpc.Mux) {
	rpc.HandleBlocking(m, irmctl.ShowSystem, func(context.Context, *rpc.Link, *rpc.Empty) (*view.System, error) {
		s := d.m.System()
		s.Version, s.PID, s.RuntimeDir, s.LogLevel = applets.Version, os.Getpid(), d.dir, logs.LevelName(d.level.Level())
		d.mu.Lock()
		s.Bounds = append(s.Bounds, d.count.bound())
		d.mu.Unlock()
		s.Bounds = append(s.Bounds, d.watchers.bound(), d.held.bound())
		return &s, nil
	})
	handleRows(m, irmctl.ShowIPCPs, d.m.IPCPs)
	rpc.HandleBlocking(m, irmctl.ShowIPCP, func(ctx context.Context, _ *rpc.Link, r *irmctl.IPCPReq) (*irmctl.Facts, error) {
		facts, err := d.m.IPCPFacts(ctx, r.Name)
		return &irmctl.Facts{List: facts}, err
	})
	handleRows(m, irmctl.ShowNames, d.m.Names)
	handleRows(m, irmctl.ShowRegistrations, d.m.Registrations)
	handleRows(m, irmctl.ShowBindings, d.m.Bindings)
	handleRows(m, irmctl.ShowPrograms, d.m.Programs)
	handleRows(m, irmctl.ShowProcesses, d.m.Processes)
	handleRows(m, irmctl.ShowFlows, d.m.Flows)
	rpc.HandleBlocking(m, irmctl.ShowFlow, func(ctx context.Context, _ *rpc.Link, r *irmctl.FlowRef) (*irmctl.Facts, error) {
		facts, err := d.m.FlowFacts(ctx, r.ID)
		if u, ok := d.m.FlowUser(r.ID).(*process); ok {
			facts = append(facts, u.facts(ctx, r.ID).List...)
		}
		return &irmctl.Facts{List: facts}, err
	})

	rpc.HandleBlocking(m, irmctl.Watch, func(ctx context.Context, l *rpc.Link, _ *rpc.Empty) (*rpc.Empty, error) {
		return nil, d.watchers.watch(ctx, l)
	})
}

// handleRows registers the method that returns a list of rows in pages.
func handleRows[R view.Row](m *rpc.Mux, method rpc.Method[irmctl.Page, irmctl.Rows[R]], list func() []R) {
	p := &pager[R]{list: list}
	rpc.HandleInTurn(m, method, func(_ context.Context, l *rpc.Link, r *irmctl.Page) (*irmctl.Rows[R], error) {
		page := p.page(l, r.After)
		return &page, nil
	})
}

// pager serves the pages of a list. All pages that a link asks for, one after the
// other, are of one list, which is made for the first: so the pages fit together,
// and a list of n rows costs n.
type pager[R view.Row] struct {
	list func() []R

	mu    sync.Mutex // guards the fields below
	begun []*rest[R] // oldest first
}

// rest is the pages of a list that have not been asked for yet.
type rest[R view.Row] struct {
	link  *rpc.Link
	after string // the key of the last row that was served
	rows  []R
	timer *time.Timer
}

const (
	// restTime is how long the rest of a list is kept for the next page.
	restTime = 5 * time.Second
	// maxRests bounds the lists of one kind that are kept. The oldest gives way:
	// its next page is then a page of a new list.
	maxRests = 16
)

// page returns the rows of the list of l that follow after: as many as are sure to
// fit a message.
func (p *pager[R]) page(l *rpc.Link, after string) irmctl.Rows[R] {
	rows, ok := p.take(l, after)
	if !ok {
		rows = p.list()
		at, found := slices.BinarySearchFunc(rows, after, func(r R, key string) int { return strings.Compare(r.Key(), key) })
		if found {
			at++
		}
		rows = rows[at:]
	}
	n := fit(rows)
	if n < len(rows) {
		p.keep(&rest[R]{link: l, after: rows[n-1].Key(), rows: rows[n:]})
	}
	return irmctl.Rows[R]{List: rows[:n], More: n < len(rows)}
}

// fit returns how many of rows make a page.
func fit[R view.Row](rows []R) int {
	size := 0
	for n := range rows {
		if size += rpc.Size(&rows[n]); size > pageBytes && n > 0 {
			return n
		}
	}
	return len(rows)
}

// take returns the rest of the list of which l has had the rows up to after.
func (p *pager[R]) take(l *rpc.Link, after string) (rows []R, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.IndexFunc(p.begun, func(r *rest[R]) bool { return r.link == l && r.after == after })
	if at < 0 {
		return nil, false
	}
	r := p.begun[at]
	r.timer.Stop()
	p.begun = slices.Delete(p.begun, at, at+1)
	return r.rows, true
}

// keep keeps r for the next page, and for a while.
func (p *pager[R]) keep(r *rest[R]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.timer = time.AfterFunc(restTime, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.begun = slices.DeleteFunc(p.begun, func(o *rest[R]) bool { return o == r })
	})
	if p.begun = append(p.begun, r); len(p.begun) > maxRests {
		p.begun[0].timer.Stop()
		p.begun = slices.Delete(p.begun, 0, 1)
	}
}
