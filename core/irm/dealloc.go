package irm

import (
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
)

// Deallocation has two phases at each end: the process that holds it lets go
// first (partial), then its IPCP (complete), and only then is the id free. An
// IPCP that ends, or whose layer ends the flow, comes first itself.

// FlowDealloc gives up p's end id. done is called when the IPCP has let go of
// it too.
func (m *Manager) FlowDealloc(p *registry.Process, id core.FlowID, done func(error)) {
	m.mu.Lock()
	f := m.reg.Flow(id)
	if f == nil || f.User != p || f.State() == registry.UserGone {
		m.mu.Unlock()
		done(fmt.Errorf("%w: flow %d", core.ErrNotFound, id))
		return
	}
	m.mu.Unlock()
	m.userLeft(f, core.ErrCanceled, done)
}

// userLeft lets go of f from its process's side: the process did, or has
// died, or never got it. An allocation still under way is answered with code.
func (m *Manager) userLeft(f *registry.Flow, code core.Errno, done func(error)) {
	m.mu.Lock()
	if m.stopping || f.State() == registry.Deallocated {
		m.mu.Unlock()
		done(nil)
		return
	}
	if waiting, ok := m.asking[f]; ok {
		m.asking[f] = append(waiting, func() { m.userLeft(f, code, done) })
		m.mu.Unlock()
		return
	}
	var answer func(*registry.Flow, registry.End, error)
	if a := m.allocs[f]; a != nil {
		answer = a.takeLocked()
	}
	was, pid := f.State(), 0
	if f.User != nil {
		pid = f.User.PID
	}
	var finish func()
	var err error
	if was == registry.ProviderGone {
		finish = m.removeLocked(f)
	} else {
		if err = f.SetState(registry.UserGone); err == nil {
			m.reg.Pin(f)
		}
	}
	if err == nil && f.User != nil {
		f.User.Leaving++
	}
	m.mu.Unlock()
	if answer != nil {
		answer(nil, nil, code)
	}
	if err != nil {
		done(err)
		return
	}
	m.log.Debugf("Deallocating flow %d for process %d.", f.ID, pid)
	if was == registry.ProviderGone {
		m.log.Infof("Completed deallocation of flow_id %d by process %d.", f.ID, pid)
		finish()
		m.left(f)
		done(nil)
		return
	}
	m.log.Debugf("Partial deallocation of flow_id %d by process %d.", f.ID, pid)
	f.Provider.Control.FlowDealloc(ipcp.DeallocRequest{Flow: f.ID, Tell: f.Ours}, func(error) {
		// An IPCP that knows nothing of f has let go of it all the same.
		m.mu.Lock()
		m.reg.Unpin(f)
		finish := m.removeLocked(f)
		m.mu.Unlock()
		finish()
		m.left(f)
		done(nil)
	})
}

// left says that f, which its process has let go of, is done with, and so is
// what the log tells of it.
func (m *Manager) left(f *registry.Flow) {
	if f.User == nil {
		return
	}
	m.mu.Lock()
	f.User.Leaving--
	m.mu.Unlock()
	m.bury(f.User)
}

// ProviderDealloc is the word of the IPCP i that it has let go of the end id.
func (m *Manager) ProviderDealloc(i *registry.IPCP, id core.FlowID) error {
	m.mu.Lock()
	f := m.reg.Flow(id)
	ok := f != nil && f.Provider == i && f.State() != registry.ProviderGone
	m.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
	}
	m.log.Debugf("Deallocating flow %d for process %d.", id, i.PID)
	m.providerLeft(f, fmt.Errorf("%w: the layer has ended the flow", core.ErrFlowDown))
	return nil
}

// FlowEnd is the word of the IPCP i that the flow of the end id has ended. Its
// process is told, and holds the end until it gives it up.
func (m *Manager) FlowEnd(i *registry.IPCP, id core.FlowID, code core.Errno) error {
	m.mu.Lock()
	f := m.reg.Flow(id)
	var user registry.User
	if f != nil && f.Provider == i && f.State() == registry.Allocated && m.allocs[f] == nil && f.User != nil {
		user = f.User.User
	}
	m.mu.Unlock()
	if user == nil {
		return fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
	}
	user.FlowDown(id, code)
	return nil
}

// providerLeft lets go of f from its IPCP's side. A process that still holds
// it is told, one that still waits for it gets err.
func (m *Manager) providerLeft(f *registry.Flow, err error) {
	m.mu.Lock()
	state := f.State()
	if m.stopping || state == registry.Deallocated || state == registry.ProviderGone {
		m.mu.Unlock()
		return
	}
	var answer func(*registry.Flow, registry.End, error)
	if a := m.allocs[f]; a != nil {
		answer = a.takeLocked()
	}
	// A process that has its flow in hand has to let go of it first.
	held := state == registry.Allocated && answer == nil
	var finish func()
	if held {
		_ = f.SetState(registry.ProviderGone) // from Allocated: always
		m.reg.Pin(f)
	} else {
		finish = m.removeLocked(f)
	}
	m.mu.Unlock()
	if held {
		m.log.Debugf("Partial deallocation of flow_id %d by process %d.", f.ID, f.Provider.PID)
		m.flowDown(f)
		return
	}
	m.log.Infof("Completed deallocation of flow_id %d by process %d.", f.ID, f.Provider.PID)
	finish()
	if answer != nil {
		answer(nil, nil, err)
	}
}

// removeLocked ends f. What it returns is called once m.mu is free.
func (m *Manager) removeLocked(f *registry.Flow) (finish func()) {
	end, waiting, meter := f.End, m.allocs[f.Peer], f.TakeMeter()
	f.End = nil
	f.Secret.Zero()
	m.reg.RemoveFlow(f)
	return func() {
		if end != nil {
			end.Close()
		}
		if meter != nil {
			meter.Close()
		}
		if waiting != nil {
			waiting.giveUp(wentAway(f.Name))
		}
	}
}
