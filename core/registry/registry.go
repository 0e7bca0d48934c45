// Package registry holds the tables of one system: names and their bindings,
// processes and their listeners, IPCPs and their registrations, flows; and the
// state machine of each. It logs nothing and calls nobody but Changed: package
// core/irm decides, under its lock. Nothing here is safe for concurrent use.
package registry

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/settings"
	"o7s/core/view"
)

// Registry is the tables of one system.
type Registry struct {
	procs    map[int]*Process
	ipcps    map[string]*IPCP
	members  map[string][]*IPCP // by their layer, in the order in which they joined
	names    map[string]*Name
	bindings map[string]*Binding
	programs map[programKey]map[*BoundProgram]bool
	entries  uint64 // calls of Enter
	flows    map[core.FlowID]*Flow
	ids      core.IDSet
	shares   shares

	// Bounds is what users may have.
	Bounds [kinds]Bound
	// Changed is told of each change, where it is not nil. It must not call
	// back.
	Changed func(view.Event)
	// Fault reports whether a test has planted the fault of that name. It may be
	// nil.
	Fault func(name string) bool
}

func (r *Registry) fault(name string) bool { return r.Fault != nil && r.Fault(name) }

// New returns an empty Registry.
func New() *Registry {
	return &Registry{
		procs:    make(map[int]*Process),
		ipcps:    make(map[string]*IPCP),
		members:  make(map[string][]*IPCP),
		names:    make(map[string]*Name),
		bindings: make(map[string]*Binding),
		programs: make(map[programKey]map[*BoundProgram]bool),
		flows:    make(map[core.FlowID]*Flow),
		shares:   shares{users: make(map[int]*[kinds]int)},
		Bounds:   DefaultBounds,
	}
}

// IPCP is an IPC process of this system. Its name is taken from its creation
// on, while PID is still 0.
type IPCP struct {
	PID      int
	Name     string
	Type     ipcp.Type
	Layer    string // empty before bootstrap
	Hash     hash.Algorithm
	Settings ipcp.Settings
	Via      string       // how it became a member: "bootstrap", "enroll NAME"
	Control  ipcp.Control // the IRM's way to it; not called from here

	Protection settings.Protection // of its flows; without Files

	Autobind    bool              // it was bound to its own name and to the layer's
	Connections []ipcp.Connection // that an administrator made

	busy  bool // see Take
	r     *Registry
	regs  map[core.Hash]string // names registered with it
	sums  map[string]core.Hash // and their hashes
	flows map[core.FlowID]*Flow
}

// Take notes that an administrator's call works on i. It returns core.ErrState if
// another one does. Release ends that.
func (i *IPCP) Take() error {
	if i.busy {
		return fmt.Errorf("%w: another call works on IPCP %q", core.ErrState, i.Name)
	}
	i.busy = true
	return nil
}

// Release implements the other half of Take.
func (i *IPCP) Release() { i.busy = false }

// Busy reports whether an administrator's call works on i.
func (i *IPCP) Busy() bool { return i.busy }

// Autobinds notes that i is bound to its own name and to the layer's.
func (i *IPCP) Autobinds() { i.Autobind = true }

// Protect sets what is wanted of the flows of i.
func (i *IPCP) Protect(p settings.Protection) { i.Protection = p }

// Connect notes a connection that an administrator has made, Disconnect that it is
// no more. One of the same component to the same destination counts once.
func (i *IPCP) Connect(x ipcp.Connection) {
	if !slices.ContainsFunc(i.Connections, x.Same) {
		i.Connections = append(i.Connections, x)
	}
}

// Disconnect implements the other half of Connect.
func (i *IPCP) Disconnect(x ipcp.Connection) {
	i.Connections = slices.DeleteFunc(i.Connections, x.Same)
}

// Operational reports whether i is a member of a layer.
func (i *IPCP) Operational() bool { return i.Layer != "" }

// NameOf returns the name that is registered with i as h.
func (i *IPCP) NameOf(h core.Hash) (string, bool) {
	n, ok := i.regs[h]
	return n, ok
}

// Knows reports whether name is registered with i.
func (i *IPCP) Knows(name string) bool {
	_, ok := i.sums[name]
	return ok
}

// Sum returns the hash that name has, or would have, in i's layer.
func (i *IPCP) Sum(name string) core.Hash {
	if h, ok := i.sums[name]; ok {
		return h
	}
	return i.Hash.Sum(name)
}

// Register notes that name is registered with i, Unregister that it is not.
func (i *IPCP) Register(name string) {
	h := i.Hash.Sum(name)
	i.regs[h], i.sums[name] = name, h
	i.r.ipcpChanged("name.registered", name, i)
}

// Unregister implements the other direction of Register.
func (i *IPCP) Unregister(name string) {
	delete(i.regs, i.sums[name])
	delete(i.sums, name)
	i.r.ipcpChanged("name.unregistered", name, i)
}

// AddIPCP takes the name for a new IPCP. An IPCP of that name is
// core.ErrExists.
func (r *Registry) AddIPCP(name string, typ ipcp.Type) (*IPCP, error) {
	if i, ok := r.ipcps[name]; ok {
		return nil, fmt.Errorf("%w: an IPCP %q of type %s; give another name for another one", core.ErrExists, name, i.Type.Name)
	}
	i := &IPCP{Name: name, Type: typ, r: r, regs: make(map[core.Hash]string), sums: make(map[string]core.Hash), flows: make(map[core.FlowID]*Flow)}
	r.ipcps[name] = i
	return i, nil
}

// RemoveIPCP forgets i and its registrations; its flows stay until they are
// removed.
func (r *Registry) RemoveIPCP(i *IPCP) {
	if r.ipcps[i.Name] == i {
		delete(r.ipcps, i.Name)
		rest := slices.DeleteFunc(r.members[i.Layer], func(o *IPCP) bool { return o == i })
		if r.members[i.Layer] = rest; len(rest) == 0 {
			delete(r.members, i.Layer)
		}
		if i.PID != 0 {
			r.ipcpChanged("ipcp.removed", "", i)
		}
	}
}

// IPCP returns the IPCP of that name, or nil.
func (r *Registry) IPCP(name string) *IPCP { return r.ipcps[name] }

// IPCPs returns all IPCPs, by their names.
func (r *Registry) IPCPs() map[string]*IPCP { return r.ipcps }

// Members returns the IPCPs of this system that are members of layer, in the order
// in which they joined it.
func (r *Registry) Members(layer string) []*IPCP { return r.members[layer] }

// Layers returns the members of layers that provide flows, in the order in
// which they are asked for a name: by rank, then by name.
func (r *Registry) Layers() []*IPCP {
	up := make([]*IPCP, 0, len(r.ipcps))
	for _, i := range r.ipcps {
		if i.Operational() && i.Type.Does.Can(ipcp.Provides) {
			up = append(up, i)
		}
	}
	slices.SortFunc(up, func(a, b *IPCP) int {
		return cmp.Or(cmp.Compare(a.Type.Rank, b.Type.Rank), cmp.Compare(a.Name, b.Name))
	})
	return up
}

// FlowsOf returns the flows that i provides, by id.
func (i *IPCP) FlowsOf() []*Flow { return sortedFlows(i.flows) }

// Provided returns how many flows i provides.
func (i *IPCP) Provided() int { return len(i.flows) }

func sortedFlows(m map[core.FlowID]*Flow) []*Flow {
	return slices.SortedFunc(maps.Values(m), func(a, b *Flow) int { return cmp.Compare(a.ID, b.ID) })
}
