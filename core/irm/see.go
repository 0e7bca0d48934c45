package irm

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
	"o7s/core/view"
)

// The functions below show the system. Each copies what it shows under the lock,
// and formats and sorts the copy without the lock: a listing costs each flow that
// is allocated beside it no more than that copy. A list is sorted by the keys of
// its rows. Everybody may look.

// System describes what the tables hold; the IRMd adds what it knows of
// itself.
func (m *Manager) System() view.System {
	s := view.System{UID: m.cfg.UID, Started: stamp(m.started)}
	for _, t := range m.cfg.Types {
		s.Types = append(s.Types, t.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Names, s.Processes, s.Flows = len(m.reg.Names()), len(m.reg.Processes()), m.reg.FlowCount()
	for _, i := range m.reg.IPCPs() {
		if i.PID != 0 {
			s.IPCPs++
		}
	}
	s.Bounds = m.reg.Shares()
	return s
}

// IPCPs shows the IPCPs that run.
func (m *Manager) IPCPs() []view.IPCP {
	m.mu.Lock()
	all := make([]registry.IPCPCopy, 0, len(m.reg.IPCPs()))
	for _, i := range m.reg.IPCPs() {
		if i.PID != 0 {
			all = append(all, i.Look())
		}
	}
	m.mu.Unlock()
	return sorted(all, func(i registry.IPCPCopy) view.IPCP {
		row := view.IPCP{Name: i.Name, PID: i.PID, Type: i.Type.Name, State: "boot", Names: i.Names, Flows: i.Flows}
		if i.Layer != "" {
			row.State, row.Layer, row.Hash, row.Via = "operational", i.Layer, i.Hash.String(), i.Via
			row.Options = i.Type.View(i.Settings)
		}
		row.Autobind, row.Connections = i.Autobind, []view.Connection{}
		for _, x := range i.Connections {
			row.Connections = append(row.Connections, view.Connection{Component: x.Component, Dst: x.Dst, QoS: core.QoSName(x.QoS)})
		}
		row.Security = i.Protection.Settings()
		return row
	})
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
		return nil, errNoIPCP(name)
	}
	return ctl.Show(ctx)
}

// Names shows the names that exist and those that something is bound to.
func (m *Manager) Names() []view.Name {
	m.mu.Lock()
	names := slices.Collect(maps.Values(m.reg.Names())) // which never change
	rows := make([]view.Name, 0, len(names)+len(m.reg.Bindings()))
	at := make(map[string]int, cap(rows))
	row := func(name string) *view.Name {
		i, ok := at[name]
		if !ok {
			i = len(rows)
			at[name] = i
			rows = append(rows, view.Name{Name: name, HolderUID: -1})
		}
		return &rows[i]
	}
	for n, b := range m.reg.Bindings() {
		r := row(n)
		r.Processes, r.Programs, r.Waiting = len(b.Processes()), len(b.Programs()), b.Waiting()
		if b.Held() {
			r.HolderUID = b.UID
		}
	}
	known := m.registrationsLocked()
	m.mu.Unlock()

	for _, n := range names {
		r := row(n.Name)
		r.Exists, r.Policy, r.Security = true, n.Policy.String(), n.Protection.Settings()
	}
	for _, k := range known {
		if i, ok := at[k.name]; ok {
			rows[i].Layers++
		}
	}
	return sorted(rows, func(n view.Name) view.Name { return n })
}

// registration is a name that is registered with an IPCP.
type registration struct {
	name, ipcp, layer string
	hash              core.Hash
}

func (m *Manager) registrationsLocked() []registration {
	n := 0
	for _, i := range m.reg.IPCPs() {
		n += len(i.Registrations())
	}
	all := make([]registration, 0, n)
	for _, i := range m.reg.IPCPs() {
		for h, n := range i.Registrations() {
			all = append(all, registration{n, i.Name, i.Layer, h})
		}
	}
	return all
}

// Registrations shows which names the layers know.
func (m *Manager) Registrations() []view.Registration {
	m.mu.Lock()
	all := m.registrationsLocked()
	m.mu.Unlock()
	return sorted(all, func(r registration) view.Registration {
		return view.Registration{Name: r.name, IPCP: r.ipcp, Layer: r.layer, Hash: r.hash.Full()}
	})
}

// Bindings shows which processes accept for which names.
func (m *Manager) Bindings() []view.Binding {
	m.mu.Lock()
	all := make([]view.Binding, 0, len(m.reg.Bindings()))
	for n, b := range m.reg.Bindings() {
		for _, p := range b.Processes() {
			all = append(all, view.Binding{Name: n, PID: p.PID, By: p.BoundBy(n), Accepting: p.Accepting(n)})
		}
	}
	m.mu.Unlock()
	return sorted(all, func(b view.Binding) view.Binding { return b })
}

// Programs shows what programs and IPCPs are bound.
func (m *Manager) Programs() []view.Program {
	m.mu.Lock()
	var all []registry.BoundProgram
	for _, b := range m.reg.Bindings() {
		for _, p := range b.Programs() {
			all = append(all, *p)
		}
	}
	m.mu.Unlock()
	return sorted(all, func(p registry.BoundProgram) view.Program {
		args := p.Args
		if args == nil {
			args = []string{}
		}
		return view.Program{
			Name: p.Name, Path: p.Path, IPCP: p.IPCP, UID: p.UID, Auto: p.Auto, Args: args,
			Pause: max(time.Until(p.NotBefore).Milliseconds(), 0), Running: p.Running,
		}
	})
}

// Processes shows the processes that use flows.
func (m *Manager) Processes() []view.Process {
	m.mu.Lock()
	all := make([]view.Process, 0, len(m.reg.Processes()))
	for _, p := range m.reg.Processes() {
		all = append(all, view.Process{
			PID: p.PID, UID: p.UID, Program: p.Program, Path: p.Path, Names: p.NameCount(),
			Listeners: p.Listeners(), Accepting: p.Accepting(""), Flows: p.Held(), Auto: p.Auto,
		})
	}
	m.mu.Unlock()
	return sorted(all, func(p view.Process) view.Process { return p })
}

// Flows shows the ends of flows.
func (m *Manager) Flows() []view.Flow {
	m.mu.Lock()
	all := make([]registry.FlowCopy, 0, m.reg.FlowCount())
	for _, f := range m.reg.Flows() {
		all = append(all, f.Look())
	}
	m.mu.Unlock()
	return sorted(all, flowRow)
}

// FlowUser returns the process that has the end id of a flow, nil where none has.
func (m *Manager) FlowUser(id core.FlowID) User {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.reg.Flow(id); f != nil && f.User != nil {
		return f.User.User
	}
	return nil
}

// FlowFacts returns the facts that a layer shows to people of the end id of a flow:
// none where the flow is within this system.
func (m *Manager) FlowFacts(ctx context.Context, id core.FlowID) ([]view.Fact, error) {
	m.mu.Lock()
	var ctl ipcp.Control
	if f := m.reg.Flow(id); f != nil && f.From != "" {
		ctl = f.Provider.Control
	}
	m.mu.Unlock()
	if ctl == nil {
		return nil, nil
	}
	return ctl.ShowFlow(ctx, id)
}

// maxRate is more bytes in a second than any flow carries. Counts that say more are
// false.
const maxRate = 1 << 40

// flowRow makes the row of f and closes its meter.
func flowRow(f registry.FlowCopy) view.Flow {
	row := view.Flow{
		ID: f.ID, Peer: f.Peer, Name: f.Name, Role: "server", State: f.State.String(), PID: f.PID, Program: f.Program,
		IPCP: f.IPCP, Layer: f.Layer, QoS: core.QoSName(f.QoS), Since: stamp(f.Since),
	}
	if f.Asked {
		row.Role = "client"
	}
	if f.Peer < 0 {
		row.From, row.MPL, row.Max, row.Best = f.From, f.Path.MPL.Milliseconds(), f.Path.Max, f.Path.Best
		row.CN = f.CN
		if row.Secure = f.Cipher.String(); f.Cipher == 0 && f.From == "" {
			row.Secure = ""
		}
	}
	if f.Meter != nil {
		if c, err := f.Meter.Count(); err == nil {
			most := uint64(time.Since(f.Since).Seconds()+1) * maxRate
			if row.Impossible = c.Impossible || c.Sent > most || c.Read > most; !row.Impossible {
				row.Counted, row.Sent, row.Unread, row.Read, row.Waiting = true, c.Sent, c.Unread, c.Read, c.Waiting
			}
		}
		f.Meter.Close()
	}
	return row
}

// sorted makes a row of each of all and returns the rows by their keys.
func sorted[T any, R view.Row](all []T, row func(T) R) []R {
	type keyed struct {
		key string
		row R
	}
	rows := make([]keyed, len(all))
	for n, x := range all {
		r := row(x)
		rows[n] = keyed{r.Key(), r}
	}
	slices.SortFunc(rows, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	list := make([]R, len(rows))
	for n, r := range rows {
		list[n] = r.row
	}
	return list
}

func stamp(t time.Time) string { return t.Format(time.RFC3339Nano) }

// Watch calls tell with each event from now on, in their order, until stop is
// called, which is once. tell must not block, and not call Watch or stop.
func (m *Manager) Watch(tell func(view.Event)) (stop func()) {
	m.decide(func() {
		m.watched++
		m.reg.Changed = m.changedLocked
	})
	m.setWatcher(&tell, true)
	return func() {
		m.setWatcher(&tell, false)
		m.decide(func() {
			if m.watched--; m.watched == 0 {
				m.reg.Changed = nil
			}
		})
	}
}

func (m *Manager) setWatcher(tell *func(view.Event), on bool) {
	m.watching.Lock()
	defer m.watching.Unlock()
	if on {
		m.watchers[tell] = true
	} else {
		delete(m.watchers, tell)
	}
}

// changedLocked passes an event on to the watchers.
func (m *Manager) changedLocked(e view.Event) {
	if m.stopping {
		return
	}
	now := time.Now()
	m.thenLocked(func() {
		e.Time = stamp(now)
		m.watching.Lock()
		defer m.watching.Unlock()
		for w := range m.watchers {
			(*w)(e)
		}
	})
}

// SetLogLevel judges whether c may change the level of the logs, says so in the
// log and returns the IPCPs that have to be told.
func (m *Manager) SetLogLevel(c Caller, level string) ([]Child, error) {
	if err := m.mayAdmin(c); err != nil {
		return nil, err
	}
	var children []Child
	m.decide(func() {
		m.infoLocked("Log level is %s from now on.", level)
		children = slices.Collect(maps.Values(m.children))
	})
	m.Wait() // the line is of the level that was
	return children, nil
}
