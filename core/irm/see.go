package irm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
	"o7s/core/view"
)

// The functions below show the system. Each calls yield, under the lock, with
// the rows whose key follows after, in their order, until it returns false.
// Everybody may look.

// System describes what the tables hold; the IRMd adds what it knows of
// itself.
func (m *Manager) System() view.System {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := view.System{
		UID: m.cfg.UID, Started: stamp(m.started),
		Names: len(m.reg.Names()), Processes: len(m.reg.Processes()), Flows: m.reg.FlowCount(),
	}
	for _, t := range m.cfg.Types {
		s.Types = append(s.Types, t.Name)
	}
	for _, i := range m.reg.IPCPs() {
		if i.PID != 0 {
			s.IPCPs++
		}
	}
	return s
}

// EachIPCP shows the IPCPs that run, by name.
func (m *Manager) EachIPCP(after string, yield func(view.IPCP) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.reg.IPCPs() {
		if i.PID == 0 || i.Name <= after {
			continue
		}
		row := view.IPCP{Name: i.Name, PID: i.PID, Type: i.Type.Name, State: "boot", Names: len(i.Registrations()), Flows: len(i.FlowsOf())}
		if i.Operational() {
			row.State, row.Layer, row.Hash, row.Via = "operational", i.Layer, i.Hash.String(), i.Via
			row.Options = i.Type.View(i.Settings)
		}
		if !yield(row) {
			return
		}
	}
}

// IPCPFacts returns the facts that the IPCP called name shows to people.
func (m *Manager) IPCPFacts(ctx context.Context, name string) ([]view.Fact, error) {
	m.mu.Lock()
	var ctl ipcp.Control
	if i := m.reg.IPCP(name); i != nil {
		ctl = i.Control
	}
	m.mu.Unlock()
	if ctl == nil {
		return nil, fmt.Errorf("%w: no IPCP is called %q: \"irm ipcp list\" shows them", core.ErrNotFound, name)
	}
	return ctl.Show(ctx)
}

// EachName shows the names that exist and those that something is bound to, by
// name.
func (m *Manager) EachName(after string, yield func(view.Name) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]bool)
	for n := range m.reg.Bindings() {
		all[n] = true
	}
	for _, n := range m.reg.Names() {
		all[n.Name] = true
	}
	up := m.reg.Layers()
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if n <= after {
			continue
		}
		b := m.reg.Binding(n)
		row := view.Name{Name: n, HolderUID: -1, Processes: len(b.Processes()), Programs: len(b.Programs()), Waiting: b.Waiting()}
		if named := m.reg.Name(n); named != nil {
			row.Exists, row.Policy = true, named.Policy.String()
		}
		if b.Held() {
			row.HolderUID = b.UID
		}
		for _, i := range up {
			if i.Knows(n) {
				row.Layers++
			}
		}
		if !yield(row) {
			return
		}
	}
}

// EachRegistration shows which names the layers know, by name.
func (m *Manager) EachRegistration(after string, yield func(view.Registration) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []view.Registration
	for _, i := range m.reg.Layers() {
		for h, n := range i.Registrations() {
			rows = append(rows, view.Registration{Name: n, IPCP: i.Name, Layer: i.Layer, Hash: h.Full()})
		}
	}
	eachOf(rows, after, yield)
}

// EachBinding shows which processes accept for which names, by name.
func (m *Manager) EachBinding(after string, yield func(view.Binding) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []view.Binding
	for n, b := range m.reg.Bindings() {
		for _, p := range b.Processes() {
			rows = append(rows, view.Binding{Name: n, PID: p.PID, By: p.BoundBy(n), Accepting: p.Accepting(n)})
		}
	}
	eachOf(rows, after, yield)
}

// EachProcess shows the processes that use flows, by pid.
func (m *Manager) EachProcess(after string, yield func(view.Process) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []view.Process
	for _, p := range m.reg.Processes() {
		rows = append(rows, view.Process{
			PID: p.PID, UID: p.UID, Program: p.Program, Path: p.Path, Names: len(p.Names()),
			Listeners: p.Listeners(), Accepting: p.Accepting(""), Flows: len(p.Flows()), Auto: p.Auto,
		})
	}
	eachOf(rows, after, yield)
}

// EachFlow shows the ends of flows, by id.
func (m *Manager) EachFlow(after string, yield func(view.Flow) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.reg.Flows() {
		if (view.Flow{ID: f.ID}).Key() <= after {
			continue
		}
		if !yield(flowRow(f)) {
			return
		}
	}
}

func flowRow(f *registry.Flow) view.Flow {
	row := view.Flow{
		ID: f.ID, Peer: -1, Name: f.Name, Role: "server", State: f.State().String(),
		IPCP: f.Provider.Name, Layer: f.Provider.Layer, QoS: core.QoSName(f.QoS), Since: stamp(f.Since),
	}
	if f.Asked {
		row.Role = "client"
	}
	if f.Peer != nil {
		row.Peer = int(f.Peer.ID)
	} else {
		row.From, row.MPL, row.Max, row.Best = f.From, f.Path.MPL.Milliseconds(), f.Path.Max, f.Path.Best
	}
	if f.User != nil {
		row.PID, row.Program = f.User.PID, f.User.Program
	}
	if f.Meter != nil {
		if c, err := f.Meter.Count(); err == nil {
			row.Counted, row.Sent, row.Unread, row.Read, row.Waiting = true, c.Sent, c.Unread, c.Read, c.Waiting
		}
	}
	return row
}

// eachOf calls yield with those rows that follow after.
func eachOf[R view.Row](rows []R, after string, yield func(R) bool) {
	slices.SortFunc(rows, func(a, b R) int {
		if a.Key() < b.Key() {
			return -1
		}
		return 1
	})
	for _, r := range rows {
		if r.Key() > after && !yield(r) {
			return
		}
	}
}

func stamp(t time.Time) string { return t.Format(time.RFC3339Nano) }

// Watch calls tell with each event from now on, until stop is called. tell must
// not block and not call the Manager: it is called under its lock.
func (m *Manager) Watch(tell func(view.Event)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers[&tell] = true
	m.reg.Changed = m.tell
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, &tell)
		if len(m.watchers) == 0 {
			m.reg.Changed = nil
		}
	}
}

// tell passes an event on; m.mu is held.
func (m *Manager) tell(e view.Event) {
	if m.stopping {
		return
	}
	e.Time = stamp(time.Now())
	for w := range m.watchers {
		(*w)(e)
	}
}

// SetLogLevel judges whether c may change the level of the logs, says so in the
// log and returns the IPCPs that have to be told.
func (m *Manager) SetLogLevel(c Caller, level string) ([]Child, error) {
	if err := m.mayAdmin(c); err != nil {
		return nil, err
	}
	m.log.Infof("Log level is %s from now on.", level)
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.children)), nil
}
