// Package pff turns the shape of a layer into the next hops for each member: the
// policies by which packets are forwarded.
package pff

import (
	"fmt"

	"o7s/core/ipcp/unicast/linkstate"
)

// Policy says which neighbours packets to a member go to.
type Policy uint8

// The policies, by their numbers on the wire.
const (
	Simple Policy = iota // the first on a shortest path
	LFA                  // the same; if its flow is down, one that can't send the packet back
	ECMP                 // all on shortest paths, in turn
)

// String returns what the log calls p.
func (p Policy) String() string {
	switch p {
	case Simple:
		return "simple"
	case LFA:
		return "alternate"
	case ECMP:
		return "multipath"
	}
	return fmt.Sprintf("policy %d", uint8(p))
}

// maxHops bounds the next hops of one route. Hostile neighbours can make up members and
// ways to them: a thousand neighbours, and ways from each to each of 30,000 members.
const maxHops = 16

// Routes returns the routes of the member own: for the address of each member that it can
// reach, the neighbours that packets for that member go to, the first choice first. usable
// reports whether packets can be sent to a neighbour.
func Routes(p Policy, g *linkstate.Graph, own uint64, usable func(uint64) bool) map[uint64][]uint64 {
	self := g.Index(own)
	routes := make(map[uint64][]uint64, len(g.Addrs))
	if self < 0 {
		return routes
	}
	// Neighbours that are not usable are left out. So the distance of this member to
	// another is one more than the least distance of its usable neighbours.
	type neighbour struct {
		addr uint64
		far  []int32
	}
	var near []neighbour
	for _, i := range g.Neighbours(self) {
		if addr := g.Addrs[i]; usable(addr) {
			near = append(near, neighbour{addr, g.Distances(int(i))})
		}
	}
	all := make([]uint64, 0, len(g.Addrs)) // the hops of all routes: one piece of memory
	for dst, addr := range g.Addrs {
		if dst == self {
			continue
		}
		best := int32(linkstate.Far)
		for _, n := range near {
			best = min(best, n.far[dst])
		}
		if best == linkstate.Far {
			continue
		}
		first := len(all)
		for _, n := range near {
			if n.far[dst] == best {
				if all = append(all, n.addr); p != ECMP || len(all)-first == maxHops {
					break
				}
			}
		}
		if p == LFA {
			for _, n := range near {
				// Loop-free: n's own way to dst does not lead back here.
				if n.addr != all[first] && n.far[dst] < n.far[self]+best+1 {
					if all = append(all, n.addr); len(all)-first == maxHops {
						break
					}
				}
			}
		}
		routes[addr] = all[first:len(all):len(all)]
	}
	return routes
}
