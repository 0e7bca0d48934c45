package linkstate

import "slices"

// Graph is the shape of a layer: the members, in the order of their addresses, and
// which of them are joined. A pair is joined where both say so.
type Graph struct {
	Addrs []uint64
	start []int32 // by member: where its neighbours begin in next; one more for the end
	next  []int32
}

// Graph returns the shape of the layer as it is known. This member is in it.
func (s *State) Graph() *Graph {
	var pairs [][2]uint64
	g := &Graph{Addrs: []uint64{s.cfg.Own}}
	for l := range s.links {
		if _, both := s.links[link{l.to, l.from}]; both {
			pairs = append(pairs, [2]uint64{l.from, l.to})
			g.Addrs = append(g.Addrs, l.from)
		}
	}
	return g.join(pairs)
}

// NewGraph returns the graph in which each of pairs is joined.
func NewGraph(pairs [][2]uint64) *Graph {
	g := &Graph{}
	var both [][2]uint64
	for _, p := range pairs {
		g.Addrs = append(g.Addrs, p[0], p[1])
		both = append(both, p, [2]uint64{p[1], p[0]})
	}
	return g.join(both)
}

// join makes the edges from pairs, which has both directions of each.
func (g *Graph) join(pairs [][2]uint64) *Graph {
	slices.Sort(g.Addrs)
	g.Addrs = slices.Compact(g.Addrs)
	slices.SortFunc(pairs, func(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) })
	g.start = make([]int32, len(g.Addrs)+1)
	g.next = make([]int32, 0, len(pairs))
	at := 0
	for i, addr := range g.Addrs {
		for ; at < len(pairs) && pairs[at][0] == addr; at++ {
			j, _ := slices.BinarySearch(g.Addrs, pairs[at][1])
			g.next = append(g.next, int32(j))
		}
		g.start[i+1] = int32(len(g.next))
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
