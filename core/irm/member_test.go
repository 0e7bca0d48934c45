package irm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/view"
)

// uni is the Ops of a layer type whose members enroll and connect.
type uni struct {
	ipcp.Ops
	asked []string
	fails error
	layer string // that it enrolls in
}

func (u *uni) ask(format string, args ...any) error {
	u.asked = append(u.asked, fmt.Sprintf(format, args...))
	return u.fails
}

func (u *uni) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	return cfg, u.ask("bootstrap %v", cfg)
}

func (u *uni) Enroll(_ context.Context, e ipcp.Enrollment) (ipcp.Config, error) {
	return ipcp.Config{Layer: u.layer, Hash: hash.SHA3_512, Settings: ipcp.Settings{{Name: "ttl", Value: "9"}}}, u.ask("enroll %s", e.Dst)
}

func (u *uni) Connect(_ context.Context, c ipcp.Connection) error {
	return u.ask("connect %s %s %s", c.Component, c.Dst, core.QoSName(c.QoS))
}

func (u *uni) Disconnect(_ context.Context, c ipcp.Connection) error {
	return u.ask("disconnect %s %s", c.Component, c.Dst)
}

func (u *uni) Show() []view.Fact { return []view.Fact{{Name: "neighbour", Value: "m"}} }

func (u *uni) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// TestMembers plays what an administrator asks of members, with what the layer
// type is asked, what the log says and what is kept.
func TestMembers(t *testing.T) {
	n := newNode(t)
	u := &uni{}
	n.m.cfg.Types = append(n.m.cfg.Types, ipcp.Type{
		Name: "uni", Does: ipcp.Enrolls | ipcp.Connects, New: func(ipcp.Env) ipcp.Ops { return u },
		Options: []ipcp.Option{{Name: "ttl", Value: "TTL", Help: "h", Kind: ipcp.Number, Min: 1, Max: 255, Default: "60"}},
	})
	n.layer()
	n.lines()
	ctx := context.Background()
	user := Caller{PID: 9, UID: 2000}
	no := errors.New("no")
	enroll := func(c Caller, name, typ string, e ipcp.Enrollment) func() error {
		return func() error {
			_, err := n.m.EnrollIPCP(ctx, c, name, typ, e)
			return err
		}
	}
	boot := func(name string, given ...ipcp.Setting) func() error {
		return func() error {
			_, err := n.m.BootstrapIPCP(ctx, admin, name, "uni", ipcp.Draft{Layer: "net", Settings: given})
			return err
		}
	}
	connect := func(c Caller, name, component string) func() error {
		return func() error {
			return n.m.ConnectIPCP(ctx, c, name, ipcp.Connection{Dst: "m", Component: component, QoS: core.QoSVoice})
		}
	}
	disconnect := func(c Caller, name, component string) func() error {
		return func() error {
			return n.m.DisconnectIPCP(ctx, c, name, ipcp.Connection{Dst: "m", Component: component})
		}
	}
	dst := ipcp.Enrollment{Dst: "m"}
	steps := []struct {
		what  string
		do    func() error
		fails error
		layer string // that it enrolls in
		want  error
		asked string
		line  string // the last one of irmd
		ipcps string
	}{
		{"a user enrolls", enroll(user, "u", "", dst), nil, "net", core.ErrPermission, "", "", ""},
		{"with nobody", enroll(admin, "u", "", ipcp.Enrollment{Layer: "net"}), nil, "net", core.ErrUsage, "", "", ""},
		{"a local layer", enroll(admin, "u", "local", dst), nil, "net", core.ErrNotSupported, "", "", ""},
		{"a member of a local layer", enroll(admin, "local-ipcp", "", dst), nil, "net", core.ErrState, "", "", ""},
		{"refused, and gone again", enroll(admin, "u", "", dst), no, "net", no, "enroll m", "", ""},
		{"in a layer that is none", enroll(admin, "u", "", dst), nil, "", core.ErrUsage, "enroll m", "", ""},
		{"enrolled", enroll(admin, "u", "", dst), nil, "net", nil, "enroll m", "(II): Enrolled IPCP", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"enrolled twice", enroll(admin, "u", "", dst), nil, "net", core.ErrState, "", "", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"connected", connect(admin, "u", ""), nil, "", nil, "connect mgmt m raw|connect dt m voice", "(II): Established Data Transfer connection between IPCP", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"connected for packets", connect(admin, "u", "dt"), nil, "", nil, "connect dt m voice", "(II): Established Data Transfer connection", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"connection refused", connect(admin, "u", ""), no, "", no, "connect mgmt m raw", "", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"a component that is none", connect(admin, "u", "x"), nil, "", core.ErrUsage, "", "", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"a user connects", connect(user, "u", ""), nil, "", core.ErrPermission, "", "", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"nobody connects", connect(admin, "x", ""), nil, "", core.ErrNotFound, "", "", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"a local layer connects", connect(admin, "local-ipcp", ""), nil, "", core.ErrNotSupported, "", "", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"disconnected", disconnect(admin, "u", ""), nil, "", nil, "disconnect dt m|disconnect mgmt m", "(II): Management connection between IPCP", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"a user disconnects", disconnect(user, "u", ""), nil, "", core.ErrPermission, "", "", "u net SHA3_512 enroll m [{ttl 9 true}]"},
		{"destroyed", func() error { return n.m.DestroyIPCP(admin, "u") }, nil, "", nil, "", "(II): Destroyed IPCP", ""},
		{"bootstrapped wrongly", boot("u", ipcp.Setting{Name: "ttl", Value: "0"}), nil, "", core.ErrUsage, "", "", ""},
		{"bootstrapped", boot("u", ipcp.Setting{Name: "ttl", Value: "07"}), nil, "", nil, "bootstrap {net SHA3_256 [{ttl 7}]}", "(II): Bootstrapped IPCP", "u net SHA3_256 bootstrap [{ttl 7 true}]"},
	}
	for _, step := range steps {
		u.asked, u.fails, u.layer = nil, step.fails, step.layer
		err := step.do()
		line := ""
		for _, l := range n.lines() {
			if strings.Contains(l, " irmd(") || strings.HasPrefix(l, "irmd(") {
				line = l
			}
		}
		shown := ""
		for _, i := range n.m.IPCPs() {
			if i.Name != "local-ipcp" {
				shown = fmt.Sprint(i.Name, " ", i.Layer, " ", i.Hash, " ", i.Via, " ", i.Options)
			}
		}
		if !errors.Is(err, step.want) || strings.Join(u.asked, "|") != step.asked || shown != step.ipcps || step.line != "" && !strings.Contains(line, step.line) {
			t.Errorf("%s: error %v, want %v; asked %q, want %q; IPCP %q, want %q; line %q, want %q", step.what, err, step.want, u.asked, step.asked, shown, step.ipcps, line, step.line)
		}
	}
	if err := n.m.Autobind(user, "u"); !errors.Is(err, core.ErrPermission) {
		t.Errorf("autobind by a user: %v", err)
	}
	if err := n.m.Autobind(admin, "local-ipcp"); !errors.Is(err, core.ErrNotSupported) {
		t.Errorf("autobind of a local IPCP: %v", err)
	}
	if err := n.m.Autobind(admin, "nobody"); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("autobind of nobody: %v", err)
	}
	if err := n.m.Autobind(admin, "u"); err != nil {
		t.Errorf("autobind: %v", err)
	}
	if err := connect(admin, "u", "")(); err != nil {
		t.Error(err)
	}
	for _, i := range n.m.IPCPs() {
		if want := []view.Connection{{Component: "mgmt", Dst: "m", QoS: "raw"}, {Component: "dt", Dst: "m", QoS: "voice"}}; i.Name == "u" && (!i.Autobind || !slices.Equal(i.Connections, want)) {
			t.Errorf("the IPCP is shown as %+v", i)
		}
	}
	for _, name := range []string{"u", "net"} {
		if all := n.m.reg.Binding(name).Programs(); len(all) != 1 || all[0].IPCP != "u" {
			t.Errorf("bound to %s: %v", name, all)
		}
	}
	facts, err := n.m.IPCPFacts(ctx, "u")
	if err != nil || len(facts) != 1 {
		t.Errorf("facts %v, error %v", facts, err)
	}
	if facts, err := n.m.IPCPFacts(ctx, "local-ipcp"); len(facts) != 0 || err != nil {
		t.Errorf("facts %v of a type that tells none, error %v", facts, err)
	}
	if _, err := n.m.IPCPFacts(ctx, "nobody"); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("facts of nobody: %v", err)
	}
}

