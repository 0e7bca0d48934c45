package unicast

import (
	"fmt"
	"slices"
	"strings"

	"o7s/core/ipcp"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/view"
)

// maxRoutes bounds the routes that are shown.
const maxRoutes = 100

// Show implements ipcp.Shower.
func (l *layer) Show() []view.Fact {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return nil
	}
	var facts []view.Fact
	add := func(name, format string, args ...any) {
		facts = append(facts, view.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	add(view.AddressFact, "%s (%d)", addrText(l.own), l.own)
	data, mgmt := 0, 0
	for _, port := range l.sortedPorts() {
		a := l.ports[port]
		if a.component == ipcp.Management {
			mgmt++
		} else {
			data++
		}
		by := "which connected here"
		if a.name != "" {
			by = "connected as " + a.name
		}
		add(view.NeighbourFact, "%s, %s, %s", addrText(a.addr), a.component, by)
	}
	for _, c := range l.kept {
		if c.adjacency == nil {
			why := "being connected"
			if c.why != nil {
				why = c.why.Error()
			}
			add("lost neighbour", "%s, %s: %s", c.Dst, c.Component, why)
		}
	}
	routes := make([]uint64, 0, len(l.reach))
	for addr := range l.reach {
		routes = append(routes, addr)
	}
	slices.Sort(routes)
	for i, addr := range routes {
		if i == maxRoutes {
			add("more routes", "%d", len(routes)-i)
			break
		}
		if way := wayText((*l.table.Load())[uint32(addr)]); way != "" {
			add("route", "%s by %s", addrText(addr), way)
		}
	}
	switch {
	case data == 0 && mgmt == 0:
		add(view.WaitsFact, `a connection to another member: "irm ipcp connect"`)
	case data == 0:
		add(view.WaitsFact, "a connection for data transfer (dt)")
	case mgmt == 0:
		add(view.WaitsFact, "a connection for management (mgmt)")
	case len(routes) == 0:
		add(view.WaitsFact, "routes from its neighbours")
	case l.dir.Contacts() == 0:
		add(view.WaitsFact, "another member of the directory")
	}
	add("routes", "%d", len(routes))
	add("adjacencies known", "%d", l.links.Links())
	add("directory", "%d contacts, %d names of others kept, %d names here", l.dir.Contacts(), l.dir.Stored(), l.Names())
	add("packets forwarded", "%d", l.count.forwarded.Load())
	drops := []drop{
		{"malformed", l.count.bad.Load() + l.links.Ignored + l.dir.Ignored},
		{"no way to the member", l.count.noWay.Load()},
		{"passed too many members", l.count.ttl.Load()},
		{"the next member did not read", l.count.full.Load()},
		{"too large for the next flow", l.count.large.Load()},
	}
	sum := uint64(0)
	for _, d := range drops {
		sum += d.n
	}
	add("packets dropped", "%d", sum)
	for _, d := range drops {
		if d.n > 0 {
			add("dropped, "+d.why, "%d", d.n)
		}
	}
	if n := l.count.control.Load(); n > 0 {
		add("messages of this member not sent", "%d", n)
	}
	if n := l.links.Refused + l.dir.Refused; n > 0 {
		add("refused, tables full", "%d", n)
	}
	return append(facts, l.Facts()...)
}

// drop is how many packets were dropped for a reason.
type drop struct {
	why string
	n   uint64
}

// wayText returns the neighbours that packets on r go to, in the order in which they
// are taken; empty: all flows to them are down.
func wayText(r *dt.Route) string {
	if r == nil {
		return ""
	}
	var by []string
	for _, h := range r.Hops {
		if text := addrText(h.Addr); !h.Down() && !slices.Contains(by, text) {
			by = append(by, text)
		}
	}
	if r.Spread {
		return strings.Join(by, " and ")
	}
	return strings.Join(by, ", else ")
}
