package irm

import (
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/oap"
	"o7s/core/registry"
)

// FlowReqArr takes a request for a flow from the IPCP by. got gets the id of this
// system's end; the answer of a process follows by FlowAllocResp. Where no process is
// bound to the name, the request is refused at once; where one is bound but does not
// accept at the moment, the request waits.
func (m *Manager) FlowReqArr(by IPCP, r ipcp.Arrival, got func(core.FlowID, error)) {
	i := by.record
	m.decide(func() {
		told := m.toldLocked(r.From)
		if told {
			m.debugLocked("Flow req arrived from IPCP %d for %v.", i.PID, r.Dst)
		}
		name, ok := i.NameOf(r.Dst)
		if !ok {
			err := fmt.Errorf("%w: %v is not registered with IPCP %q", core.ErrName, r.Dst, i.Name)
			m.thenLocked(func() { got(0, err) })
			return
		}
		if told {
			m.infoLocked("Flow request arrived for %s.", name)
		}
		if i.Type.Far && r.From != "" {
			m.answerPeerLocked(i, r, name, got)
			return
		}
		m.arrivedLocked(i, r, name, nil, new(oap.Session), got)
	})
}

// arrivedLocked takes a request whose handshake, if it had one, is done: answer is
// what the other IRMd gets, s what was agreed on.
func (m *Manager) arrivedLocked(i *registry.IPCP, r ipcp.Arrival, name string, answer []byte, s *oap.Session, got func(core.FlowID, error)) {
	if err := m.mayServeLocked(name); err != nil {
		s.Zero()
		m.thenLocked(func() { got(0, err) })
		return
	}
	f := m.reg.NewFlow(nil, i, name, r.QoS)
	f.Came(r.From, r.Path)
	f.Reply(answer)
	f.Agree(s)
	// The IPCP knows the id before anything else about it can follow.
	m.thenLocked(func() { got(f.ID, nil) })
	m.reg.Wait(f, name)
	m.matchLocked(name)
	m.wakeLocked(name)
}

func noProcess(name string) error {
	return fmt.Errorf("%w: no process is bound to %q; bind one that listens: irm bind process PID name %s", core.ErrNotAllocated, name, logs.Word(name))
}

// matchLocked gives the flows that wait for name to processes that accept now.
func (m *Manager) matchLocked(name string) {
	for {
		f, l := m.reg.Match(name)
		if f == nil {
			return
		}
		m.reg.Send(f, l)
		// The IPCP is told that a process accepts f, which then gets it.
		m.respondLocked(f, ipcp.AllocResponse{Flow: f.ID, Data: f.TakeReply()}, func(err error) { m.respondedLocked(f, err) })
	}
}

// respondLocked answers a request that arrived; then is called, under the lock,
// when the IPCP has said how that went.
func (m *Manager) respondLocked(f *registry.Flow, r ipcp.AllocResponse, then func(error)) {
	control := f.Provider.Control
	m.thenLocked(func() {
		control.FlowAllocResp(r, func(err error) { m.decide(func() { then(err) }) })
	})
}

// refuseWaitingLocked refuses the flows that wait for a name to which no process
// is bound any more.
func (m *Manager) refuseWaitingLocked(name string) {
	m.wakeLocked(name)
	if m.mayServeLocked(name) == nil {
		return
	}
	for _, f := range m.reg.TakeWaiting(name) {
		m.respondLocked(f, ipcp.AllocResponse{Flow: f.ID, Code: core.ErrNotAllocated}, func(error) { m.removeLocked(f) })
	}
}

// respondedLocked goes on when the IPCP has answered the other end of the flow f,
// which a process accepts.
func (m *Manager) respondedLocked(f *registry.Flow, err error) {
	peer := f.Peer
	switch {
	case f.State() != registry.ReqArrived:
		// The request was withdrawn, or the process has died: f is being
		// deallocated already.
		m.creditLocked(f)
		if waiting := m.allocs[peer]; waiting != nil {
			waiting.giveUpLocked(wentAway(f.Name))
		}
	case err != nil:
		m.removeLocked(f)
		m.creditLocked(f)
	default:
		_ = f.SetState(registry.Allocated) // from ReqArrived: always
		m.infoLocked("Flow on flow_id %d allocated.", f.ID)
		if peer != nil {
			m.joinLocked(peer, f)
			return
		}
		m.deliverLocked(f, f.TakeEnd()) // the process that asked is another system's
	}
}

