package ipcp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/logs"
	"o7s/core/view"
)

// able is a stub that can do all that only some layer types can.
type able struct{ stub }

func (s *able) Enroll(_ context.Context, e Enrollment) (Config, error) {
	return Config{Layer: "net", Hash: hash.SHA3_256}, s.call("enroll with " + e.Dst)
}
func (s *able) Connect(_ context.Context, c Connection) error {
	return s.call("connect " + c.Component + " to " + c.Dst)
}
func (s *able) Disconnect(_ context.Context, c Connection) error {
	return s.call("disconnect " + c.Component + " from " + c.Dst)
}
func (s *able) FlowJoin(_ JoinRequest, done func(error)) { done(nil) }
func (s *able) Show() []view.Fact {
	var all []view.Fact
	for i := range maxFacts + 7 {
		all = append(all, view.Fact{Name: "n", Value: fmt.Sprint(i)})
	}
	return all
}

func newAble() (*able, *Process, *strings.Builder) {
	s, log := &able{}, &strings.Builder{}
	typ := Type{Name: "able", Does: Enrolls | Connects | Joins, New: func(Env) Ops { return s }}
	return s, NewProcess(typ, Env{Log: logs.New(logs.Options{Writer: log})}), log
}

// TestMember plays the life of a member that enrolls, with what each call
// says, what the layer type sees and the lines.
func TestMember(t *testing.T) {
	s, p, log := newAble()
	mgmt, dt := Connection{"m", Management, core.QoSRaw}, Connection{"m", DataTransfer, core.QoSVoice}
	no := errors.New("no")
	enroll := func(e Enrollment) func() error {
		return func() error {
			cfg, err := p.Enroll(ctx, e)
			if (err == nil) != (cfg.Layer == "net") {
				t.Errorf("enroll: %v, %v", cfg, err)
			}
			return err
		}
	}
	steps := []struct {
		do    func() error
		fails error // of the layer type
		want  error
		call  string
		lines string
	}{
		{func() error { return p.Connect(ctx, mgmt) }, nil, core.ErrState, "", "Connecting Management to m...|Finished connecting Management to m: -1004."},
		{enroll(Enrollment{Dst: ""}), nil, core.ErrUsage, "", "Enrolling with ...|Finished enrolling with : -1100."},
		{enroll(Enrollment{Dst: "m", Layer: "\x00"}), nil, core.ErrUsage, "", "Enrolling with m...|Finished enrolling with m: -1100."},
		{enroll(Enrollment{Dst: "m"}), no, no, "enroll with m", "Enrolling with m...|Finished enrolling with m: -1111."},
		{enroll(Enrollment{Dst: "m"}), nil, nil, "enroll with m", "Enrolling with m...|Finished enrolling with m in layer net."},
		{enroll(Enrollment{Dst: "m"}), nil, core.ErrState, "", "Enrolling with m...|Finished enrolling with m: -1004."},
		{func() error { return p.Connect(ctx, mgmt) }, nil, nil, "connect mgmt to m", "Connecting Management to m...|Finished connecting."},
		{func() error { return p.Connect(ctx, dt) }, no, no, "connect dt to m", "Connecting Data Transfer to m...|Finished connecting Data Transfer to m: -1111."},
		{func() error { return p.Connect(ctx, Connection{Dst: "m"}) }, nil, core.ErrUsage, "", `Connecting component "" to m...|Finished connecting component "" to m: -1100.`},
		{func() error { return p.Disconnect(ctx, dt) }, nil, nil, "disconnect dt from m", "Disconnecting Data Transfer from m...|Finished disconnecting Data Transfer from m."},
		{func() error { return p.Disconnect(ctx, mgmt) }, no, no, "disconnect mgmt from m", "Disconnecting Management from m...|Finished disconnecting Management from m: -1111."},
	}
	for n, step := range steps {
		log.Reset()
		s.calls, s.err = nil, step.fails
		err := step.do()
		var lines []string
		for line := range strings.Lines(log.String()) {
			_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "ipcpd/ipcp(II): ")
			lines = append(lines, text)
		}
		if !errors.Is(err, step.want) || strings.Join(s.calls, "|") != step.call || strings.Join(lines, "|") != step.lines {
			t.Errorf("step %d: error %v, want %v; calls %q, want %q; lines\n%s, want\n%s", n, err, step.want, s.calls, step.call, strings.Join(lines, "|"), step.lines)
		}
	}
	if p.State() != Operational {
		t.Errorf("state %v", p.State())
	}
}

// TestLackOfAbility: a type that can't says so, in every state.
func TestLackOfAbility(t *testing.T) {
	p, _ := newStub(&stub{})
	for range 2 {
		_, err := p.Enroll(ctx, Enrollment{Dst: "m"})
		for what, err := range map[string]error{
			"enroll": err, "connect": p.Connect(ctx, Connection{"m", DataTransfer, core.QoSRaw}), "disconnect": p.Disconnect(ctx, Connection{"m", DataTransfer, core.QoSRaw}),
		} {
			if !errors.Is(err, core.ErrNotSupported) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if facts, err := p.Show(ctx); facts != nil || err != nil {
			t.Errorf("show: %v, %v", facts, err)
		}
		p.Bootstrap(ctx, Config{Layer: "l"})
	}
}

func TestShowIsBounded(t *testing.T) {
	_, p, _ := newAble()
	facts, err := p.Show(ctx)
	if err != nil || len(facts) != maxFacts+1 || facts[maxFacts-1].Value != fmt.Sprint(maxFacts-1) || facts[maxFacts].Value != "7 facts that are not shown" {
		t.Errorf("%d facts, error %v", len(facts), err)
	}
}

func TestDelivers(t *testing.T) {
	tests := []struct {
		does Ability
		ops  Ops
		err  string
	}{
		{Provides, &stub{}, ""},
		{Enrolls | Connects | Joins, &able{}, ""},
		{Enrolls, &stub{}, "is no Enroller"},
		{Connects, &stub{}, "is no Connecter"},
		{Joins, &stub{}, "is no Joiner"},
		{Connects | Joins, &able{}, "the methods of Enroller"},
		{Enrolls | Joins, &able{}, "the methods of Connecter"},
		{Enrolls | Connects, &able{}, "the methods of Joiner"},
	}
	for _, tt := range tests {
		err := Type{Name: "t", Does: tt.does}.Delivers(tt.ops)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%b: error %v, want %q", tt.does, err, tt.err)
		}
	}
	need := Type{Does: Enrolls, Options: []Option{{Name: "x", Value: "X", Help: "h", Need: true}}}
	if err := need.Verify(); err == nil {
		t.Error("who enrolls is to give an option")
	}
}
