package irm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/oap"
	"o7s/core/registry"
)

// allocation is a process's wish for a flow, from its call to its answer:
//
//	FlowAlloc    process -> IRM     an IPCP that knows the name is found
//	start        IRM -> IPCP        FlowAlloc of the process's end
//	FlowReqArr   IPCP -> IRM        the other end, on this system (arrive.go)
//	respond      IRM -> IPCP        FlowAllocResp of that end
//	replied      IPCP -> IRM        FlowAllocReply
//	answer       IRM -> process     the flow
//
// Where the layer is a local one both halves happen here; else one half does.
type allocation struct {
	m    *Manager
	p    *registry.Process
	name string
	qos  core.QoS

	// Guarded by m.mu.
	timer   *time.Timer
	asked   *oap.Asked  // of a far layer: the handshake with the other IRMd
	again   *time.Timer // when the request is sent again
	tries   int
	flow    *registry.Flow // nil until an IPCP is asked
	done    func(*registry.Flow, registry.End, error)
	replied bool // the IPCP has brought the other end's answer
}

// FlowAlloc allocates a flow from p to name. done gets the flow and p's end
// of its memory, lent for the call, or the reason why there is none; once,
// within timeout (0: core.AllocTimeout). cancel gives up before that.
func (m *Manager) FlowAlloc(p *registry.Process, name string, qos core.QoS, timeout time.Duration, done func(*registry.Flow, registry.End, error)) (cancel func()) {
	a := &allocation{m: m, p: p, name: name, qos: qos, done: done}
	if err := core.CheckName(name); err != nil {
		a.fail(err)
		return func() {}
	}
	m.log.Infof("Allocating flow for %d to %s.", p.PID, name)
	if timeout <= 0 {
		timeout = core.AllocTimeout
	}
	m.mu.Lock()
	a.timer = time.AfterFunc(timeout, func() {
		a.giveUp(fmt.Errorf("%w: no process accepted the flow to %q within %v", core.ErrTimeout, name, timeout.Round(time.Millisecond)))
	})
	up := m.reg.Layers()
	direct := len(up) > 0 && up[0].Knows(name)
	if !direct && !m.stopping {
		m.wg.Go(func() { a.search(up) })
	}
	m.mu.Unlock()
	if direct {
		a.start(up[0])
	}
	return a.cancel
}

func (a *allocation) cancel() {
	a.giveUp(fmt.Errorf("%w: the flow to %q is not wanted any more", core.ErrCanceled, a.name))
}

const (
	// queryTimeout bounds the search for a name in one layer.
	queryTimeout = 2 * time.Second
	// rankPatience is how long a layer of lower rank may still take after the
	// first one that knows the name.
	rankPatience = 300 * time.Millisecond
)

// search finds the layer of the lowest rank that knows the name. Layers within
// this system answer at once and are asked in turn, then all others together.
func (a *allocation) search(up []*registry.IPCP) {
	var far []*registry.IPCP
	said := make(map[*registry.IPCP]error) // what the layers said that do not know it
	for _, i := range up {
		if i.Type.Far {
			far = append(far, i)
			continue
		}
		if !a.wanted() {
			return
		}
		if said[i] = a.query(i); said[i] == nil {
			a.start(i)
			return
		}
	}
	if i := a.searchFar(far, said); i != nil {
		a.start(i)
		return
	}
	if a.wanted() {
		a.fail(a.unknown(up, said))
	}
}

// wanted reports whether the process still waits for the flow.
func (a *allocation) wanted() bool {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	return a.done != nil
}

