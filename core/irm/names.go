package irm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/registry"
)

// CreateName makes a name. The policy is round-robin where it is "".
func (m *Manager) CreateName(c Caller, name, policy string) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	if err := core.CheckName(name); err != nil {
		return err
	}
	p := registry.RoundRobin
	if policy != "" {
		var err error
		if p, err = registry.ParsePolicy(policy); err != nil {
			return err
		}
	}
	m.mu.Lock()
	created, err := m.reg.CreateName(name, p)
	m.mu.Unlock()
	if created {
		m.log.Infof("Created new name: %s.", name)
	}
	return err
}

// DestroyName unregisters a name everywhere and forgets it. What is bound to
// it stays bound, and waits for a name.
func (m *Manager) DestroyName(ctx context.Context, c Caller, name string) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	release, err := m.takeName(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	m.mu.Lock()
	known := m.reg.Name(name) != nil
	var with []*registry.IPCP
	for _, i := range m.reg.Layers() {
		if i.Knows(name) {
			with = append(with, i)
		}
	}
	m.mu.Unlock()
	if !known {
		return errNoName(name)
	}
	if err := m.unregisterAll(ctx, with, name); err != nil {
		return err
	}
	m.mu.Lock()
	m.reg.DestroyName(name)
	m.mu.Unlock()
	m.log.Infof("Destroyed name: %s.", name)
	return nil
}

