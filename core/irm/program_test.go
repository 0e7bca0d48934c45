package irm

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
)

// fakeStarter starts programs that live in the test.
type fakeStarter struct {
	n       *node
	started []*fakeInstance
	fail    error
	silent  bool // the program's file does not answer
}

type fakeInstance struct {
	n       *node
	pid     int
	program Program
	died    func(error)
	stopped bool
	dead    bool
}

func (s *fakeStarter) Start(p Program, runs func(), died func(error)) (Instance, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	i := &fakeInstance{n: s.n, pid: s.n.nextPID(), program: p, died: died}
	s.started = append(s.started, i)
	if !s.silent {
		go runs() // once Start has returned
	}
	return i, nil
}

func (i *fakeInstance) PID() int    { return i.pid }
func (i *fakeInstance) Alive() bool { return !i.dead }
func (i *fakeInstance) Stop()       { i.stopped = true }

func (s *fakeStarter) paths() []string {
	var all []string
	for _, i := range s.started {
		all = append(all, i.program.Path)
	}
	return all
}

// withPrograms is a node with a layer, the registered name "s" and programs
// bound to it with auto.
func withPrograms(t *testing.T, paths ...string) (*node, *fakeStarter) {
	n := newNode(t)
	s := &fakeStarter{n: n}
	n.m.cfg.Starter = s
	n.layer()
	n.register("s")
	for _, path := range paths {
		if err := n.m.BindProgram(Caller{PID: 3, UID: 1000, Groups: []int{7}}, Program{Name: "s", Path: path, Auto: true}); err != nil {
			t.Fatal(err)
		}
	}
	return n, s
}

// ask asks for a flow to "s" and returns where its outcome will be.
func ask(n *node) *error {
	outcome := new(error)
	*outcome = errors.New("none yet")
	c := n.process(1000, "client")
	n.m.FlowAlloc(c.me, "s", core.QoSRaw, 0, func(_ HandedFlow, err error) { *outcome = err })
	return outcome
}

func TestOneThatDiesAtOnceHasAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, s := withPrograms(t, "/a")
		for i, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			ask(n)
			if len(s.started) != i+1 {
				t.Fatalf("%d are started, want %d", len(s.started), i+1)
			}
			s.started[i].died(errors.New("exit status 1"))
			time.Sleep(pause*time.Second - time.Millisecond)
			if err := *ask(n); err == nil || !strings.Contains(err.Error(), "ended before it listened") {
				t.Fatalf("in its pause of %d s: error %v", pause, err)
			}
			if len(s.started) != i+1 {
				t.Fatalf("started in its pause of %d s", pause)
			}
			time.Sleep(time.Millisecond)
		}
		n.m.Stop()
	})
}

func TestAllProgramsTakeTurns(t *testing.T) {
	n, s := withPrograms(t, "/a", "/b", "/c")
	for range 2 {
		ask(n) // waits for the one that was started for the first
	}
	if got := s.paths(); !slices.Equal(got, []string{"/a"}) {
		t.Fatalf("started %q for two flows at once", got)
	}
	s.started[0].died(errors.New("killed"))
	s.started[1].died(errors.New("killed"))
	if got := s.paths(); !slices.Equal(got, []string{"/a", "/b", "/c"}) {
		t.Errorf("started %q", got)
	}
	n.m.Stop()
	if !s.started[2].stopped {
		t.Error("an instance outlives the IRM")
	}
}

// A program in its pause keeps no other one of the name from being started.
func TestOneOfTwoProgramsHasAPause(t *testing.T) {
	n, s := withPrograms(t, "/a", "/b")
	ask(n)
	s.started[0].died(errors.New("exit status 1")) // then "/b" is started
	p := &proc{n: n}
	p.is(n.m.Announce(Caller{PID: s.started[1].pid, UID: 1000}, "b", "/b", p))
	p.listen("", 8)
	n.m.Gone(p.me)
	s.started[1].dead = true
	s.started[1].died(errors.New("killed"))
	ask(n)
	if got := s.paths(); !slices.Equal(got, []string{"/a", "/b", "/b"}) {
		t.Errorf("started %q", got)
	}
}

func TestInstanceServes(t *testing.T) {
	n, s := withPrograms(t, "/a")
	got := ask(n)
	p := &proc{n: n}
	p.is(n.m.Announce(Caller{PID: s.started[0].pid, UID: 1000}, "a", "/elsewhere", p))
	if !p.Auto || !p.Bound("s") {
		t.Fatalf("auto %v, bound %v", p.Auto, p.Bound("s"))
	}
	p.listen("", 8)
	if *got != nil || len(p.arrived) != 1 {
		t.Errorf("outcome %v, %d flows arrived", *got, len(p.arrived))
	}
	// One of another uid is none.
	q := n.m.Announce(Caller{PID: 9999, UID: 1001}, "a", "/a", p)
	if q.record.Bound("s") {
		t.Error("a process of another uid is bound")
	}
	n.m.Gone(q)
}

// A process that runs under another path than the program that it was started
// as, as a script's does, is bound for as long as just that program is.
func TestInstanceOutlastsOtherPrograms(t *testing.T) {
	n, s := withPrograms(t, "/script", "/other")
	ask(n)
	p := &proc{n: n}
	p.is(n.m.Announce(Caller{PID: s.started[0].pid, UID: 1000}, "a", "/elsewhere", p))
	c := Caller{UID: 1000}
	if err := n.m.UnbindProgram(c, "/other", "", "s"); err != nil || !p.Bound("s") {
		t.Errorf("without another program: bound %v, error %v", p.Bound("s"), err)
	}
	if err := n.m.UnbindProgram(c, "/script", "", "s"); err != nil || p.Bound("s") {
		t.Errorf("without its own program: bound %v, error %v", p.Bound("s"), err)
	}
}

