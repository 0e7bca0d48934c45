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
// in the table already has replaced itself by exec: its record goes first.
func (m *Manager) Announce(c Caller, program, path string, user User) Process {
	p := &registry.Process{PID: c.PID, UID: c.UID, Admin: m.Administers(c), Program: program, Path: path, User: user}
	m.decide(func() {
		if old := m.reg.Process(c.PID); old != nil {
			m.goneLocked(old)
			m.reg.RemoveProcess(old) // though an IPCP may still hold its flows
		}
		m.reg.AddProcess(p)
		m.announcedLocked(p)
	})
	return Process{p}
}

// Gone says that the connection of p has ended: its ends are deallocated for
// it, then it leaves the table. A second call does nothing.
func (m *Manager) Gone(p Process) { m.decide(func() { m.goneLocked(p.record) }) }

func (m *Manager) goneLocked(p *registry.Process) {
	if p.Gone || m.stopping {
		return
	}
	for _, n := range m.reg.Leave(p) {
		m.refuseWaitingLocked(n)
	}
	for _, f := range p.Flows() {
		if f.State() != registry.UserGone {
			m.userLeftLocked(f, core.ErrFlowDown, nil)
		}
	}
	m.removeDeadLocked(p)
}

// removeDeadLocked takes a process that has gone out of the table once it holds no
// end and the IPCPs have finished with those that it held.
func (m *Manager) removeDeadLocked(p *registry.Process) {
	if !p.Gone || p.Held() > 0 || p.Leaving > 0 || m.stopping || m.reg.Process(p.PID) != p {
		return
	}
	m.reg.RemoveProcess(p)
	m.debugLocked("Dead process removed: %d.", p.PID)
}

// Listen gives p a listener, for name or, where that is "", for the names
// bound to p. It binds p to name and registers name in the layers first.
func (m *Manager) Listen(ctx context.Context, c Caller, p Process, id uint32, name string, layers []string, credit int) (err error) {
	if name != "" {
		if err := core.CheckName(name); err != nil {
			return err
		}
	}
	if len(layers) > 0 {
		registrar := c
		if m.fault("anybody registers names by listening") {
			registrar = Caller{}
		}
		if err := m.RegisterName(ctx, registrar, name, layers, nil); err != nil {
			if !errors.Is(err, core.ErrPermission) {
				return err
			}
			return fmt.Errorf("%w; only the registration in a layer is refused: listen without it (no WithLayer, no --layer), and let an administrator type: irm name register %s layer LAYER", err, logs.Word(name))
		}
	}
	m.decide(func() { err = m.listenLocked(c, p.record, id, name, credit) })
	return err
}

func (m *Manager) listenLocked(c Caller, p *registry.Process, id uint32, name string, credit int) error {
	if name != "" {
		if err := m.mayBindLocked(c, p, name); err != nil {
			return err
		}
	}
	if p.Gone {
		return fmt.Errorf("%w: process %d", core.ErrNotFound, p.PID)
	}
	l, err := m.reg.AddListener(p, id, name)
	if err != nil {
		return err
	}
	if name != "" {
		bound, err := m.reg.Bind(name, p, true)
		if err != nil {
			m.reg.RemoveListener(l)
			return err
		}
		if bound {
			m.infoLocked("Bound process %d to name %s.", p.PID, name)
		}
	}
	return m.acceptLocked(p, id, credit)
}

// MaxCredit is the most flows that a listener may let arrive ahead.
const MaxCredit = 1024

// maxNamed is of how many names, at most, a process that accepts for all its names
// has each in the log.
const maxNamed = 64

// acceptsLocked logs that the process of l, which did not accept there a moment ago,
// accepts.
func (m *Manager) acceptsLocked(l *registry.Listener) {
	p := l.Process
	m.debugLocked("New instance (%d) of %s added.", p.PID, p.Program)
	m.debugLocked("This process accepts flows for:")
	names := []string{l.Name}
	if n := p.NameCount(); l.Name == "" && n > maxNamed {
		m.debugLocked("        the %d names that it is bound to", n)
		return
	}
	if l.Name == "" {
		names = p.Names()
	}
	for _, n := range names {
		m.debugLocked("        %s", n)
	}
}

// Accept lets credit more flows arrive at a listener of p.
func (m *Manager) Accept(p Process, id uint32, credit int) (err error) {
	m.decide(func() { err = m.acceptLocked(p.record, id, credit) })
	return err
}

func (m *Manager) acceptLocked(p *registry.Process, id uint32, credit int) error {
	l := p.Listener(id)
	if l == nil {
		return fmt.Errorf("%w: listener %d", core.ErrNotFound, id)
	}
	if credit < 1 || l.Credit+credit > MaxCredit {
		return fmt.Errorf("%w: credit %d; a listener has 1 to %d", core.ErrUsage, credit, MaxCredit)
	}
	if l.Credit == 0 {
		m.acceptsLocked(l)
	}
	l.Give(credit)
	m.reg.Enter(p)
	if !m.fault("a flow still waits when a process accepts again") {
		m.rematchLocked(l)
	}
	return nil
}

// Unlisten ends a listener of p. The flows that it has been given stay p's.
func (m *Manager) Unlisten(p Process, id uint32) (err error) {
	m.decide(func() { err = m.unlistenLocked(p.record, id) })
	return err
}

func (m *Manager) unlistenLocked(p *registry.Process, id uint32) error {
	l := p.Listener(id)
	if l == nil {
		return fmt.Errorf("%w: listener %d", core.ErrNotFound, id)
	}
	m.reg.RemoveListener(l)
	switch {
	case l.Name == "":
	case m.reg.Unbind(l.Name, p, true):
		m.infoLocked("Unbound process %d from name %s.", p.PID, l.Name)
		m.refuseWaitingLocked(l.Name)
	default:
		m.matchLocked(l.Name) // a listener for all names takes those now
	}
	return nil
}
