package irm

import (
	"context"
	"errors"
	"fmt"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/registry"
)

// Announce puts the process that c is into the table. program is the word
// for it in the logs, path the program's file. A process of that pid that is
// there already is one that has replaced itself by exec: it goes first.
func (m *Manager) Announce(c Caller, program, path string, user registry.User) *registry.Process {
	for {
		m.mu.Lock()
		old := m.reg.Process(c.PID)
		if old == nil {
			break
		}
		m.mu.Unlock()
		m.Gone(old)
		m.mu.Lock()
		m.reg.RemoveProcess(old) // though an IPCP may still hold its flows
		m.mu.Unlock()
	}
	defer m.mu.Unlock()
	p := &registry.Process{PID: c.PID, UID: c.UID, Program: program, Path: path, User: user}
	m.reg.AddProcess(p)
	m.announcedLocked(p)
	return p
}

// Gone says that the connection of p has ended: its ends are deallocated for
// it, then it leaves the table. More than once is as good as once.
func (m *Manager) Gone(p *registry.Process) {
	m.mu.Lock()
	if p.Gone || m.stopping {
		m.mu.Unlock()
		return
	}
	names := m.reg.Leave(p)
	flows := p.Flows()
	m.mu.Unlock()
	for _, n := range names {
		m.strand(n)
	}
	for _, f := range flows {
		m.mu.Lock()
		state := f.State()
		m.mu.Unlock()
		if state != registry.UserGone {
			m.userLeft(f, core.ErrFlowDown, func(error) {})
		}
	}
	m.bury(p)
}

// bury takes a process that has gone out of the table once it holds no end
// and the IPCPs have finished with those that it held.
func (m *Manager) bury(p *registry.Process) {
	m.mu.Lock()
	dead := p != nil && p.Gone && len(p.Flows()) == 0 && p.Leaving == 0 && !m.stopping
	if dead {
		dead = m.reg.Process(p.PID) == p
		m.reg.RemoveProcess(p)
	}
	m.mu.Unlock()
	if dead {
		m.log.Debugf("Dead process removed: %d.", p.PID)
	}
}

// Listen gives p a listener, for name or, where that is "", for the names
// bound to p. It binds p to name and registers name in the layers first.
func (m *Manager) Listen(ctx context.Context, c Caller, p *registry.Process, id uint32, name string, layers []string, credit int) error {
	if name != "" {
		if err := core.CheckName(name); err != nil {
			return err
		}
	}
	if len(layers) > 0 {
		if err := m.RegisterName(ctx, c, name, layers, nil); err != nil {
			if !errors.Is(err, core.ErrPermission) {
				return err
			}
			return fmt.Errorf("%w; only the registration in a layer is refused: listen without it (no WithLayer, no --layer), and let an administrator type: irm name register %s layer LAYER", err, logs.Word(name))
		}
	}
	m.mu.Lock()
	var err error
	if name != "" {
		err = m.mayBindLocked(c, p, name)
	}
	if err == nil && p.Gone {
		err = fmt.Errorf("%w: process %d", core.ErrNotFound, p.PID)
	}
	if err == nil {
		_, err = p.AddListener(id, name)
	}
	bound := false
	if err == nil && name != "" {
		bound = m.reg.Bind(name, p, true)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if bound {
		m.log.Infof("Bound process %d to name %s.", p.PID, name)
	}
	return m.Accept(p, id, credit)
}

// MaxCredit is the most flows that a listener may let arrive ahead.
const MaxCredit = 1024

// accepts logs that p, which did not accept a moment ago, accepts for names.
func (m *Manager) accepts(p *registry.Process, names []string) {
	m.log.Debugf("New instance (%d) of %s added.", p.PID, p.Program)
	m.log.Debugf("This process accepts flows for:")
	for _, n := range names {
		m.log.Debugf("        %s", n)
	}
}

// Accept lets credit more flows arrive at a listener of p.
func (m *Manager) Accept(p *registry.Process, id uint32, credit int) error {
	m.mu.Lock()
	l := p.Listener(id)
	if l == nil || credit < 1 || l.Credit+credit > MaxCredit {
		m.mu.Unlock()
		if l == nil {
			return fmt.Errorf("%w: listener %d", core.ErrNotFound, id)
		}
		return fmt.Errorf("%w: credit %d; a listener has 1 to %d", core.ErrUsage, credit, MaxCredit)
	}
	names, accepts := l.Serves(), l.Credit > 0
	m.mu.Unlock()
	if !accepts {
		m.accepts(p, names)
	}
	m.mu.Lock()
	l.Credit += credit
	m.reg.Enter(p)
	m.mu.Unlock()
	m.rematch(l) // which may be bound to another name since
	return nil
}

// Unlisten ends a listener of p. The flows that it has been given stay p's.
func (m *Manager) Unlisten(p *registry.Process, id uint32) error {
	m.mu.Lock()
	l := p.Listener(id)
	unbound := false
	if l != nil {
		p.RemoveListener(l)
		unbound = l.Name != "" && m.reg.Unbind(l.Name, p, true)
	}
	m.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%w: listener %d", core.ErrNotFound, id)
	}
	if unbound {
		m.log.Infof("Unbound process %d from name %s.", p.PID, l.Name)
		m.strand(l.Name)
	} else if l.Name != "" {
		m.match(l.Name) // a listener for all names takes those now
	}
	return nil
}
