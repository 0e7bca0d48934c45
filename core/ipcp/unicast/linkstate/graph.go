package linkstate

import "slices"

// Graph is the shape of a layer: the members, in the order of their addresses, and which
// of them are joined. Two members are joined if both say so.
type Graph struct {
	Addrs []uint64
	start []int32 // by member: where its neighbours begin in next; one more for the end
	next  []int32
}

// Graph returns the shape of the layer as far as it is known. This member is in it.
func (s *State) Graph() *Graph {
	pairs := make([]link, 0, len(s.links))
	for l := range s.links {
		if _, both := s.links[l.back()]; both {
			pairs = append(pairs, l)
		}
	}
	return join(pairs, s.cfg.Own)
}

// NewGraph returns the graph in which each of pairs is joined.
func NewGraph(pairs [][2]uint64) *Graph {
	var both []link
	for _, p := range pairs {
		l := linkOf(p[0], p[1])
		both = append(both, l, l.back())
	}
	return join(both, 0)
}

// join returns the graph with the edges pairs, which has both directions of each edge.
// The member also is in it even if it has no edge; 0: none.
func join(pairs []link, also uint64) *Graph {
	slices.Sort(pairs)
	pairs = slices.Compact(pairs)
	g := &Graph{next: make([]int32, len(pairs))}
	for _, l := range pairs {
		if from := l.from(); len(g.Addrs) == 0 || g.Addrs[len(g.Addrs)-1] != from {
			g.Addrs = append(g.Addrs, from)
		}
	}
	if i, found := slices.BinarySearch(g.Addrs, also); !found && also != 0 {
		g.Addrs = slices.Insert(g.Addrs, i, also)
	}
	g.start = make([]int32, len(g.Addrs)+1)
	at := 0
	for i, addr := range g.Addrs {
		for ; at < len(pairs) && pairs[at].from() == addr; at++ {
			j, _ := slices.BinarySearch(g.Addrs, pairs[at].to())
			g.next[at] = int32(j)
		}
		g.start[i+1] = int32(at)
	}
	return g
}

// Index returns the place of addr in g.Addrs; -1: it is not there.
func (g *Graph) Index(addr uint64) int {
	if i, ok := slices.BinarySearch(g.Addrs, addr); ok {
		return i
	}
	return -1
}

// Neighbours returns the members that are joined with the member i.
func (g *Graph) Neighbours(i int) []int32 { return g.next[g.start[i]:g.start[i+1]] }

// Edges returns how many pairs are joined.
func (g *Graph) Edges() int { return len(g.next) / 2 }

// Far is the distance of a member that can't be reached.
const Far = 1 << 30

// Distances returns how many hops each member is from the member i, Far where it
// can't be reached.
func (g *Graph) Distances(i int) []int32 {
	d := make([]int32, len(g.Addrs))
	for j := range d {
		d[j] = Far
	}
	if i < 0 {
		return d
	}
	d[i] = 0
	queue := append(make([]int32, 0, len(g.Addrs)), int32(i))
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, n := range g.Neighbours(int(at)) {
			if d[n] == Far {
				d[n] = d[at] + 1
				queue = append(queue, n)
			}
		}
	}
	return d
}
