package irm

import (
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/oap"
	"o7s/core/registry"
)

// FlowReqArr is the word of the IPCP i that somebody asks for a flow to dst.
// got gets the id of this system's end; a process's answer follows it by
// FlowAllocResp. A name to which no process is bound refuses at once; where
// one is bound but does not accept at the moment, the request waits.
func (m *Manager) FlowReqArr(i *registry.IPCP, r ipcp.Arrival, got func(core.FlowID, error)) {
	dst := r.Dst
	m.log.Debugf("Flow req arrived from IPCP %d for %v.", i.PID, dst)
	m.mu.Lock()
	name, ok := i.NameOf(dst)
	m.mu.Unlock()
	if !ok {
		got(0, fmt.Errorf("%w: %v is not registered with IPCP %q", core.ErrName, dst, i.Name))
		return
	}
	m.log.Infof("Flow request arrived for %s.", name)
	if i.Type.Far && r.From != "" {
		m.answerPeer(i, r, name, got)
		return
	}
	m.arrived(i, r, name, nil, new(oap.Session), got)
}

// arrived takes a request whose handshake, if it had one, is done: answer is what
// the other IRMd gets, s what was agreed on.
func (m *Manager) arrived(i *registry.IPCP, r ipcp.Arrival, name string, answer []byte, s *oap.Session, got func(core.FlowID, error)) {
	m.mu.Lock()
	if err := m.mayServeLocked(name); err != nil {
		m.mu.Unlock()
		s.Zero()
		got(0, err)
		return
	}
	f := m.reg.NewFlow(nil, i, name, r.QoS)
	f.From, f.Path, f.Answer = r.From, r.Path, answer
	f.Agree(s)
	m.mu.Unlock()

	// The IPCP knows the id before anything else about it can follow: only
	// now can a process have the flow, and leave it again.
	got(f.ID, nil)
	m.mu.Lock()
	waits := f.State() == registry.ReqArrived && m.mayServeLocked(name) == nil
	if waits {
		m.reg.Wait(f, name)
	}
	m.mu.Unlock()
	if waits {
		m.match(name)
		m.wake(name)
	} else {
		m.refuse(f)
	}
}

func noProcess(name string) error {
	return fmt.Errorf("%w: no process is bound to %q; bind one that listens: irm bind process PID name %s", core.ErrNotAllocated, name, logs.Word(name))
}

// match gives the flows that wait for name to processes that accept now.
func (m *Manager) match(name string) {
	for {
		m.mu.Lock()
		f, l := m.reg.Match(name)
		if f != nil {
			f.Listener = l
			m.reg.Assign(f, l.Process)
			m.reg.Pin(f)
		}
		m.mu.Unlock()
		if f == nil {
			return
		}
		// The IPCP is told that a process accepts f, which then gets it.
		resp := ipcp.AllocResponse{Flow: f.ID, Data: f.Answer}
		f.Answer = nil
		f.Provider.Control.FlowAllocResp(resp, func(err error) { m.responded(f, err) })
	}
}

// strand refuses the flows that wait for a name to which no process is bound
// any more.
func (m *Manager) strand(name string) {
	m.wake(name)
	m.mu.Lock()
	if m.mayServeLocked(name) == nil {
		m.mu.Unlock()
		return
	}
	flows := m.reg.Stranded(name)
	m.mu.Unlock()
	for _, f := range flows {
		m.refuse(f)
	}
}

// refuse answers a request that arrived with no.
func (m *Manager) refuse(f *registry.Flow) {
	m.mu.Lock()
	pending := f.State() == registry.ReqArrived
	if pending {
		m.reg.Pin(f)
	}
	m.mu.Unlock()
	if !pending {
		return
	}
	f.Provider.Control.FlowAllocResp(ipcp.AllocResponse{Flow: f.ID, Code: core.ErrNotAllocated}, func(error) {
		m.mu.Lock()
		m.reg.Unpin(f)
		finish := m.removeLocked(f)
		m.mu.Unlock()
		finish()
	})
}

// responded is the IPCP's word that the flow f, which a process accepts, is
// allocated.
func (m *Manager) responded(f *registry.Flow, err error) {
	m.mu.Lock()
	m.reg.Unpin(f)
	peer := f.Peer
	if f.State() != registry.ReqArrived {
		// The request was withdrawn, or the process has died: f is being
		// deallocated already.
		waiting := m.allocs[peer]
		m.mu.Unlock()
		m.credit(f)
		if waiting != nil {
			waiting.giveUp(wentAway(f.Name))
		}
		return
	}
	if err != nil {
		finish := m.removeLocked(f)
		m.mu.Unlock()
		finish()
		m.credit(f)
		return
	}
	_ = f.SetState(registry.Allocated) // from ReqArrived: always
	m.mu.Unlock()
	m.log.Infof("Flow on flow_id %d allocated.", f.ID)
	if peer != nil {
		m.join(peer, f)
		return
	}
	m.mu.Lock()
	end := f.End
	f.End = nil
	m.mu.Unlock()
	m.deliver(f, end) // the process that asked is another system's
}

func wentAway(name string) error {
	return fmt.Errorf("%w: the process that accepted the flow to %q has ended", core.ErrNotAllocated, name)
}

