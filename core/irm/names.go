package irm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/registry"
	"o7s/core/settings"
)

// CreateName makes a name. The policy is round-robin where it is "".
func (m *Manager) CreateName(c Caller, name, policy string) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	if err := core.CheckName(name); err != nil {
		return err
	}
	p := settings.RoundRobin
	if policy != "" {
		var err error
		if p, err = settings.ParsePolicy(policy); err != nil {
			return err
		}
	}
	var err error
	m.decide(func() { _, err = m.createNameLocked(name, p) })
	return err
}

func (m *Manager) createNameLocked(name string, p settings.Policy) (created bool, err error) {
	if created, err = m.reg.CreateName(name, p); created {
		m.infoLocked("Created new name: %s.", name)
	}
	return created, err
}

func (m *Manager) destroyNameLocked(name string) {
	m.reg.DestroyName(name)
	m.infoLocked("Destroyed name: %s.", name)
}

// DestroyName unregisters a name everywhere and forgets it. What is bound to
// it stays bound, and waits for a name.
func (m *Manager) DestroyName(ctx context.Context, c Caller, name string) error {
	return m.onName(ctx, c, name, func() error {
		var known bool
		var with []*registry.IPCP
		m.decide(func() {
			known = m.reg.Name(name) != nil
			with = slices.DeleteFunc(m.reg.Layers(), func(i *registry.IPCP) bool { return !i.Knows(name) })
		})
		if !known {
			return errNoName(name)
		}
		if err := m.unregisterAll(ctx, with, name); err != nil {
			return err
		}
		m.decide(func() { m.destroyNameLocked(name) })
		return nil
	})
}

// RegisterName makes name known in the layers and with the IPCPs that match
// the patterns. A name that does not exist is created, with spillover.
func (m *Manager) RegisterName(ctx context.Context, c Caller, name string, layers, ipcps []string) error {
	return m.onName(ctx, c, name, func() error { return m.registerName(ctx, name, layers, ipcps) })
}

func (m *Manager) registerName(ctx context.Context, name string, layers, ipcps []string) (err error) {
	if err := core.CheckName(name); err != nil {
		return err
	}
	var with []*registry.IPCP
	created := false
	m.decide(func() {
		if with, err = m.membersLocked(layers, ipcps); err == nil && m.reg.Name(name) == nil {
			created, err = m.createNameLocked(name, settings.Spillover)
		}
	})
	if err != nil {
		return err
	}
	m.Wait() // for the line of its creation
	done := 0
	for _, i := range with {
		if err = m.register(ctx, i, name); err != nil {
			break
		}
		done++
	}
	if err != nil && created && done == 0 {
		m.decide(func() { m.destroyNameLocked(name) })
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
	var was bool
	m.decide(func() { was = i.Knows(name) })
	if was == known {
		return nil
	}
	h := i.Hash.Sum(name)
	if err := control(ctx, h); err != nil {
		return fmt.Errorf("IPCP %q of layer %q: %w", i.Name, i.Layer, err)
	}
	m.decide(func() {
		note(name)
		m.infoLocked(line, name, i.PID, h)
	})
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
	return m.onName(ctx, c, name, func() error {
		var known bool
		var with []*registry.IPCP
		var err error
		m.decide(func() {
			known = m.reg.Name(name) != nil
			with, err = m.membersLocked(layers, ipcps)
		})
		if err != nil {
			return err
		}
		if !known {
			return errNoName(name)
		}
		return m.unregisterAll(ctx, with, name)
	})
}

// membersLocked returns the members of layers that match one of the patterns.
// Each pattern must match.
func (m *Manager) membersLocked(layers, ipcps []string) ([]*registry.IPCP, error) {
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
	var err error
	m.decide(func() { err = m.bindProcessLocked(c, pid, name) })
	return err
}

func (m *Manager) bindProcessLocked(c Caller, pid int, name string) error {
	p, err := m.processLocked(pid)
	if err != nil {
		return err
	}
	if err := m.mayBindLocked(c, p, name); err != nil {
		return err
	}
	bound, err := m.reg.Bind(name, p, false)
	if bound {
		m.infoLocked("Bound process %d to name %s.", pid, name)
		m.matchLocked(name)
	}
	return err
}

// UnbindProcess takes back what BindProcess did, for all names where name is
// "". A process that listens for the name itself stays bound to it.
func (m *Manager) UnbindProcess(c Caller, pid int, name string) (err error) {
	m.decide(func() { err = m.unbindProcessLocked(c, pid, name) })
	return err
}

func (m *Manager) unbindProcessLocked(c Caller, pid int, name string) error {
	p, err := m.processLocked(pid)
	if err != nil {
		return err
	}
	if p.UID != c.UID {
		if err := m.mayAdmin(c); err != nil {
			return err
		}
	}
	names := slices.DeleteFunc(p.Names(), func(n string) bool { return !p.BoundByHand(n) || name != "" && name != n })
	if name != "" && len(names) == 0 {
		return fmt.Errorf("%w: process %d is not bound to %q by hand: \"irm name show %s\" tells what is", core.ErrNotFound, pid, name, logs.Word(name))
	}
	for _, n := range names {
		if m.reg.Unbind(n, p, false) {
			m.infoLocked("Unbound process %d from name %s.", pid, n)
			m.refuseWaitingLocked(n)
		}
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
