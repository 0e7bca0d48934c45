package irmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"o7s/applets/internal/config"
	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/irm"
	"o7s/core/logs"
	"o7s/core/settings"
)

// maxConfig bounds a config file, in bytes.
const maxConfig = 16 << 20

// readConfig reads a config file and checks that an IRM accepts what the file
// says.
func readConfig(ctx context.Context, file string, types []ipcp.Type) ([]config.Item, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	if len(text) > maxConfig {
		return nil, fmt.Errorf("%s is longer than %d bytes", file, maxConfig)
	}
	items, err := config.Parse(file, string(text), types)
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if it.Name == nil {
			continue
		}
		for i := range it.Name.Programs {
			p := &it.Name.Programs[i]
			path, err := exec.LookPath(p.Path)
			if err == nil {
				path, err = filepath.Abs(path)
			}
			if err != nil {
				return nil, fmt.Errorf("%s:%d: program %s of name %q: %w", file, it.Line(), p.Path, it.Name.Name, err)
			}
			p.Path = path
		}
	}
	for _, it := range items {
		if it.Name == nil {
			continue
		}
		if err := tryFiles(it.Name.Name, it.Name.Protection); err != nil {
			return nil, fmt.Errorf("%s:%d: name %q: %w", file, it.Line(), it.Name.Name, err)
		}
	}
	return items, tryConfig(ctx, types, file, items)
}

// tryFiles reads the files that p names.
func tryFiles(name string, p settings.Protection) error {
	s := newSecurity("")
	_, err := s.Server(name, p.Server)
	if err == nil {
		_, err = s.Client(name, p.Client)
	}
	return err
}

// tryConfig loads items into an IRM that starts nothing. What that IRM refuses, the
// real one would refuse too.
func tryConfig(ctx context.Context, types []ipcp.Type, file string, items []config.Item) error {
	m := irm.New(irm.Config{Log: logs.Discard(), Types: types, Spawner: noProcesses{}, Starter: noProcesses{}, UID: os.Geteuid(), AdminGID: -1})
	return load(ctx, m, file, items)
}

// noProcesses is a Spawner and a Starter for an IRM that nobody uses.
type noProcesses struct{}

// Spawn implements irm.Spawner.
func (noProcesses) Spawn(_ context.Context, i irm.IPCP, _ func(irm.Child, error)) (irm.Child, error) {
	return noIPCP{typ: i.Type()}, nil
}

// Start implements irm.Starter. It is never called: an IRM starts a program when
// a process asks for a flow.
func (noProcesses) Start(irm.Program, func(), func(error)) (irm.Instance, error) {
	return nil, core.ErrNotSupported
}

// noIPCP is an IPCP that agrees to everything. Its flow calls are never called.
type noIPCP struct {
	ipcp.Control
	typ ipcp.Type
}

func (noIPCP) PID() int { return 1 }
func (noIPCP) Stop()    {}
func (noIPCP) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	return cfg, nil
}
func (c noIPCP) Enroll(_ context.Context, e ipcp.Enrollment) (ipcp.Config, error) {
	return c.typ.Config(ipcp.Draft{Layer: e.Dst})
}
func (noIPCP) Register(context.Context, core.Hash) error      { return nil }
func (noIPCP) Connect(context.Context, ipcp.Connection) error { return nil }

// load does what a config file says, as irmd's own user. The names come first, then
// the IPCPs, both in the order of the file: the order of tables has no meaning in
// TOML, and an IPCP may register a name whose table follows. The first error ends
// it.
func load(ctx context.Context, m *irm.Manager, file string, items []config.Item) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	me := irm.Caller{PID: os.Getpid(), UID: os.Geteuid(), Groups: append([]int{os.Getegid()}, groups...)}
	for _, it := range items {
		if it.Name == nil {
			continue
		}
		if err := loadName(m, me, it.Name); err != nil {
			return fmt.Errorf("%s:%d: %w", file, it.Line(), err)
		}
	}
	for _, it := range items {
		if it.IPCP == nil {
			continue
		}
		if err := loadIPCP(ctx, m, me, it.IPCP); err != nil {
			return fmt.Errorf("%s:%d: %w", file, it.Line(), err)
		}
	}
	return nil
}

func loadName(m *irm.Manager, me irm.Caller, n *config.Name) error {
	if err := m.CreateName(me, n.Name, n.Policy); err != nil {
		return fmt.Errorf("create name %q: %w", n.Name, err)
	}
	if err := m.ProtectName(me, n.Name, n.Protection); err != nil {
		return fmt.Errorf("protect name %q: %w", n.Name, err)
	}
	for _, p := range n.Programs {
		err := m.BindProgram(me, irm.Program{Name: n.Name, Path: canonical(p.Path), Auto: p.Auto, Args: p.Args})
		if err != nil {
			return fmt.Errorf("bind program %s to name %q: %w", p.Path, n.Name, err)
		}
	}
	return nil
}

func loadIPCP(ctx context.Context, m *irm.Manager, me irm.Caller, i *config.IPCP) error {
	if (i.Protection != settings.Protection{}) { // which holds from its first flow on
		if _, err := m.CreateIPCP(ctx, me, i.Name, i.Type.Name); err != nil {
			return fmt.Errorf("create IPCP %q: %w", i.Name, err)
		}
		if err := m.ProtectIPCP(me, i.Name, i.Protection); err != nil {
			return fmt.Errorf("protect IPCP %q: %w", i.Name, err)
		}
	}
	switch {
	case i.Draft.Layer != "":
		if _, err := m.BootstrapIPCP(ctx, me, i.Name, i.Type.Name, i.Draft); err != nil {
			return fmt.Errorf("bootstrap IPCP %q in layer %q: %w", i.Name, i.Draft.Layer, err)
		}
	case i.Enrol != "":
		if _, err := m.EnrollIPCP(ctx, me, i.Name, i.Type.Name, ipcp.Enrollment{Dst: i.Enrol}); err != nil {
			return fmt.Errorf("enroll IPCP %q with %q: %w", i.Name, i.Enrol, err)
		}
	case i.Protection == settings.Protection{}: // else it is created
		if _, err := m.CreateIPCP(ctx, me, i.Name, i.Type.Name); err != nil {
			return fmt.Errorf("create IPCP %q: %w", i.Name, err)
		}
	}
	if i.Autobind {
		if err := m.Autobind(me, i.Name); err != nil {
			return fmt.Errorf("autobind of IPCP %q: %w", i.Name, err)
		}
	}
	for _, n := range i.Bind {
		if err := m.BindProgram(me, irm.Program{IPCP: i.Name, Name: n}); err != nil {
			return fmt.Errorf("bind IPCP %q to name %q: %w", i.Name, n, err)
		}
	}
	for _, x := range i.Connect {
		if err := m.ConnectIPCP(ctx, me, i.Name, x); err != nil {
			return fmt.Errorf("connect IPCP %q to %q: %w", i.Name, x.Dst, err)
		}
	}
	for _, n := range i.Register {
		if err := m.RegisterName(ctx, me, n, nil, []string{i.Name}); err != nil {
			return fmt.Errorf("register name %q with IPCP %q: %w", n, i.Name, err)
		}
	}
	return nil
}
