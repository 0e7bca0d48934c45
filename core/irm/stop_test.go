package irm

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"o7s/core/ipcp"
)

// A layer ends before those below it, of which it uses flows; and where each uses
// the other both end.
func TestStopTopDown(t *testing.T) {
	for _, circle := range []bool{false, true} {
		t.Run(fmt.Sprintf("in a circle: %v", circle), func(t *testing.T) {
			n := newNode(t)
			var users []*proc
			for i := range 4 {
				layer := fmt.Sprintf("layer-%d", i)
				if _, err := n.m.BootstrapIPCP(context.Background(), admin, fmt.Sprintf("ipcp-%d", i), "local", ipcp.Draft{Layer: layer}); err != nil {
					t.Fatal(err)
				}
				if err := n.m.RegisterName(context.Background(), admin, fmt.Sprintf("name-%d", i), []string{layer}, nil); err != nil {
					t.Fatal(err)
				}
				p := &proc{n: n}
				p.is(n.m.Announce(Caller{PID: n.kids[i].pid}, "ipcpd", "/bin/ipcpd", p))
				p.listen(fmt.Sprintf("name-%d", i), 8)
				users = append(users, p)
			}
			// The IPCP 2 is at the top, 0 and 3 at the bottom.
			users[2].mustAlloc("name-1")
			users[1].mustAlloc("name-0")
			users[1].mustAlloc("name-3")
			if circle {
				users[0].mustAlloc("name-2")
			}
			n.m.Stop()
			at := func(i int) int { return slices.Index(n.ended, n.kids[i]) }
			if len(n.ended) != 4 {
				t.Fatalf("%d IPCPs were stopped, once each", len(n.ended))
			}
			if !circle && (at(2) != 0 || at(1) != 1) {
				t.Errorf("the one at the top is stopped as number %d, the one below it as number %d", at(2), at(1))
			}
			n.ended = nil
		})
	}
}