// query asks the layer of i for the name. One that this system has registered
// the name with needs no asking.
func (a *allocation) query(i *registry.IPCP) error {
	a.m.mu.Lock()
	known := i.Knows(a.name)
	a.m.mu.Unlock()
	if known {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	return i.Control.Query(ctx, i.Hash.Sum(a.name))
}

// searchFar asks all of far, which are in the order of their ranks, at once. It
// takes the first that knows the name once those before it have said no, or have
// had rankPatience. What the others said is added to said.
func (a *allocation) searchFar(far []*registry.IPCP, said map[*registry.IPCP]error) *registry.IPCP {
	type answer struct {
		n   int
		err error
	}
	answers := make(chan answer, len(far))
	for n, i := range far {
		a.m.wg.Go(func() { answers <- answer{n, a.query(i)} })
	}
	silent := make(map[int]bool)
	for n := range far {
		silent[n] = true
	}
	best := len(far)
	var patience <-chan time.Time
	for len(silent) > 0 {
		select {
		case w := <-answers:
			delete(silent, w.n)
			if w.err != nil {
				said[far[w.n]] = w.err
				break
			}
			best = min(best, w.n)
			if patience == nil {
				patience = time.After(rankPatience)
			}
		case <-patience:
			return far[best]
		}
		before := 0 // layers before the best one that may still know it
		for n := range silent {
			if n < best {
				before++
			}
		}
		if before == 0 && best < len(far) {
			return far[best]
		}
	}
	return nil
}

// unknown returns the error of a name that no layer of up knows: with what each
// said, where there are several or one did not answer.
func (a *allocation) unknown(up []*registry.IPCP, said map[*registry.IPCP]error) error {
	a.m.mu.Lock()
	created := a.m.reg.Name(a.name) != nil
	a.m.mu.Unlock()
	var no, failed []string
	for _, i := range up {
		switch err := said[i]; {
		case errors.Is(err, core.ErrName):
			no = append(no, i.Layer)
		case errors.Is(err, core.ErrTimeout):
			failed = append(failed, fmt.Sprintf("%s did not answer (%v)", i.Layer, err))
		default:
			failed = append(failed, fmt.Sprintf("%s could not tell (%v)", i.Layer, err))
		}
	}
	detail := ""
	if len(up) > 1 || len(failed) > 0 {
		if len(no) > 0 {
			failed = append([]string{strings.Join(no, " and ") + " said no"}, failed...)
		}
		detail = ": " + strings.Join(failed, ", ")
	}
	switch {
	case len(up) == 0:
		return fmt.Errorf("%w: there is no layer yet; make one: irm ipcp bootstrap type local name IPCP layer LAYER", core.ErrIPCP)
	case !created:
		return fmt.Errorf("%w: no layer here knows %q%s; register it: irm name register %s layer LAYER", core.ErrName, a.name, detail, logs.Word(a.name))
	}
	return fmt.Errorf("%w: %q is registered in none%s; register it: irm name register %s layer LAYER", core.ErrIPCP, a.name, detail, logs.Word(a.name))
}

// start asks the IPCP i for the flow, after the beginning of a handshake if the
// other end may be on another system.
func (a *allocation) start(i *registry.IPCP) {
	if i.Type.Far {
		a.shake(i)
		return
	}
	a.request(i, nil, nil)
}

// request asks the IPCP i for the flow. Through a far layer asked is the handshake,
// and data goes to the other IRMd.
func (a *allocation) request(i *registry.IPCP, asked *oap.Asked, data []byte) {
	m := a.m
	m.mu.Lock()
	if a.done == nil || a.p.Gone || m.stopping {
		m.mu.Unlock()
		return
	}
	f := m.reg.NewFlow(a.p, i, a.name, a.qos)
	a.flow, a.asked = f, asked
	m.allocs[f] = a
	m.asking[f] = []func(){}
	req := ipcp.AllocRequest{Flow: f.ID, Dst: i.Sum(a.name), QoS: a.qos, Data: data}
	if asked != nil {
		a.again = time.AfterFunc(askAgain[0], func() { a.askAgain(req) })
	}
	m.mu.Unlock()
	defer m.asked(f)
	i.Control.FlowAlloc(req, func(err error) {
		if errors.Is(err, core.ErrIPCP) {
			err = fmt.Errorf("%w: the IPCP %q has just ended", core.ErrIPCP, i.Name)
		}
		if err != nil {
			m.refused(f, err)
		}
	})
}

// askAgain is when a request to another system that nothing has answered is sent
// again, after the time before.
var askAgain = []time.Duration{time.Second, 2 * time.Second, 6 * time.Second}

// askAgain sends the request of a once more, with a new time in it.
func (a *allocation) askAgain(req ipcp.AllocRequest) {
	m := a.m
	wanted := func() bool {
		return a.done != nil && !a.replied && a.flow.State() == registry.AllocPending && !m.stopping
	}
	m.mu.Lock()
	ok := wanted()
	m.mu.Unlock()
	if !ok {
		return
	}
	data, err := a.asked.Again(time.Now()) // which may take a signature
	m.mu.Lock()
	if err != nil || !wanted() {
		m.mu.Unlock()
		return
	}
	control := a.flow.Provider.Control
	req.Again, req.Data = true, data
	if a.tries++; a.tries < len(askAgain) {
		a.again.Reset(askAgain[a.tries])
	}
	m.mu.Unlock()
	control.FlowAlloc(req, func(error) {})
}

// asked does what has waited until the IPCP of f was told of it: a process that
// gives up in that moment must not be heard of first.
func (m *Manager) asked(f *registry.Flow) {
	m.mu.Lock()
	waiting := m.asking[f]
	delete(m.asking, f)
	m.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// takeLocked ends a: it returns the function to call with the outcome, nil if
// another call has it already. Where the IRM stops that is what the process
// hears, by the end of its link, and not what its flow comes to then.
func (a *allocation) takeLocked() func(*registry.Flow, registry.End, error) {
	done := a.done
	a.done = nil
	if a.flow != nil {
		delete(a.m.allocs, a.flow)
	}
	for _, t := range []*time.Timer{a.timer, a.again} {
		if t != nil {
			t.Stop()
		}
	}
	if done != nil && a.m.stopping {
		return func(*registry.Flow, registry.End, error) {}
	}
	return done
}

// fail answers the process with err; there is no flow, or none any more.
func (a *allocation) fail(err error) {
	a.m.mu.Lock()
	done := a.takeLocked()
	a.m.mu.Unlock()
	if done != nil {
		done(nil, nil, err)
	}
}

// giveUp ends an allocation that is still under way, from the process's side.
func (a *allocation) giveUp(err error) {
	a.m.mu.Lock()
	done, f := a.takeLocked(), a.flow
	a.m.mu.Unlock()
	if done == nil {
		return
	}
	if f != nil {
		a.m.userLeft(f, core.ErrCanceled, func(error) {})
	}
	done(nil, nil, err)
}

// refused says that the layer does not give f to the process that asked.
func (m *Manager) refused(f *registry.Flow, err error) {
	m.mu.Lock()
	a := m.allocs[f]
	if a == nil || f.State() != registry.AllocPending {
		m.mu.Unlock()
		return
	}
	done := a.takeLocked()
	finish := m.removeLocked(f)
	m.mu.Unlock()
	finish()
	done(nil, nil, err)
}

// FlowAllocReply is the word of the IPCP i that the other end of the flow id
// has answered.
func (m *Manager) FlowAllocReply(i *registry.IPCP, r ipcp.AllocReply) error {
	id, code := r.Flow, r.Code
	m.mu.Lock()
	f := m.reg.Flow(id)
	if f == nil || f.Provider != i {
		m.mu.Unlock()
		return fmt.Errorf("%w: flow %d", core.ErrNotFound, id)
	}
	a := m.allocs[f]
	if a == nil || a.replied {
		m.mu.Unlock()
		return fmt.Errorf("%w: nobody waits for flow %d", core.ErrState, id)
	}
	a.replied = true
	far := a.asked != nil && f.Peer == nil // else both ends are on this system
	if code == 0 && !far {
		err := f.SetState(registry.Allocated)
		spliced := f.Peer != nil
		m.mu.Unlock()
		if err != nil {
			return err
		}
		m.log.Infof("Flow on flow_id %d allocated.", id)
		if !spliced { // else the answer waits until the IPCP has finished
			m.answer(f)
		}
		return nil
	}
	m.mu.Unlock()
	if code == 0 {
		return m.finish(a, f, r)
	}
	err := fmt.Errorf("%w: the other end refused the flow to %q; \"irm name show %s\" may tell why", code, a.name, logs.Word(a.name))
	if far && (code == core.ErrCrypt || code == core.ErrAuth) {
		err = fmt.Errorf("%w: the IRMd at the other end refused the flow to %q, for which this end asked for %v; the log of that IRMd says what it wants", code, a.name, a.asked)
	}
	m.refused(f, err)
	return nil
}

// finished goes on with the allocation a of f, to which the other end has answered
// yes: s was agreed on.
func (m *Manager) finished(a *allocation, f *registry.Flow, r ipcp.AllocReply, s *oap.Session) error {
	m.mu.Lock()
	err := fmt.Errorf("%w: nobody waits for flow %d", core.ErrState, f.ID)
	if m.allocs[f] == a {
		err = f.SetState(registry.Allocated)
	}
	if err != nil {
		m.mu.Unlock()
		s.Zero()
		return err
	}
	f.From, f.Path = r.From, r.Path
	f.Agree(s)
	m.mu.Unlock()
	m.log.Infof("Flow on flow_id %d allocated.", f.ID)
	m.answer(f)
	return nil
}

// answer hands the process that asked for f its end of the memory.
func (m *Manager) answer(f *registry.Flow) {
	m.mu.Lock()
	a, end := m.allocs[f], f.End
	if a == nil {
		m.mu.Unlock()
		return
	}
	done := a.takeLocked()
	f.End = nil
	m.mu.Unlock()
	if end == nil {
		m.userLeft(f, core.ErrInternal, func(error) {})
		done(nil, nil, fmt.Errorf("%w: the other end of the flow to %q went before it was complete", core.ErrNotAllocated, f.Name))
		return
	}
	done(f, end, nil)
	end.Close()
	f.Secret.Zero() // the process has it
	m.tellDown(f)
}
