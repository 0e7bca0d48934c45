package pff

import (
	"math/rand/v2"
	"slices"
	"testing"

	"o7s/core/ipcp/unicast/linkstate"
)

func all(uint64) bool { return true }

func TestPolicies(t *testing.T) {
	//   1 - 2 - 4
	//    \     / \
	//     3 --'   5      and 6 next to 1 and 2
	g := linkstate.NewGraph([][2]uint64{{1, 2}, {2, 4}, {1, 3}, {3, 4}, {4, 5}, {1, 6}, {6, 2}})
	for _, c := range []struct {
		p    Policy
		dst  uint64
		want []uint64
	}{
		{Simple, 5, []uint64{2}},
		{ECMP, 5, []uint64{2, 3}},
		{ECMP, 2, []uint64{2}},
		{LFA, 5, []uint64{2, 3, 6}}, // 6 goes by 2, and not back
		{LFA, 3, []uint64{3}},       // 2 might send it back
	} {
		if got := Routes(c.p, g, 1, all)[c.dst]; !slices.Equal(got, c.want) {
			t.Errorf("%v: to %d by %v, want %v", c.p, c.dst, got, c.want)
		}
	}
	without2 := func(addr uint64) bool { return addr != 2 }
	if got := Routes(Simple, g, 1, without2)[2]; len(got) != 1 || got[0] == 2 {
		t.Errorf("without a flow to 2 the way there is by %v", got)
	}
	if got := Routes(Simple, g, 77, all); len(got) != 0 {
		t.Errorf("a member that is not in the graph has routes: %v", got)
	}
}

// However many neighbours there are on the way, a route has a bounded number.
func TestManyNeighbours(t *testing.T) {
	var pairs [][2]uint64
	for i := range uint64(40) {
		pairs = append(pairs, [2]uint64{1, 10 + i}, [2]uint64{10 + i, 1000})
	}
	g := linkstate.NewGraph(pairs)
	for p, want := range map[Policy]int{Simple: 1, LFA: maxHops, ECMP: maxHops} {
		if got := Routes(p, g, 1, all)[1000]; len(got) != want {
			t.Errorf("%v: by %d neighbours, want %d", p, len(got), want)
		}
	}
}

// In any layer each policy reaches what can be reached, in as many hops as it has to
// be, and an alternate never sends a packet back.
func TestRandomGraphs(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var pairs [][2]uint64
		n := 2 + rnd.Uint64N(14)
		for range 1 + rnd.IntN(30) {
			if a, b := 1+rnd.Uint64N(n), 1+rnd.Uint64N(n); a < b && !slices.Contains(pairs, [2]uint64{a, b}) {
				pairs = append(pairs, [2]uint64{a, b})
			}
		}
		if len(pairs) == 0 {
			continue
		}
		g := linkstate.NewGraph(pairs)
		own := g.Addrs[rnd.IntN(len(g.Addrs))]
		from := g.Distances(g.Index(own))
		for _, p := range []Policy{Simple, LFA, ECMP} {
			routes := Routes(p, g, own, all)
			for i, dst := range g.Addrs {
				hops := routes[dst]
				if (dst != own && from[i] < linkstate.Far) != (len(hops) > 0) {
					t.Fatalf("seed %d, %v: %d hops to %d, by %v", seed, p, from[i], dst, hops)
				}
				for j, h := range hops {
					d := g.Distances(g.Index(h))
					shortest := d[i]+1 == from[i]
					free := d[i] < d[g.Index(own)]+from[i]
					if j == 0 && !shortest || p == ECMP && !shortest || p == LFA && !free || p == Simple && j > 0 {
						t.Fatalf("seed %d, %v: the way from %d to %d is by %v", seed, p, own, dst, hops)
					}
				}
			}
		}
	}
}
