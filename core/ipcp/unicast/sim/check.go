package sim

import (
	"time"

	"o7s/core/hash"
	"o7s/core/ipcp/unicast/linkstate"
	"o7s/core/ipcp/unicast/pff"
)

// Check returns what is wrong with a layer to which nothing has happened for Settle.
func (l *Layer) Check() []string {
	alive := l.alive()
	var pairs [][2]uint64
	for _, w := range l.wires {
		if w.up && !w.cut && w.ends[0].alive && w.ends[1].alive {
			pairs = append(pairs, [2]uint64{w.ends[0].addr, w.ends[1].addr})
		}
	}
	truth := linkstate.NewGraph(pairs)
	for _, m := range alive {
		far := truth.Distances(truth.Index(m.addr))
		for _, other := range alive {
			if other == m {
				continue
			}
			d := int32(linkstate.Far)
			if i := truth.Index(other.addr); i >= 0 {
				d = far[i]
			}
			l.checkWay(m, other, d)
		}
		l.checkHops(m, truth, far)
		for dst := range m.table {
			if l.byAddr[dst] == nil {
				l.fail("member %d has a way to one that is no more", m.n)
			}
		}
	}
	l.checkNames(truth)
	l.checkAsks()
	return l.takeWrong()
}

func (l *Layer) takeWrong() []string {
	wrong := l.wrong
	l.wrong = nil
	return wrong
}

// checkWay follows the way from a to b, which are d hops apart.
func (l *Layer) checkWay(a, b *member, d int32) {
	hops := int32(0)
	for at := a; at != b; hops++ {
		next := at.table[b.addr]
		if d == linkstate.Far && len(next) > 0 {
			l.fail("member %d has a way to %d, which can't be reached", at.n, b.n)
			return
		}
		if len(next) == 0 {
			if d != linkstate.Far {
				l.fail("member %d has no way to %d, %d hops away", at.n, b.n, d)
			}
			return
		}
		if hops > d {
			l.fail("the way from %d to %d, %d hops away, has no end, or is longer", a.n, b.n, d)
			return
		}
		at = l.byAddr[next[0]]
		if at == nil {
			l.fail("the way from %d to %d leads to one that is no more", a.n, b.n)
			return
		}
	}
	if hops != d {
		l.fail("the way from %d to %d has %d hops, want %d", a.n, b.n, hops, d)
	}
}

// checkHops checks that the policy allows each first hop of a's ways: it is on a
// shortest way, or it is an alternate whose own way does not lead back to a.
func (l *Layer) checkHops(a *member, truth *linkstate.Graph, far []int32) {
	distances := make(map[uint64][]int32)
	for dst, hops := range a.table {
		at := truth.Index(dst)
		if at < 0 || far[at] == linkstate.Far {
			continue // checkWay tells
		}
		for i, hop := range hops {
			if distances[hop] == nil {
				distances[hop] = truth.Distances(truth.Index(hop))
			}
			d := distances[hop][at]
			switch {
			case i == 0 || l.cfg.Policy == pff.ECMP:
				if d != far[at]-1 {
					l.fail("a hop of member %d to one %d hops away is %d hops from it", a.n, far[at], d)
				}
			case d >= distances[hop][truth.Index(a.addr)]+far[at]:
				l.fail("an alternate of member %d leads back", a.n)
			}
		}
	}
}

// checkNames lets some members look for each name.
func (l *Layer) checkNames(truth *linkstate.Graph) {
	type look struct {
		from *member
		name string
		done bool
		got  uint64
	}
	var all []*look
	for _, name := range append(sortedNames(l.names), sortedNames(l.gone)...) {
		for range 5 {
			x := &look{from: l.any(), name: name}
			all = append(all, x)
			x.from.dir.Find(hash.SHA3_256.Sum(name), func(addr uint64) {
				if x.done {
					l.fail("a look-up is answered twice")
				}
				x.done, x.got = true, addr
			})
		}
	}
	circled := l.Circled
	l.Run(6 * time.Second)
	if n := l.Circled - circled; n > 0 {
		l.fail("%d packets go in a circle", n)
	}
	for _, x := range all {
		owner := l.names[x.name]
		var want uint64
		if owner != nil && owner != x.from {
			far := truth.Distances(truth.Index(x.from.addr))
			if i := truth.Index(owner.addr); i >= 0 && far[i] < linkstate.Far {
				want = owner.addr
			}
		}
		switch {
		case !x.done:
			l.fail("the look-up of %s by member %d has no answer", x.name, x.from.n)
		case owner == nil && !l.gone[x.name]:
		case x.got != want:
			l.fail("member %d finds %s at %x, want %x", x.from.n, x.name, x.got, want)
		}
	}
}