// RegisterName makes name known in the layers and with the IPCPs that match
// the patterns. A name that does not exist is created, with spillover.
func (m *Manager) RegisterName(ctx context.Context, c Caller, name string, layers, ipcps []string) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	if err := core.CheckName(name); err != nil {
		return err
	}
	release, err := m.takeName(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	m.mu.Lock()
	with, err := m.matchLocked(layers, ipcps)
	created := false
	if err == nil && m.reg.Name(name) == nil {
		created, err = m.reg.CreateName(name, registry.Spillover)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if created {
		m.log.Infof("Created new name: %s.", name)
	}
	done := 0
	for _, i := range with {
		if err = m.register(ctx, i, name); err != nil {
			break
		}
		done++
	}
	if err != nil && created && done == 0 {
		m.mu.Lock()
		m.reg.DestroyName(name)
		m.mu.Unlock()
		m.log.Infof("Destroyed name: %s.", name)
	}
	return err
}

func (m *Manager) register(ctx context.Context, i *registry.IPCP, name string) error {
	return m.setKnown(ctx, i, name, true, i.Control.Register, i.Register, "Registered %s with IPCP %d as %v.")
}

func (m *Manager) unregister(ctx context.Context, i *registry.IPCP, name string) error {
	return m.setKnown(ctx, i, name, false, i.Control.Unregister, i.Unregister, "Unregistered %s from IPCP %d as %v.")
}

// setKnown makes the IPCP i know name or not, unless that is so: it has control
// tell the layer, then note tell the registry, and logs line.
func (m *Manager) setKnown(ctx context.Context, i *registry.IPCP, name string, known bool,
	control func(context.Context, core.Hash) error, note func(string), line string) error {
	m.mu.Lock()
	was := i.Knows(name)
	m.mu.Unlock()
	if was == known {
		return nil
	}
	h := i.Hash.Sum(name)
	if err := control(ctx, h); err != nil {
		return fmt.Errorf("IPCP %q of layer %q: %w", i.Name, i.Layer, err)
	}
	m.mu.Lock()
	note(name)
	m.mu.Unlock()
	m.log.Infof(line, name, i.PID, h)
	return nil
}

// unregisterAll makes each of with know name no more.
func (m *Manager) unregisterAll(ctx context.Context, with []*registry.IPCP, name string) error {
	for _, i := range with {
		if err := m.unregister(ctx, i, name); err != nil {
			return err
		}
	}
	return nil
}

func errNoName(name string) error {
	return fmt.Errorf("%w %q: \"irm name list\" shows them", core.ErrName, name)
}

// UnregisterName takes back what RegisterName did. Where name is not
// registered there is nothing to do.
func (m *Manager) UnregisterName(ctx context.Context, c Caller, name string, layers, ipcps []string) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	release, err := m.takeName(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	m.mu.Lock()
	known := m.reg.Name(name) != nil
	with, err := m.matchLocked(layers, ipcps)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if !known {
		return errNoName(name)
	}
	return m.unregisterAll(ctx, with, name)
}

// matchLocked returns the members of layers that match one of the patterns.
// Each pattern must match.
func (m *Manager) matchLocked(layers, ipcps []string) ([]*registry.IPCP, error) {
	if len(layers)+len(ipcps) == 0 {
		return nil, fmt.Errorf("%w: name a layer or an IPCP", core.ErrUsage)
	}
	if len(layers) == 0 && len(ipcps) == 1 && !strings.Contains(ipcps[0], "*") {
		// The common case, which a config file of thousands of IPCPs has
		// thousands of times, looks at no other IPCP.
		if i := m.reg.IPCP(ipcps[0]); i != nil && i.Operational() {
			return []*registry.IPCP{i}, nil
		}
	}
	up := m.reg.Layers()
	taken := make(map[*registry.IPCP]bool)
	for _, l := range layers {
		if !take(taken, up, func(i *registry.IPCP) bool { return core.Match(l, i.Layer) }) {
			return nil, fmt.Errorf("%w: no layer here matches %q; %s", core.ErrNotFound, l, listed("layers", up, func(i *registry.IPCP) string { return i.Layer }))
		}
	}
	for _, n := range ipcps {
		if !take(taken, up, func(i *registry.IPCP) bool { return core.Match(n, i.Name) }) {
			return nil, fmt.Errorf("%w: no IPCP in a layer matches %q; %s", core.ErrNotFound, n, listed("IPCPs", up, func(i *registry.IPCP) string { return i.Name }))
		}
	}
	return slices.DeleteFunc(up, func(i *registry.IPCP) bool { return !taken[i] }), nil
}

func take(taken map[*registry.IPCP]bool, up []*registry.IPCP, match func(*registry.IPCP) bool) bool {
	any := false
	for _, i := range up {
		if match(i) {
			taken[i], any = true, true
		}
	}
	return any
}

// listed tells which there are: "the layers are a, b".
func listed(what string, up []*registry.IPCP, of func(*registry.IPCP) string) string {
	if len(up) == 0 {
		return "there is none yet: \"irm ipcp bootstrap\" makes one"
	}
	var names []string
	for _, i := range up {
		if n := fmt.Sprintf("%q", of(i)); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return fmt.Sprintf("the %s are %s", what, strings.Join(names, ", "))
}

// BindProcess lets process pid accept for name, which need not exist yet.
func (m *Manager) BindProcess(c Caller, pid int, name string) error {
	if err := core.CheckName(name); err != nil {
		return err
	}
	m.mu.Lock()
	p, err := m.processLocked(pid)
	if err == nil {
		err = m.mayBindLocked(c, p, name)
	}
	bound := false
	if err == nil {
		bound = m.reg.Bind(name, p, false)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if bound {
		m.log.Infof("Bound process %d to name %s.", pid, name)
		m.match(name)
	}
	return nil
}

// UnbindProcess takes back what BindProcess did, for all names where name is
// "". A process that listens for the name itself stays bound to it.
func (m *Manager) UnbindProcess(c Caller, pid int, name string) error {
	m.mu.Lock()
	p, err := m.processLocked(pid)
	if err == nil && p.UID != c.UID {
		err = m.mayAdmin(c)
	}
	var names []string
	if err == nil {
		for _, n := range p.Names() {
			if p.BoundByHand(n) && (name == "" || name == n) {
				names = append(names, n)
			}
		}
		if name != "" && len(names) == 0 {
			err = fmt.Errorf("%w: process %d is not bound to %q by hand: \"irm name show %s\" tells what is", core.ErrNotFound, pid, name, logs.Word(name))
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !m.reg.Unbind(n, p, false) })
	m.mu.Unlock()
	if err != nil {
		return err
	}
	for _, n := range names {
		m.log.Infof("Unbound process %d from name %s.", pid, n)
		m.strand(n)
	}
	return nil
}

func (m *Manager) processLocked(pid int) (*registry.Process, error) {
	p := m.reg.Process(pid)
	if p == nil || p.Gone {
		return nil, fmt.Errorf("%w: no process %d uses flows here: \"irm process list\" shows those that do", core.ErrNotFound, pid)
	}
	return p, nil
}
