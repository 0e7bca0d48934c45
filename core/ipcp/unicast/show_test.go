package unicast

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"o7s/core/ipcp"
)

// A member tells its address, its neighbours, the ways to the others with their
// alternates, the state of its directory, and what it dropped and why. Before it is of
// use it tells what it waits for.
func TestShow(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		if got := a.facts(t, "waits for"); len(got) != 1 || got[0] != `a connection to another member: "irm ipcp connect"` {
			t.Errorf("alone, it waits for %q", got)
		}
		l.add(1, 0)
		l.add(2, 1)
		l.add(3, 2, 0)
		must(t, l.nodes[2].Register(context.Background(), srv))
		l.finds(a, 2*time.Second)
		time.Sleep(time.Second)
		a.ops.count.ttl.Add(3)
		a.ops.count.noWay.Add(4)

		facts, err := a.Show(context.Background())
		must(t, err)
		var got strings.Builder
		for _, f := range facts {
			if f.Name == "messages of this member not sent" {
				continue // before it knew the ways
			}
			value := f.Value
			for i, n := range l.nodes {
				value = strings.ReplaceAll(value, fmt.Sprintf("(%d)", n.ops.own), "(number)")
				value = strings.ReplaceAll(value, addrText(n.ops.own), memberName(i))
			}
			// Routes and neighbours are in the order of their addresses, which are
			// random.
			// So is the first of two ways of one length, and what is forwarded.
			value = strings.ReplaceAll(value, "by uni-3, else uni-1", "by uni-1, else uni-3")
			if f.Name == "packets forwarded" {
				value = "N"
			}
			fmt.Fprintf(&got, "%s: %s\n", f.Name, value)
		}
		for line := range strings.Lines(shown) {
			if !strings.Contains(got.String(), line) {
				t.Errorf("it tells\n%swithout %s", got.String(), line)
			}
		}
		if n, want := strings.Count(got.String(), "\n"), strings.Count(shown, "\n"); n != want {
			t.Errorf("it tells %d facts, want %d:\n%s", n, want, got.String())
		}
	}, ipcp.Setting{Name: "routing", Value: "lfa"})
}

const shown = `address: uni-0 (number)
neighbour: uni-1, mgmt, which connected here
neighbour: uni-1, dt, which connected here
neighbour: uni-3, mgmt, which connected here
neighbour: uni-3, dt, which connected here
route: uni-1 by uni-1
route: uni-2 by uni-1, else uni-3
route: uni-3 by uni-3
routes: 3
adjacencies known: 8
directory: 3 contacts, 1 names of others kept, 0 names here
packets forwarded: N
packets dropped: 7
dropped, no way to the member: 4
dropped, passed too many members: 3
flows across the wire: 0
packets sent: 0
packets received: 0
`