// While an instance starts its program is unbound: nothing serves the name any
// more, and who asks is told.
func TestUnboundWhileItStarts(t *testing.T) {
	n, s := withPrograms(t, "/a")
	first := ask(n)
	if len(s.started) != 1 {
		t.Fatalf("%d are started", len(s.started))
	}
	if err := n.m.UnbindProgram(Caller{UID: 1000}, "/a", "", "s"); err != nil {
		t.Fatal(err)
	}
	if err := *first; !errors.Is(err, core.ErrNotAllocated) {
		t.Errorf("who waited for it: error %v", err)
	}
	if err := *ask(n); !errors.Is(err, core.ErrNotAllocated) {
		t.Errorf("who asks after that: error %v", err)
	}
}

func TestProgramsHoldTheName(t *testing.T) {
	n, _ := withPrograms(t, "/a")
	p := n.process(2000, "x")
	c := Caller{PID: p.PID, UID: 2000}
	if err := n.m.BindProcess(c, p.PID, "s"); !errors.Is(err, core.ErrPermission) {
		t.Errorf("bind process: error %v", err)
	}
	if err := n.m.BindProgram(c, Program{Name: "s", Path: "/b"}); !errors.Is(err, core.ErrPermission) {
		t.Errorf("bind program: error %v", err)
	}
	if err := n.m.UnbindProgram(c, "/a", "", "s"); !errors.Is(err, core.ErrPermission) {
		t.Errorf("unbind program: error %v", err)
	}
	if err := n.m.UnbindProgram(Caller{UID: 1000}, "/a", "", "s"); err != nil {
		t.Error(err)
	}
	// Root's, too.
	if err := n.m.BindProgram(Caller{UID: 0}, Program{Name: "s", Path: "/r"}); err != nil {
		t.Error(err)
	}
	if err := n.m.UnbindProgram(c, "/r", "", "s"); !errors.Is(err, core.ErrPermission) {
		t.Errorf("unbind root's program: error %v", err)
	}
	if err := n.m.UnbindProgram(Caller{UID: 0}, "/r", "", "s"); err != nil {
		t.Error(err)
	}
	if err := n.m.BindProcess(c, p.PID, "s"); err != nil {
		t.Errorf("the name is free, but: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	n, s := withPrograms(t, "/a")
	s.fail = errors.New("no such file")
	if err := *ask(n); !errors.Is(err, core.ErrNotAllocated) {
		t.Errorf("error %v", err)
	}
	if !slices.ContainsFunc(n.lines(), func(l string) bool {
		return strings.Contains(l, "Failed to start program /a for s: no such file")
	}) {
		t.Error("no line in the log")
	}
}

// While the file of a program does not answer, nothing waits but the flows to its
// name: those hear why, and the log says it.
func TestProgramThatDoesNotRun(t *testing.T) {
	n, s := withPrograms(t, "/a")
	s.silent = true
	first := ask(n)
	if len(s.started) != 1 || *first == nil {
		t.Fatalf("%d are started, outcome %v", len(s.started), *first)
	}
	n.lines()
	s.started[0].died(errors.New("the file does not answer"))
	if err := *first; !errors.Is(err, core.ErrNotAllocated) {
		t.Errorf("who waited for it: error %v", err)
	}
	lines := n.lines()
	for _, l := range lines {
		if strings.Contains(l, "Started program") || strings.Contains(l, "ended") {
			t.Errorf("logged: %s", l)
		}
	}
	if !slices.ContainsFunc(lines, func(l string) bool {
		return strings.Contains(l, "Failed to start program /a for s: the file does not answer: not tried again for 1s.")
	}) {
		t.Errorf("the log does not say why: %q", lines)
	}
}

// A number of a process that has ended may be another's: that one is not taken for
// the instance, and the end of the first one takes nothing from the second.
func TestNumberOfAnInstanceThatEnded(t *testing.T) {
	n, s := withPrograms(t, "/a", "/b")
	ask(n)
	old := s.started[0]
	old.dead = true // it has ended, and the word of that is on its way
	p := &proc{n: n}
	p.is(n.m.Announce(Caller{PID: old.pid, UID: 1000}, "x", "/x", p))
	if p.Auto || p.Bound("s") {
		t.Error("a process is taken for an instance that has ended")
	}
	n.m.Gone(p.me)
	n.pid = old.pid - 1 // the next instance gets the same number
	if err := n.m.UnbindProgram(Caller{UID: 1000}, old.program.Path, "", "s"); err != nil {
		t.Fatal(err)
	}
	ask(n)
	if len(s.started) != 2 || s.started[1].pid != old.pid {
		t.Fatalf("%d are started", len(s.started))
	}
	old.died(errors.New("killed"))
	q := &proc{n: n}
	q.is(n.m.Announce(Caller{PID: old.pid, UID: 1000}, "x", "/x", q))
	if !q.Auto || !q.Bound("s") {
		t.Error("the second instance is not known any more")
	}
	n.m.Gone(q.me)
}
