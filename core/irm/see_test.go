package irm

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"o7s/core/registry"
	"o7s/core/view"
)

// metered is memory that is counted by a Meter that uses the Manager, as it may
// where the Manager's lock is free.
type metered struct {
	*node
	open int // meters
}

type meteredEnd struct {
	registry.End
	n *metered
}

func (n *metered) NewFlow(who registry.Owner, held int) (a, b registry.End, err error) {
	a, b, err = n.node.NewFlow(who, held)
	return meteredEnd{a, n}, meteredEnd{b, n}, err
}

func (e meteredEnd) Meter() registry.Meter { return e.n.Share() }

func (n *metered) Share() registry.Meter { n.open++; return n }
func (n *metered) Close() error          { n.open--; return nil }

func (n *metered) Count() (registry.Count, error) {
	n.m.System()
	return registry.Count{Sent: 7}, nil
}

// TestFlowsAreCountedWithoutTheLock: what counts a flow is a system call, and it
// belongs to the listing until that has counted.
func TestFlowsAreCountedWithoutTheLock(t *testing.T) {
	n := &metered{node: newNode(t)}
	n.m.cfg.Memory = n
	n.layer()
	n.register("s")
	server, client := n.process(1000, "server"), n.process(1000, "client")
	server.listen("s", 1)
	id := client.mustAlloc("s")
	open := n.open
	for _, f := range n.m.Flows() {
		if !f.Counted || f.Sent != 7 {
			t.Errorf("flow %d: counted %v, sent %d", f.ID, f.Counted, f.Sent)
		}
	}
	if n.open != open || open != 2 {
		t.Errorf("%d meters are open for 2 ends, %d before", n.open, open)
	}
	if err := client.dealloc(id); err != nil {
		t.Fatal(err)
	}
}

// TestListsAreSortedAndComplete lists what many names have in all their lists.
func TestListsAreSortedAndComplete(t *testing.T) {
	n := newNode(t)
	n.layer()
	server := n.process(1000, "server")
	const many = 500
	for i := range many {
		name := fmt.Sprint("n", i*7919%many)
		if err := n.m.RegisterName(context.Background(), admin, name, []string{"*"}, nil); err != nil {
			t.Fatal(err)
		}
		if err := n.m.BindProcess(admin, server.PID, name); err != nil {
			t.Fatal(err)
		}
		if err := n.m.BindProgram(admin, Program{Name: name, Path: "/bin/server"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.m.BindProcess(admin, server.PID, "bound only"); err != nil {
		t.Fatal(err)
	}
	names := n.m.Names()
	inOrder(t, names, many+1)
	for _, row := range names {
		want := view.Name{Name: row.Name, Exists: true, Policy: "spillover", HolderUID: 1000, Layers: 1, Processes: 1, Programs: 1}
		if row.Name == "bound only" {
			want = view.Name{Name: row.Name, HolderUID: 1000, Processes: 1}
		}
		if !reflect.DeepEqual(row, want) {
			t.Errorf("%+v, want %+v", row, want)
		}
	}
	inOrder(t, n.m.Registrations(), many)
	inOrder(t, n.m.Bindings(), many+1)
	inOrder(t, n.m.Programs(), many)
	inOrder(t, n.m.Processes(), 1)
	inOrder(t, n.m.IPCPs(), 1)
}

func inOrder[R view.Row](t *testing.T, rows []R, want int) {
	t.Helper()
	if len(rows) != want {
		t.Errorf("%d rows of %T, want %d", len(rows), rows, want)
	}
	if !slices.IsSortedFunc(rows, func(a, b R) int {
		if a.Key() < b.Key() {
			return -1
		}
		return 1
	}) {
		t.Errorf("rows of %T are in no order", rows)
	}
}

// Counts that a process of the flow has falsified are not shown as counts.
func TestFalseCountsAreNone(t *testing.T) {
	second := time.Now().Add(-time.Second)
	for _, tt := range []struct {
		c          registry.Count
		impossible bool
	}{
		{registry.Count{Sent: 5 << 30, Read: 3, Unread: 2, Waiting: 1}, false},
		{registry.Count{Sent: 13 << 60}, true},
		{registry.Count{Read: 13 << 60}, true},
		{registry.Count{Sent: 1, Impossible: true}, true},
	} {
		row := flowRow(registry.FlowCopy{Since: second, Meter: fixed(tt.c)})
		if row.Impossible != tt.impossible || row.Counted == tt.impossible || tt.impossible && row.Sent+row.Read+row.Unread+row.Waiting > 0 {
			t.Errorf("%+v: %+v", tt.c, row)
		}
	}
}

// fixed is a Meter that always says the same.
type fixed registry.Count

func (f fixed) Count() (registry.Count, error) { return registry.Count(f), nil }
func (f fixed) Share() registry.Meter          { return f }
func (f fixed) Close() error                   { return nil }
