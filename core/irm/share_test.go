package irm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/registry"
)

// A user finds a bound wherever something stays in the tables; administrators and
// other users go on; and nothing is counted once it has gone.
func TestUsersAreBounded(t *testing.T) {
	n := newNode(t)
	starter := &fakeStarter{n: n}
	n.m.cfg.Starter = starter
	n.layer()
	const most = 5
	for k := range n.m.reg.Bounds {
		n.m.reg.Bounds[k] = registry.Bound{User: most, All: 2 * most}
	}
	n.m.reg.Bounds[registry.ProgramBytes] = registry.Bound{User: 1000, All: 2000}
	user, other, root := n.process(2000, "user"), n.process(2001, "other"), n.process(0, "root")
	caller := func(p *proc) Caller { return Caller{PID: p.PID, UID: p.UID, Groups: []int{7}} }
	for what, do := range map[string]func(p *proc, i int) error{
		"listen": func(p *proc, i int) error {
			return n.m.Listen(context.Background(), caller(p), p.me, uint32(i), fmt.Sprint("listen", p.UID, i), nil, 1)
		},
		"bind a process": func(p *proc, i int) error { return n.m.BindProcess(caller(p), p.PID, fmt.Sprint("bind", p.UID, i)) },
		"bind a program": func(p *proc, i int) error {
			return n.m.BindProgram(caller(p), Program{Name: fmt.Sprint("program", p.UID, i), Path: "/x"})
		},
		"bind long programs": func(p *proc, i int) error {
			return n.m.BindProgram(caller(p), Program{Name: fmt.Sprint("long", p.UID, i), Path: "/x", Args: []string{strings.Repeat("x", 300)}})
		},
	} {
		for _, p := range []*proc{user, other, root} {
			var err error
			did := 0
			for i := range 3 * most {
				if err = do(p, i); err != nil {
					break
				}
				did++
			}
			if p == root {
				if err != nil {
					t.Errorf("%s, root: %v", what, err)
				}
			} else if !errors.Is(err, core.ErrLimit) || !strings.Contains(err.Error(), fmt.Sprint("uid ", p.UID)) || did > most || did == 0 {
				t.Errorf("%s, uid %d: %d times, then %v", what, p.UID, did, err)
			}
		}
		for _, p := range []*proc{user, other, root} {
			for i := range 3 * most {
				_ = n.m.Unlisten(p.me, uint32(i))
			}
			_ = n.m.UnbindProcess(caller(p), p.PID, "")
			_ = n.m.UnbindProgram(caller(p), "/x", "", "")
		}
	}
	for _, p := range []*proc{user, other, root} {
		n.m.Gone(p.me)
	}
	n.nothingCounted()
}

// nothingCounted demands that no user has anything.
func (n *node) nothingCounted() {
	n.t.Helper()
	for _, b := range n.m.System().Bounds {
		if b.Used != 0 || b.MostUID != -1 {
			n.t.Errorf("counted still: %+v", b)
		}
	}
}

// Allocations and flows of a user are bounded, those of administrators are not.
func TestFlowsOfAUserAreBounded(t *testing.T) {
	n := newNode(t)
	n.layer()
	n.register("s")
	server := n.process(0, "server")
	server.listen("s", 1)
	const most = 3
	n.m.reg.Bounds[registry.Flows] = registry.Bound{User: most, All: 2 * most}
	dial := func(p *proc) (err error) {
		n.m.FlowAlloc(p.me, "s", core.QoSRaw, 0, func(_ HandedFlow, e error) { err = e })
		return err
	}
	user, root := n.process(2000, "user"), n.process(0, "root")
	for i := range most {
		if err := dial(user); err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
	}
	if err := dial(user); !errors.Is(err, core.ErrLimit) || !strings.Contains(err.Error(), "uid 2000 have 3 ends of flows") {
		t.Errorf("one more: %v", err)
	}
	for range 2 * most {
		if err := dial(root); err != nil {
			t.Fatalf("root: %v", err)
		}
	}
	n.m.FlowDealloc(user.me, user.Flows()[0].ID, func(error) {})
	if err := dial(user); err != nil {
		t.Errorf("where one has gone: %v", err)
	}

	// Nobody accepts: allocations wait.
	n.m.reg.Bounds[registry.Flows].User = 100
	n.m.reg.Bounds[registry.Allocations] = registry.Bound{User: most, All: 2 * most}
	n.m.Gone(server.me)
	_ = n.m.BindProcess(admin, root.PID, "s")
	for range most {
		if err := dial(user); err != nil {
			t.Fatal(err)
		}
	}
	if err := dial(user); !errors.Is(err, core.ErrLimit) {
		t.Errorf("one more allocation: %v", err)
	}
	n.m.Gone(user.me)
	n.m.Gone(root.me)
	n.empty()
	n.nothingCounted()
}

// A user's programs that irmd starts are bounded, over all programs.
func TestStartedProgramsAreBounded(t *testing.T) {
	n, s := withPrograms(t)
	n.m.cfg.UID = 0
	n.m.reg.Bounds[registry.Started] = registry.Bound{User: 2, All: 9}
	client := n.process(0, "client")
	for i := range 3 {
		name := fmt.Sprint("p", i)
		n.register(name)
		if err := n.m.BindProgram(Caller{UID: 2000, Groups: []int{7}}, Program{Name: name, Path: "/x", Auto: true}); err != nil {
			t.Fatal(err)
		}
		n.m.FlowAlloc(client.me, name, core.QoSRaw, 0, func(HandedFlow, error) {})
	}
	if len(s.started) != 2 {
		t.Errorf("%d are started, want 2", len(s.started))
	}
	n.m.Wait() // an instance that runs says so on another goroutine, which may write the log
	if log := strings.Join(n.lines(), "\n"); !strings.Contains(log, "Failed to start program /x for p2: limit reached: the processes and programs of uid 2000 have 2 processes that irmd has started") {
		t.Errorf("the log: %s", log)
	}
	for _, i := range s.started {
		i.died(errors.New("killed"))
	}
	for _, b := range n.m.System().Bounds {
		if b.What == "started" && b.Used != 0 {
			t.Errorf("%+v", b)
		}
	}
}
