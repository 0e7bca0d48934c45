package irmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"o7s/applets/internal/config"
	"o7s/core/ipcp"
	"o7s/core/irm"
	"o7s/core/registry"
)

// maxConfig bounds a config file, in bytes.
const maxConfig = 16 << 20

// readConfig reads a config file, of which all must be understood.
func readConfig(file string, types []ipcp.Type) ([]config.Item, error) {
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
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Name
	}
	items, err := config.Parse(file, string(text), names)
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
				return nil, fmt.Errorf("%s:%d: program %s of name %q: %w", file, it.Line, p.Path, it.Name.Name, err)
			}
			p.Path = path
		}
	}
	return items, nil
}

// load does what a config file says, in its order, as irmd's own user; the
// first error ends it.
func load(ctx context.Context, m *irm.Manager, file string, items []config.Item) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	me := irm.Caller{PID: os.Getpid(), UID: os.Geteuid(), Groups: append([]int{os.Getegid()}, groups...)}
	for _, it := range items {
		if it.Name != nil {
			err = loadName(m, me, it.Name)
		} else {
			err = loadIPCP(ctx, m, me, it.IPCP)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", file, it.Line, err)
		}
	}
	return nil
}

func loadName(m *irm.Manager, me irm.Caller, n *config.Name) error {
	if err := m.CreateName(me, n.Name, n.Policy); err != nil {
		return fmt.Errorf("create name %q: %w", n.Name, err)
	}
	for _, p := range n.Programs {
		err := m.BindProgram(me, &registry.Program{Name: n.Name, Path: canonical(p.Path), Auto: p.Auto, Args: p.Args})
		if err != nil {
			return fmt.Errorf("bind program %s to name %q: %w", p.Path, n.Name, err)
		}
	}
	return nil
}

func loadIPCP(ctx context.Context, m *irm.Manager, me irm.Caller, i *config.IPCP) error {
	if i.Layer == "" {
		_, err := m.CreateIPCP(ctx, me, i.Name, i.Type)
		return err
	}
	if _, err := m.BootstrapIPCP(ctx, me, i.Name, i.Type, i.Layer, i.Hash); err != nil {
		return fmt.Errorf("bootstrap IPCP %q in layer %q: %w", i.Name, i.Layer, err)
	}
	for _, n := range i.Register {
		if err := m.RegisterName(ctx, me, n, nil, []string{i.Name}); err != nil {
			return fmt.Errorf("register name %q with IPCP %q: %w", n, i.Name, err)
		}
	}
	return nil
}
