package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/settings"
)

func TestShares(t *testing.T) {
	r := New()
	for k := range kinds {
		r.Bounds[k] = Bound{User: 4, All: 6}
	}
	seven, eight, root := Owner{UID: 7}, Owner{UID: 8}, Owner{UID: 0, Admin: true}
	for k := range kinds {
		if err := r.Take(seven, k, 4); err != nil {
			t.Fatalf("%v: %v", k, err)
		}
		if err := r.Take(seven, k, 1); !errors.Is(err, core.ErrLimit) || !strings.Contains(err.Error(), "uid 7 have 4 "+k.String()) {
			t.Errorf("%v, one too many of a user: %v", k, err)
		}
		if err := r.Take(eight, k, 2); err != nil {
			t.Errorf("%v, another user: %v", k, err)
		}
		if err := r.Take(eight, k, 1); !errors.Is(err, core.ErrLimit) || !strings.Contains(err.Error(), "all users but administrators have 6 "+k.String()) {
			t.Errorf("%v, one too many of all: %v", k, err)
		}
		if err := r.Take(root, k, 100); err != nil {
			t.Errorf("%v, an administrator: %v", k, err)
		}
		b := r.Shares()[k]
		if b.Used != 6 || b.Most != 4 || b.MostUID != 7 || b.User != 4 || b.All != 6 {
			t.Errorf("%v is shown as %+v", k, b)
		}
		r.Give(root, k, 100)
		r.Give(seven, k, 4)
		r.Give(eight, k, 2)
	}
	if len(r.shares.users) > 0 || r.shares.all != ([kinds]int{}) {
		t.Errorf("left: %v, %v", r.shares.users, r.shares.all)
	}
}

// What is counted is what is there, and what is refused changes nothing.
func TestWhatIsBounded(t *testing.T) {
	r, i, _ := fill(t)
	r.Bounds[Bindings] = Bound{User: 3, All: 3}
	r.Bounds[Listeners] = Bound{User: 1, All: 1}
	r.Bounds[ProgramBytes] = Bound{User: 100, All: 100}
	p := &Process{PID: 1, UID: 7, Path: "/p"}
	r.AddProcess(p)
	bind := func(name string) error { _, err := r.Bind(name, p, false); return err }
	program := func(name string, args ...string) error {
		_, err := r.BindProgram(Program{Name: name, Path: "/x", UID: 7, Args: args})
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, core.ErrLimit) {
			t.Errorf("error %v", err)
		}
	}
	must(bind("a"))
	must(bind("a")) // is bound already
	must(program("a"))
	refused(program("b", strings.Repeat("x", 100)))
	must(program("b"))
	refused(bind("c"))
	refused(program("c"))
	if r.Binding("c") != nil {
		t.Error("a binding that was refused leaves something")
	}
	// An instance that can't be bound is told of, and the program stays bound.
	r.UnbindProgram(r.Binding("b").Programs()[0])
	if bound, err := r.BindProgram(Program{Name: "d", Path: "/p", UID: 7}); !bound || !errors.Is(err, core.ErrLimit) || p.Bound("d") {
		t.Errorf("bound %v, error %v", bound, err)
	}
	r.UnbindProgram(r.Binding("d").Programs()[0])
	_, err := r.AddListener(p, 1, "")
	must(err)
	_, err = r.AddListener(p, 2, "")
	refused(err)
	f := r.NewFlow(p, i, "s", core.QoSRaw)
	must(r.MayAllocate(p.Owner()))
	r.Bounds[Flows] = Bound{User: 1, All: 9}
	refused(r.MayAllocate(p.Owner()))
	r.RemoveFlow(f)
	r.Give(p.Owner(), Allocations, 1)

	r.UnbindProgram(r.Binding("a").Programs()[0])
	r.Leave(p)
	r.RemoveProcess(p)
	if len(r.shares.users) > 0 || r.shares.all != ([kinds]int{}) {
		t.Errorf("left: %v, %v", r.shares.users, r.shares.all)
	}
}

func TestNamesAreBounded(t *testing.T) {
	r := New()
	for n := range MaxNames {
		if _, err := r.CreateName(fmt.Sprint(n), settings.RoundRobin); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.CreateName("more", settings.RoundRobin); !errors.Is(err, core.ErrLimit) {
		t.Errorf("one more: %v", err)
	}
	if _, err := r.CreateName("0", settings.RoundRobin); err != nil {
		t.Errorf("one that exists: %v", err)
	}
	r.DestroyName("0")
	if _, err := r.CreateName("more", settings.RoundRobin); err != nil {
		t.Errorf("where one has gone: %v", err)
	}
}
