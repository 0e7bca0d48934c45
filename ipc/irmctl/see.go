package irmctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"o7s/core"
	"o7s/core/view"
	"o7s/ipc/rpc"
)

// What everybody may see of the system: lists of rows, in pages.
var (
	ShowSystem        = rpc.Method[rpc.Empty, view.System]{Name: "show.system"}
	ShowIPCPs         = rpc.Method[Page, Rows[view.IPCP]]{Name: "show.ipcps"}
	ShowIPCP          = rpc.Method[IPCPReq, Facts]{Name: "show.ipcp"}
	ShowNames         = rpc.Method[Page, Rows[view.Name]]{Name: "show.names"}
	ShowRegistrations = rpc.Method[Page, Rows[view.Registration]]{Name: "show.registrations"}
	ShowBindings      = rpc.Method[Page, Rows[view.Binding]]{Name: "show.bindings"}
	ShowProcesses     = rpc.Method[Page, Rows[view.Process]]{Name: "show.processes"}
	ShowFlows         = rpc.Method[Page, Rows[view.Flow]]{Name: "show.flows"}

	// ShowFlow asks what the process says of its end of a flow.
	ShowFlow = rpc.Method[FlowRef, Facts]{Name: "show.flow"}

	// Watch sends events until its caller cancels it. The first event is
	// Watching; every change after that is an event.
	Watch = rpc.Method[rpc.Empty, rpc.Empty]{Name: "watch"}

	// Event is what the IRMd sends to a watcher.
	Event = rpc.Method[view.Event, rpc.Empty]{Name: "event"}
)

// Watching is the first event that a watcher gets.
const Watching = "watch.started"

// Facts are what an IPCP shows to people (ipcp.Shower), or a process of a flow.
type Facts struct{ List []view.Fact }

// Rows is a page of a list of rows, in the order of their keys.
type Rows[R view.Row] struct {
	List []R
	More bool
}

// all returns the pages of a list, joined.
func all[R view.Row](ctx context.Context, c *Client, m rpc.Method[Page, Rows[R]]) ([]R, error) {
	list := []R{}
	for after := ""; ; {
		p, err := do(ctx, c, m, Page{after})
		if err != nil {
			return nil, err
		}
		list = append(list, p.List...)
		if !p.More || len(p.List) == 0 {
			return list, nil
		}
		after = p.List[len(p.List)-1].Key()
	}
}

// System describes the IRMd itself.
func (c *Client) System(ctx context.Context) (view.System, error) {
	return do(ctx, c, ShowSystem, rpc.Empty{})
}

// IPCPs returns the IPCPs, by name.
func (c *Client) IPCPs(ctx context.Context) ([]view.IPCP, error) { return all(ctx, c, ShowIPCPs) }

// IPCPFacts returns the facts that the IPCP called name shows.
func (c *Client) IPCPFacts(ctx context.Context, name string) ([]view.Fact, error) {
	r, err := do(ctx, c, ShowIPCP, IPCPReq{Name: name})
	return r.List, err
}

// Names returns the names, also those that exist only in bindings, sorted.
func (c *Client) Names(ctx context.Context) ([]view.Name, error) { return all(ctx, c, ShowNames) }

// Registrations returns which layers know which names, by name.
func (c *Client) Registrations(ctx context.Context) ([]view.Registration, error) {
	return all(ctx, c, ShowRegistrations)
}

// Bindings returns which processes accept for which names, by name.
func (c *Client) Bindings(ctx context.Context) ([]view.Binding, error) {
	return all(ctx, c, ShowBindings)
}

// Processes returns the processes that use flows, by pid.
func (c *Client) Processes(ctx context.Context) ([]view.Process, error) {
	return all(ctx, c, ShowProcesses)
}

// Flows returns the ends of flows, by id.
func (c *Client) Flows(ctx context.Context) ([]view.Flow, error) { return all(ctx, c, ShowFlows) }

// FlowFacts returns what the process says of its end of the flow id: nothing, where
// the end keeps no order.
func (c *Client) FlowFacts(ctx context.Context, id core.FlowID) ([]view.Fact, error) {
	r, err := do(ctx, c, ShowFlow, FlowRef{ID: id})
	return r.List, err
}

// Watch calls tell with each event until ctx is done, which is no error, or
// the IRMd goes. It has a connection of its own, to the Client's IRMd, so that
// tell may call the Client. The error is core.ErrLimit where events came faster than
// tell returned, so that some are missing.
func (c *Client) Watch(ctx context.Context, tell func(view.Event)) error {
	mux := rpc.NewMux()
	rpc.Handle(mux, Event, func(_ *rpc.Call[rpc.Empty], e *view.Event) { tell(*e) })
	link, err := ConnectTo(ctx, c.dir, rpc.Config{Mux: mux})
	if err != nil {
		return err
	}
	// No event is told after the return.
	defer func() { <-link.Done() }()
	defer link.Close()
	_, err = rpc.Do(ctx, link, Watch, &rpc.Empty{}, nil)
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, core.ErrIRMd) && c.answers(ctx) {
		return fmt.Errorf("%w: too many events came that were not read, so the IRMd ended the watch; some are missing: watch again", core.ErrLimit)
	}
	return err
}

// answers reports whether the Client's IRMd lives.
func (c *Client) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := c.System(ctx)
	return err == nil
}
