package irm

import (
	"fmt"
	"io"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
)

// Deallocation has two phases at each end: the process that holds it releases it
// first (partial), then its IPCP (complete), and only then is the id free. An
// IPCP that ends, or whose layer ends the flow, comes first itself.

// FlowDealloc gives up p's end id. done is called when the IPCP has released it
// too.
func (m *Manager) FlowDealloc(p Process, id core.FlowID, done func(error)) {
	m.decide(func() {
		f := m.reg.Flow(id)
		if f == nil || f.User != p.record || f.State() == registry.UserGone {
			m.thenLocked(func() { done(fmt.Errorf("%w: flow %d", core.ErrNotFound, id)) })
			return
		}
		m.userLeftLocked(f, core.ErrCanceled, done)
	})
}

// userLeftLocked releases f from its process's side: the process did, or has
// died, or never got it. An allocation still under way is answered with code. done
// may be nil.
func (m *Manager) userLeftLocked(f *registry.Flow, code core.Errno, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	was, pid := f.State(), 0
	if m.stopping || was == registry.Deallocated {
		m.thenLocked(func() { done(nil) })
		return
	}
	if a := m.allocs[f]; a != nil {
		a.failLocked(code)
	}
	if was != registry.ProviderGone {
		if err := f.SetState(registry.UserGone); err != nil {
			m.thenLocked(func() { done(err) })
			return
		}
	}
	if f.User != nil {
		pid = f.User.PID
		f.User.Leaves()
	}
	finish := func() {
		m.removeLocked(f)
		if f.User != nil {
			f.User.Left()
			m.removeDeadLocked(f.User)
		}
		m.thenLocked(func() { done(nil) })
	}
	m.debugLocked("Deallocating flow %d for process %d.", f.ID, pid)
	if was == registry.ProviderGone {
		m.infoLocked("Completed deallocation of flow_id %d by process %d.", f.ID, pid)
		finish()
		return
	}
	m.debugLocked("Partial deallocation of flow_id %d by process %d.", f.ID, pid)
	control, req := f.Provider.Control, ipcp.DeallocRequest{Flow: f.ID, Tell: f.Ours}
	m.thenLocked(func() {
		// An IPCP that knows nothing of f has released it all the same.
		control.FlowDealloc(req, func(error) { m.decide(finish) })
	})
}

// ProviderDealloc notes that the IPCP i has released the end id.
func (m *Manager) ProviderDealloc(i IPCP, id core.FlowID) (err error) {
	m.decide(func() {
		f := m.reg.Flow(id)
		if f == nil || f.Provider != i.record || f.State() == registry.ProviderGone {
			err = fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
			return
		}
		if m.tellsOfLocked(f) {
			m.debugLocked("Deallocating flow %d for process %d.", id, f.Provider.PID)
		}
		m.providerLeftLocked(f, fmt.Errorf("%w: the layer has ended the flow", core.ErrFlowDown))
	})
	return err
}

// FlowEnd notes that, as the IPCP i says, the flow of the end id has ended. Its
// process is told once, and holds the end until it gives it up.
func (m *Manager) FlowEnd(i IPCP, id core.FlowID, code core.Errno) (err error) {
	m.decide(func() {
		f := m.reg.Flow(id)
		if f == nil || f.Provider != i.record || m.allocs[f] != nil || f.User == nil {
			err = fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
			return
		}
		if err = m.reg.Down(f, code); err == nil {
			m.flowDownLocked(f, code)
		}
	})
	return err
}

// flowDownLocked tells the process of f that the flow has ended.
func (m *Manager) flowDownLocked(f *registry.Flow, code core.Errno) {
	user, id := f.User.User, f.ID
	if !m.fault("a process does not hear that its flow is down") {
		m.thenLocked(func() { user.FlowDown(id, code) })
	}
}

// providerLeftLocked releases f from its IPCP's side. A process that still holds
// it is told; a process that still waits for it gets err.
func (m *Manager) providerLeftLocked(f *registry.Flow, err error) {
	state := f.State()
	if m.stopping || state == registry.Deallocated || state == registry.ProviderGone {
		return
	}
	a := m.allocs[f]
	if (state == registry.Allocated || state == registry.Ended) && a == nil {
		// The process has its flow in hand and has to release it first.
		_ = f.SetState(registry.ProviderGone) // from these two: always
		m.debugLocked("Partial deallocation of flow_id %d by process %d.", f.ID, f.Provider.PID)
		m.flowDownLocked(f, core.ErrFlowDown)
		return
	}
	if m.tellsOfLocked(f) {
		m.infoLocked("Completed deallocation of flow_id %d by process %d.", f.ID, f.Provider.PID)
	}
	m.removeLocked(f)
	if a != nil {
		a.failLocked(err)
	}
}

// removeLocked ends f. An allocation that waits for its other end fails.
func (m *Manager) removeLocked(f *registry.Flow) {
	end, waiting, meter := f.TakeEnd(), m.allocs[f.Peer], f.TakeMeter()
	m.reg.RemoveFlow(f)
	if f.Secret != nil {
		m.thenLocked(f.Secret.Zero) // after what may hand it to the process
	}
	if end != nil && !m.fault("an end of memory stays open") {
		m.closeLocked(end)
	}
	if meter != nil {
		m.closeLocked(meter)
	}
	if waiting != nil {
		waiting.giveUpLocked(wentAway(f.Name))
	}
}

func (m *Manager) closeLocked(c io.Closer) { m.thenLocked(func() { c.Close() }) }
