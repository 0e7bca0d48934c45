package irm

import (
	"context"
	"fmt"
	"slices"

	"o7s/core"
)

// naming is the row of calls that register and unregister one name: one call works,
// the others wait, in their order. Each talks to IPCPs and then notes what they
// said; two at a time could note it in another order than the IPCPs did it.
type naming struct{ waiting []gate }

// onName calls f for c, an administrator, while no other such call works on name.
func (m *Manager) onName(ctx context.Context, c Caller, name string, f func() error) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	release, err := m.takeName(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	return f()
}

// takeName waits until no other call registers, unregisters or destroys name.
func (m *Manager) takeName(ctx context.Context, name string) (release func(), err error) {
	var turn gate // nil: at once
	m.decide(func() {
		if n := m.naming[name]; n == nil {
			m.naming[name] = &naming{}
		} else {
			turn = m.newGate()
			n.waiting = append(n.waiting, turn)
		}
	})
	release = func() { m.decide(func() { m.releaseNameLocked(name) }) }
	if turn == nil || m.fault("calls about one name cross") {
		return release, nil
	}
	if err := turn.wait(ctx); err != nil {
		m.decide(func() {
			n := m.naming[name]
			if at := slices.Index(n.waiting, turn); at >= 0 {
				n.waiting = slices.Delete(n.waiting, at, at+1)
			} else { // its turn has come just now
				m.releaseNameLocked(name)
			}
		})
		return nil, fmt.Errorf("%w: another call works on name %q", core.ContextError(err), name)
	}
	return release, nil
}

// releaseNameLocked lets the next call about name work.
func (m *Manager) releaseNameLocked(name string) {
	n := m.naming[name]
	if len(n.waiting) == 0 {
		delete(m.naming, name)
		return
	}
	next := n.waiting[0]
	n.waiting = n.waiting[1:]
	m.thenLocked(next.open)
}
