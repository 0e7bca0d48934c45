package irm

import (
	"context"
	"fmt"

	"o7s/core"
)

// naming is the calls that register and unregister one name. Each talks to
// IPCPs and then notes what they said; two at a time could note it in another
// order than the IPCPs did it.
type naming struct {
	token chan struct{} // in it while a call works
	calls int           // that work or wait; guarded by Manager.mu
}

// takeName waits until no other call registers, unregisters or destroys name.
func (m *Manager) takeName(ctx context.Context, name string) (release func(), err error) {
	m.mu.Lock()
	n := m.naming[name]
	if n == nil {
		n = &naming{token: make(chan struct{}, 1)}
		m.naming[name] = n
	}
	n.calls++
	m.mu.Unlock()
	leave := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if n.calls--; n.calls == 0 {
			delete(m.naming, name)
		}
	}
	release = func() { <-n.token; leave() }
	select {
	case n.token <- struct{}{}:
		return release, nil
	default:
	}
	select {
	case n.token <- struct{}{}:
		if m.resumed != nil {
			m.resumed()
		}
		return release, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("%w: another call works on name %q", core.ContextError(ctx.Err()), name)
	}
}