func wentAway(name string) error {
	return fmt.Errorf("%w: the process that accepted the flow to %q has ended", core.ErrNotAllocated, name)
}

// joinLocked has the memory made of a flow that the layer has spliced: server
// accepts, client asked.
func (m *Manager) joinLocked(client, server *registry.Flow) {
	waiting := m.allocs[client]
	switch {
	case waiting != nil:
	case m.fault("the server's end stays when the client has given up"):
		m.creditLocked(server)
		return
	default: // the client has given up in the meantime
		m.takeBackLocked(server, core.ErrFlowDown)
		return
	}
	who, held := client.User.Owner(), max(client.User.Held(), server.User.Held())
	m.laterLocked(func() {
		a, b, err := m.cfg.Memory.NewFlow(who, held)
		joined := false
		m.decide(func() { joined = m.joinedLocked(waiting, server, a, b, err) })
		if joined {
			m.cfg.Memory.Prepare()
		}
	})
}

// joinedLocked hands the memory of a flow to both processes: the client, which waits
// for the flow, and the process of server. It reports whether there is such a flow.
func (m *Manager) joinedLocked(waiting *allocation, server *registry.Flow, a, b registry.End, err error) bool {
	client := waiting.flow
	if err != nil {
		waiting.giveUpLocked(err)
		m.takeBackLocked(server, core.ErrLimit)
		return false
	}
	if m.allocs[client] != waiting || server.State() != registry.Allocated {
		// One has gone while the memory was made.
		m.closeLocked(a)
		m.closeLocked(b)
		waiting.giveUpLocked(wentAway(client.Name))
		m.takeBackLocked(server, core.ErrFlowDown)
		return false
	}
	client.Attach(a)
	client.Watch(a)
	server.Watch(b)
	m.deliverLocked(server, b)
	m.thenLocked(func() { m.decide(func() { m.offeredLocked(waiting, server) }) })
	return true
}

// offeredLocked hands the client its end, once the server has been sent the other
// end, if the server is still there.
func (m *Manager) offeredLocked(waiting *allocation, server *registry.Flow) {
	if server.State() == registry.UserGone || server.State() == registry.Deallocated {
		waiting.giveUpLocked(wentAway(server.Name))
		return
	}
	m.answerLocked(waiting.flow)
}

// deliverLocked hands f to the process that accepts it. If that has more accepts
// queued it accepts again from now on, which the log tells before anything that
// the flow leads to. The process that dialled does not wait until the other has taken
// the flow: a server that dies before that is treated like one that dies just after.
func (m *Manager) deliverLocked(f *registry.Flow, end registry.End) {
	if end == nil {
		// The other end has gone since; or the IPCP forgot the memory.
		m.takeBackLocked(f, core.ErrFlowDown)
		return
	}
	l, user, flow := f.Listener, f.User.User, f.Handed(end)
	if l.Credit > 0 && l.Process.Listener(l.ID) == l {
		m.acceptsLocked(l)
	}
	m.thenLocked(func() {
		user.FlowArrived(l.ID, flow, func(credit int, err error) {
			m.decide(func() { m.takenLocked(f, credit, err) })
		})
		flow.End.Close()
		flow.Secret.Zero() // the process has it
	})
}

// takenLocked goes on when the process of f has said that it has the flow, or why it
// has not.
func (m *Manager) takenLocked(f *registry.Flow, credit int, err error) {
	if err != nil { // it may take the next one
		m.takeBackLocked(f, core.ErrFlowDown)
		return
	}
	l := f.Listener
	m.arrivedOneLocked(l.Process)
	if credit > 0 {
		// A listener that was closed meanwhile needs none.
		_ = m.acceptLocked(l.Process, l.ID, credit)
	}
}