// TestFirstMembers: a layer has one first member on a system, but for the types whose
// members find each other without enrollment.
func TestFirstMembers(t *testing.T) {
	n := newNode(t)
	ops := func(ipcp.Env) ipcp.Ops { return &uni{} }
	n.m.cfg.Types = append(n.m.cfg.Types,
		ipcp.Type{Name: "uni", Far: true, Does: ipcp.Enrolls | ipcp.Connects, New: ops},
		ipcp.Type{Name: "net", Far: true, Does: ipcp.Enrolls | ipcp.Connects, New: ops},
	)
	n.layer() // local-ipcp in local-layer
	for _, tt := range []struct {
		name, typ, layer string
		err              string // "": it may
	}{
		{"a", "local", "local-layer", `exists already: layer "local-layer", whose first member here is IPCP "local-ipcp": give another name for the layer`},
		{"a", "uni", "local-layer", `exists already: layer "local-layer", whose first member here is IPCP "local-ipcp"`},
		{"u", "uni", "u-layer", ""},
		{"v", "uni", "u-layer", `exists already: layer "u-layer", whose first member here is IPCP "u": give another name for the layer, or enroll the IPCP in that one`},
		{"v", "uni", "v-layer", ""},
	} {
		_, err := n.m.BootstrapIPCP(t.Context(), admin, tt.name, tt.typ, ipcp.Draft{Layer: tt.layer})
		if tt.err == "" && err != nil || tt.err != "" && (!errors.Is(err, core.ErrExists) || !strings.HasPrefix(err.Error(), tt.err)) {
			t.Errorf("%s in %s: %v, want %q", tt.name, tt.layer, err, tt.err)
		}
	}
	// Two devices on one network: the type needs no enrollment.
	n.m.cfg.Types[2].Does = 0
	plain := n.m.cfg.Types[2]
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	for name, i := range n.m.reg.IPCPs() {
		if name == "u" {
			i.Type = plain
		}
	}
	if err := n.m.mayFoundLocked("u-layer", plain); err != nil {
		t.Errorf("a second device on one network: %v", err)
	}
	n.m.founding["new"] = true
	if err := n.m.mayFoundLocked("new", plain); !errors.Is(err, core.ErrExists) {
		t.Errorf("a layer that another call bootstraps: %v", err)
	}
}
