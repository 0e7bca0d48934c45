package unicast

import (
	"fmt"
	"maps"
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
	facts := facts{{Name: view.AddressFact, Value: fmt.Sprintf("%s (%d)", addrText(l.own), l.own)}}
	data, mgmt := l.showNeighbours(&facts)
	routes := l.showRoutes(&facts)
	if what := l.waitsFor(data, mgmt, routes); what != "" {
		facts.add(view.WaitsFact, "%s", what)
	}
	facts.add("routes", "%d", routes)
	facts.add("adjacencies known", "%d", l.links.Links())
	facts.add("directory", "%d contacts, %d names of others kept, %d names here", l.dir.Contacts(), l.dir.Stored(), l.Names())
	l.showPackets(&facts)
	return append(facts, l.Facts()...)
}

// facts is what is shown, in its order.
type facts []view.Fact

func (f *facts) add(name, format string, args ...any) {
	*f = append(*f, view.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
}

// showNeighbours adds the connections to other members, and those that were lost and
// are made again. It returns how many connections there are for data transfer and for
// management.
func (l *layer) showNeighbours(f *facts) (data, mgmt int) {
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
		f.add(view.NeighbourFact, "%s, %s, %s", addrText(a.addr), a.component, by)
	}
	for _, c := range l.kept {
		if c.adjacency == nil {
			why := "being connected"
			if c.why != nil {
				why = c.why.Error()
			}
			f.add("lost neighbour", "%s, %s: %s", c.Dst, c.Component, why)
		}
	}
	return data, mgmt
}

// showRoutes adds the ways to other members, and returns how many there are.
func (l *layer) showRoutes(f *facts) int {
	routes := slices.Sorted(maps.Keys(l.reach))
	for i, addr := range routes {
		if i == maxRoutes {
			f.add("more routes", "%d", len(routes)-i)
			break
		}
		if way := wayText((*l.table.Load())[uint32(addr)]); way != "" {
			f.add("route", "%s by %s", addrText(addr), way)
		}
	}
	return len(routes)
}

// waitsFor returns what this member lacks to reach others; empty: nothing.
func (l *layer) waitsFor(data, mgmt, routes int) string {
	switch {
	case data == 0 && mgmt == 0:
		return `a connection to another member: "irm ipcp connect"`
	case data == 0:
		return "a connection for data transfer (dt)"
	case mgmt == 0:
		return "a connection for management (mgmt)"
	case routes == 0:
		return "routes from its neighbours"
	case l.dir.Contacts() == 0:
		return "another member of the directory"
	}
	return ""
}

// showPackets adds what became of packets and messages.
func (l *layer) showPackets(f *facts) {
	f.add("packets forwarded", "%d", l.count.forwarded.Load())
	drops := []struct {
		why string
		n   uint64
	}{
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
	f.add("packets dropped", "%d", sum)
	for _, d := range drops {
		if d.n > 0 {
			f.add("dropped, "+d.why, "%d", d.n)
		}
	}
	if n := l.count.control.Load(); n > 0 {
		f.add("messages of this member not sent", "%d", n)
	}
	if n := l.links.Refused + l.dir.Refused; n > 0 {
		f.add("refused, tables full", "%d", n)
	}
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