// join makes the memory of a flow that the layer has spliced and hands it to
// both processes: server accepts, client asked.
func (m *Manager) join(client, server *registry.Flow) {
	m.mu.Lock()
	waiting := m.allocs[client]
	held := max(client.User.Held(), server.User.Held())
	m.mu.Unlock()
	if waiting == nil { // the client has given up in the meantime
		m.takeBack(server, core.ErrFlowDown)
		return
	}
	a, b, err := m.cfg.Memory.NewFlow(held)
	if err != nil {
		waiting.giveUp(err)
		m.takeBack(server, core.ErrLimit)
		return
	}
	m.mu.Lock()
	both := m.allocs[client] == waiting && server.State() == registry.Allocated
	if both {
		client.End = a
		client.Watch(a)
		server.Watch(b)
	}
	m.mu.Unlock()
	if !both { // one has gone while the memory was made
		a.Close()
		b.Close()
		waiting.giveUp(wentAway(client.Name))
		m.takeBack(server, core.ErrFlowDown)
		return
	}
	m.deliver(server, b)
	m.answer(client)
	m.cfg.Memory.Prepare()
}

// deliver hands f to the process that accepts it. If that has more accepts
// queued it accepts again from now on, which the log tells before anything that
// the flow leads to. Whoever dialled does not wait until the process has taken
// the flow: one that dies before that is as one that dies right after.
func (m *Manager) deliver(f *registry.Flow, end registry.End) {
	if end == nil {
		// The other end has gone since; or the IPCP forgot the memory.
		m.takeBack(f, core.ErrFlowDown)
		return
	}
	l := f.Listener
	m.mu.Lock()
	accepts := l.Credit > 0 && l.Process.Listener(l.ID) == l
	names := l.Serves()
	l.Process.Arriving++
	m.mu.Unlock()
	if accepts {
		m.accepts(f.User, names)
	}
	f.User.User.FlowArrived(l, f, end, func(credit int, err error) {
		m.mu.Lock()
		full := l.Process.Arriving == registry.MaxArriving
		l.Process.Arriving--
		m.mu.Unlock()
		if full { // then flows may have waited for this
			defer m.rematch(l)
		}
		if err != nil { // it may take the next one
			m.takeBack(f, core.ErrFlowDown)
			return
		}
		if credit > 0 {
			// A listener that was closed meanwhile needs none.
			_ = m.Accept(f.User, l.ID, credit)
		}
		m.tellDown(f)
	})
	end.Close()
	f.Secret.Zero() // the process has it
}

// tellDown tells the process that has just got f if its IPCP ended meanwhile.
func (m *Manager) tellDown(f *registry.Flow) {
	m.mu.Lock()
	down := f.State() == registry.ProviderGone
	if down {
		m.reg.Pin(f)
	}
	m.mu.Unlock()
	if down {
		m.flowDown(f)
	}
}

// flowDown tells the process of f, which is pinned for that, that the flow has
// ended.
func (m *Manager) flowDown(f *registry.Flow) {
	f.User.User.FlowDown(f.ID, core.ErrFlowDown)
	m.mu.Lock()
	m.reg.Unpin(f)
	m.mu.Unlock()
}

// takeBack lets go of f, which the process that accepts it never gets, and
// gives its listener the credit back.
func (m *Manager) takeBack(f *registry.Flow, code core.Errno) {
	m.userLeft(f, code, func(error) {})
	m.credit(f)
}

// credit gives a listener back what a flow that never reached it had taken.
func (m *Manager) credit(f *registry.Flow) {
	m.mu.Lock()
	l := f.Listener
	alive := l != nil && l.Process.Listener(l.ID) == l
	if alive {
		l.Credit++
	}
	m.mu.Unlock()
	if alive {
		m.rematch(l)
	}
}

// rematch gives l the flows that have waited for what it may take now.
func (m *Manager) rematch(l *registry.Listener) {
	m.mu.Lock()
	names := l.Serves()
	m.mu.Unlock()
	for _, n := range names {
		m.match(n)
	}
}

// Splice joins the two ends of a flow that the IPCP i provides.
func (m *Manager) Splice(i *registry.IPCP, a, b core.FlowID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fa, fb := m.reg.Flow(a), m.reg.Flow(b)
	if fa == nil || fb == nil || fa == fb || fa.Provider != i || fb.Provider != i {
		return fmt.Errorf("%w: flows %d and %d", core.ErrNotFound, a, b)
	}
	// The process at b may have died since it accepted: the end of the
	// allocation at a waits for that news.
	bOK := fb.State() == registry.ReqArrived || fb.State() == registry.UserGone
	if fa.State() != registry.AllocPending || !bOK || fa.Peer != nil || fb.Peer != nil || fa.End != nil || fb.End != nil {
		return fmt.Errorf("%w: flow %d is %v, flow %d is %v", core.ErrState, a, fa.State(), b, fb.State())
	}
	m.reg.Splice(fa, fb)
	return nil
}

// Attach makes the memory of a flow whose packets the IPCP i carries itself
// and returns the IPCP's end.
func (m *Manager) Attach(i *registry.IPCP, id core.FlowID) (registry.End, error) {
	m.mu.Lock()
	err := m.mayAttachLocked(i, id)
	held := i.Provided()
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := m.cfg.Memory.NewFlow(held)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	err = m.mayAttachLocked(i, id)
	if err == nil {
		m.reg.Flow(id).End = ours
		m.reg.Flow(id).Watch(ours)
	}
	m.mu.Unlock()
	if err != nil {
		ours.Close()
		theirs.Close()
		return nil, err
	}
	return theirs, nil
}

func (m *Manager) mayAttachLocked(i *registry.IPCP, id core.FlowID) error {
	f := m.reg.Flow(id)
	if f == nil || f.Provider != i {
		return fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
	}
	if s := f.State(); f.Peer != nil || f.End != nil || s != registry.AllocPending && s != registry.ReqArrived {
		return fmt.Errorf("%w: flow %d is %v", core.ErrState, id, s)
	}
	return nil
}
