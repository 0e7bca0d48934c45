package unicast

import (
	"fmt"
	"slices"
	"strconv"

	"o7s/core/ipcp"
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
	add("address", "%s (%d)", addrText(l.own), l.own)
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
		add("neighbour", "%s, %s, %s", addrText(a.addr), a.component, by)
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
		if hop := l.table.Load().Next(uint32(addr)); hop != nil {
			add("route", "%s by %s", addrText(addr), addrText(hop.Addr))
		}
	}
	switch {
	case data == 0 && mgmt == 0:
		add("waits for", `a connection to another member: "irm ipcp connect"`)
	case data == 0:
		add("waits for", "a connection for data transfer (dt)")
	case mgmt == 0:
		add("waits for", "a connection for management (mgmt)")
	case len(routes) == 0:
		add("waits for", "routes from its neighbours")
	case l.dir.Contacts() == 0:
		add("waits for", "another member of the directory")
	}
	add("routes", "%d", len(routes))
	add("adjacencies known", "%d", l.links.Links())
	add("directory", "%d contacts, %d names of others kept, %d names here", l.dir.Contacts(), l.dir.Stored(), l.Names())
	add("packets forwarded", "%d", l.count.forwarded.Load())
	for _, drop := range []view.Fact{
		count("dropped, malformed", l.count.bad.Load()+l.links.Ignored+l.dir.Ignored),
		count("dropped, no way to the member", l.count.noWay.Load()),
		count("dropped, passed too many members", l.count.ttl.Load()),
		count("dropped, the next member did not read", l.count.full.Load()),
		count("dropped, too large for the next flow", l.count.large.Load()),
		count("messages of this member not sent", l.count.control.Load()),
		count("refused, tables full", l.links.Refused+l.dir.Refused),
	} {
		if drop.Value != "0" {
			facts = append(facts, drop)
		}
	}
	return append(facts, l.Facts()...)
}

func count(name string, n uint64) view.Fact {
	return view.Fact{Name: name, Value: strconv.FormatUint(n, 10)}
}
