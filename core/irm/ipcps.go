package irm

import (
	"context"
	"fmt"
	"strings"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
)

// CreateIPCP starts an IPCP of the type called typ, in no layer yet, and
// returns its pid.
func (m *Manager) CreateIPCP(ctx context.Context, c Caller, name, typ string) (pid int, err error) {
	if err := m.mayAdmin(c); err != nil {
		return 0, err
	}
	if err := core.CheckName(name); err != nil {
		return 0, err
	}
	t, ok := ipcp.Find(m.cfg.Types, typ)
	if !ok || t.Name != typ {
		return 0, m.noType(typ)
	}
	var i *registry.IPCP
	m.decide(func() { i, err = m.addIPCPLocked(name, t) })
	if err != nil {
		return 0, err
	}
	if err := m.spawn(ctx, i); err != nil {
		return 0, err
	}
	m.release(i)
	return i.PID, nil
}

// addIPCPLocked takes the name for a new IPCP, which is busy until release.
func (m *Manager) addIPCPLocked(name string, t ipcp.Type) (*registry.IPCP, error) {
	if m.stopping {
		return nil, fmt.Errorf("%w: the IRMd is shutting down", core.ErrState)
	}
	i, err := m.reg.AddIPCP(name, t)
	if err != nil {
		return nil, err
	}
	return i, i.Take() // which nobody else has: no error
}

func (m *Manager) release(i *registry.IPCP) { m.decide(i.Release) }

// noType is the error where word means no layer type.
func (m *Manager) noType(word string) error {
	names := make([]string, len(m.cfg.Types))
	for i, t := range m.cfg.Types {
		names[i] = t.Name
	}
	return fmt.Errorf("%w %q: the types are %s%s", core.ErrIPCPType, word, strings.Join(names, ", "), ipcp.NotBuiltIn(m.cfg.Types, word))
}

// spawn starts the process of i, whose name is taken.
func (m *Manager) spawn(ctx context.Context, i *registry.IPCP) error {
	var known, died bool // guarded by m.mu
	var why error
	child, err := m.cfg.Spawner.Spawn(ctx, IPCP{i}, func(c Child, err error) {
		m.decide(func() {
			if died, why = true, err; known {
				m.diedLocked(i, c, err)
			}
		})
	})
	if err != nil {
		m.decide(func() { m.reg.RemoveIPCP(i) })
		return fmt.Errorf("start an IPCP of type %s: %w", i.Type.Name, err)
	}
	stopping := false
	m.decide(func() {
		if known = true; died {
			m.reg.RemoveIPCP(i)
			return
		}
		m.children[i] = child
		m.reg.Started(i, child.PID(), child)
		if stopping = m.stopping; !stopping {
			m.infoLocked("Created IPCP %d.", i.PID)
		}
	})
	switch {
	case i.PID == 0:
		return fmt.Errorf("%w: process %d of a new IPCP of type %s ended at once: %w", core.ErrIPCP, child.PID(), i.Type.Name, why)
	case stopping: // Stop has not seen this one
		child.Stop()
		return fmt.Errorf("%w: the IRMd is shutting down", core.ErrState)
	}
	return nil
}

// DestroyIPCP ends the IPCP called name, and so the flows that it provides.
func (m *Manager) DestroyIPCP(c Caller, name string) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	var i *registry.IPCP
	var err error
	m.decide(func() {
		switch i = m.reg.IPCP(name); {
		case i == nil:
			err = errNoIPCP(name)
		default:
			err = i.Take()
		}
	})
	if err != nil {
		return err
	}
	m.stopChild(i)
	m.info("Destroyed IPCP %d.", i.PID)
	return nil
}

// errNoIPCP is the error where no IPCP is called name.
func errNoIPCP(name string) error {
	return fmt.Errorf("%w: no IPCP is called %q: \"irm ipcp list\" shows them", core.ErrNotFound, name)
}

// stopChild ends the process of i on purpose: nobody is told that it died.
func (m *Manager) stopChild(i *registry.IPCP) {
	var child Child
	m.decide(func() {
		child = m.children[i]
		delete(m.children, i)
	})
	if child != nil { // else it died in the meantime, and is cleaned up
		child.Stop()
		m.decide(func() { m.forgetLocked(i) })
	}
}

// diedLocked goes on when the Spawner has seen the process of i end.
func (m *Manager) diedLocked(i *registry.IPCP, c Child, err error) {
	unasked := m.children[i] == c && !m.stopping
	delete(m.children, i)
	if unasked {
		m.errorLocked("IPCP %d (%s) died: %v.", c.PID(), i.Name, err)
		m.forgetLocked(i)
	}
}

// forgetLocked takes i, whose process has ended, out of the tables, and ends its
// flows.
func (m *Manager) forgetLocked(i *registry.IPCP) {
	m.reg.RemoveIPCP(i)
	for _, f := range i.FlowsOf() {
		m.providerLeftLocked(f, fmt.Errorf("%w: the IPCP %q of the flow has ended", core.ErrFlowDown, i.Name))
	}
}