// arrivedOneLocked notes that a flow is not on its way to p any more. Flows to any of
// its names may have waited for that.
func (m *Manager) arrivedOneLocked(p *registry.Process) {
	full := p.Arriving == registry.MaxArriving
	if p.Arrived(); !full {
		return
	}
	for _, n := range p.Wanted() {
		if p.Arriving == registry.MaxArriving {
			return
		}
		m.matchLocked(n)
	}
}

// takeBackLocked releases f, which the process that accepts it never gets, and
// gives its listener the credit back.
func (m *Manager) takeBackLocked(f *registry.Flow, code core.Errno) {
	m.userLeftLocked(f, code, nil)
	m.creditLocked(f)
}

// creditLocked gives a listener back what a flow that never reached it had taken.
func (m *Manager) creditLocked(f *registry.Flow) {
	l := f.Listener
	if l.Process.Listener(l.ID) == l && !m.fault("credit is lost with a flow that never arrives") {
		l.Give(1)
	}
	m.arrivedOneLocked(l.Process)
	m.rematchLocked(l)
}

// rematchLocked gives l the flows that have waited for what it may take now.
func (m *Manager) rematchLocked(l *registry.Listener) {
	for _, n := range l.Wanted() {
		if l.Credit == 0 {
			return
		}
		m.matchLocked(n)
	}
}

// Splice joins the two ends of a flow that the IPCP i provides.
func (m *Manager) Splice(i IPCP, a, b core.FlowID) (err error) {
	m.decide(func() { err = m.spliceLocked(i.record, a, b) })
	return err
}

func (m *Manager) spliceLocked(i *registry.IPCP, a, b core.FlowID) error {
	fa, fb := m.reg.Flow(a), m.reg.Flow(b)
	if fa == nil || fb == nil || fa == fb || fa.Provider != i || fb.Provider != i {
		return fmt.Errorf("%w: flows %d and %d", core.ErrNotFound, a, b)
	}
	// The process at b may have died since it accepted: the end of the
	// allocation at a waits for that news.
	bOK := fb.State() == registry.ReqArrived || fb.State() == registry.UserGone
	if fa.State() != registry.AllocPending || !bOK || fa.Peer != nil || fb.Peer != nil || fa.Attached() || fb.Attached() {
		return fmt.Errorf("%w: flow %d is %v, flow %d is %v", core.ErrState, a, fa.State(), b, fb.State())
	}
	m.reg.Splice(fa, fb)
	return nil
}

// Attach makes the memory of a flow whose packets the IPCP by carries itself
// and returns the IPCP's end.
func (m *Manager) Attach(by IPCP, id core.FlowID) (End, error) {
	i := by.record
	var err error
	var held int
	who := Owner{Admin: true} // the IPCP itself
	m.decide(func() {
		var f *registry.Flow
		if f, err = m.attachableLocked(i, id); err == nil && f.User != nil {
			who = f.User.Owner()
		}
		held = i.Provided()
	})
	if err != nil {
		return nil, err
	}
	ours, theirs, err := m.cfg.Memory.NewFlow(who, held)
	if err != nil {
		return nil, err
	}
	m.decide(func() {
		var f *registry.Flow
		if f, err = m.attachableLocked(i, id); err == nil {
			f.Attach(ours)
			f.Watch(ours)
		}
	})
	if err != nil {
		ours.Close()
		theirs.Close()
		return nil, err
	}
	return theirs, nil
}

// attachableLocked returns the flow id, which i provides and has no memory yet.
func (m *Manager) attachableLocked(i *registry.IPCP, id core.FlowID) (*registry.Flow, error) {
	f := m.reg.Flow(id)
	if f == nil || f.Provider != i {
		return nil, fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
	}
	if s := f.State(); f.Peer != nil || f.Attached() || s != registry.AllocPending && s != registry.ReqArrived {
		return nil, fmt.Errorf("%w: flow %d is %v", core.ErrState, id, s)
	}
	return f, nil
}
