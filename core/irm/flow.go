package irm

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	done    func(HandedFlow, error)
	counted bool // as an allocation that is under way
	replied bool // the IPCP has brought the other end's answer
}

// FlowAlloc allocates a flow from p to name. done gets the flow, whose End is valid
// until done returns, or the reason why there is none; once, within timeout (0:
// core.AllocTimeout), and not at all where the IRM stops. cancel gives up before that.
func (m *Manager) FlowAlloc(p Process, name string, qos core.QoS, timeout time.Duration, done func(HandedFlow, error)) (cancel func()) {
	a := &allocation{m: m, p: p.record, name: name, qos: qos, done: done}
	if timeout <= 0 {
		timeout = core.AllocTimeout
	}
	m.decide(func() {
		if err := core.CheckName(name); err != nil {
			a.failLocked(err)
			return
		}
		m.infoLocked("Allocating flow for %d to %s.", a.p.PID, name)
		if err := m.reg.MayAllocate(a.p.Owner()); err != nil {
			a.failLocked(err)
			return
		}
		a.counted = true
		patience := timeout
		if m.fault("a time-out comes too late") {
			patience *= 3
		}
		a.timer = time.AfterFunc(patience, func() {
			a.giveUp(fmt.Errorf("%w: no process accepted the flow to %q within %v", core.ErrTimeout, name, timeout.Round(time.Millisecond)))
		})
		up := m.waysLocked(a.p, name)
		switch {
		case len(up) > 0 && up[0].Knows(name):
			a.startLocked(up[0])
		case !m.stopping:
			m.wg.Add(1) // now: Stop waits for it
			m.laterLocked(func() {
				go func() {
					defer m.wg.Done()
					a.search(up)
				}()
			})
		}
	})
	return a.cancel
}

// waysLocked returns the IPCPs through which p may reach name, in the order of
// their ranks. An IPCP does not reach others through its own layer. If several members
// of one far layer are on this system, those that have not registered the name come
// first. So members on one system treat each other like members on several.
func (m *Manager) waysLocked(p *registry.Process, name string) []*registry.IPCP {
	up := m.reg.Layers()
	for _, own := range up {
		if own.PID == p.PID {
			up = slices.DeleteFunc(up, func(i *registry.IPCP) bool { return i.Type.Name == own.Type.Name && i.Layer == own.Layer })
			break
		}
	}
	for n := len(up) - 1; n >= 0; n-- {
		if !up[n].Type.Far || !up[n].Knows(name) {
			continue
		}
		last := n
		for j := n + 1; j < len(up); j++ {
			if up[j].Type.Name == up[n].Type.Name && up[j].Layer == up[n].Layer && !up[j].Knows(name) {
				last = j
			}
		}
		i := up[n]
		copy(up[n:last], up[n+1:last+1])
		up[last] = i
	}
	return up
}

func (a *allocation) cancel() {
	a.giveUp(fmt.Errorf("%w: the flow to %q is not wanted any more", core.ErrCanceled, a.name))
}

const (
	// queryTimeout bounds the search for a name in one layer.
	queryTimeout = 2 * time.Second
	// rankPatience is how long a layer that is preferred may still take after another
	// layer has said that it knows the name.
	rankPatience = 300 * time.Millisecond
)

// search finds the layer of the lowest rank that knows the name. Layers within
// this system, whose ranks are the lowest, answer at once and are asked in turn; then
// all others together.
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
			a.m.decide(func() { a.startLocked(i) })
			return
		}
	}
	if i := a.searchFar(far, said); i != nil {
		a.m.decide(func() { a.startLocked(i) })
		return
	}
	if a.wanted() {
		err := a.unknown(up, said)
		a.m.decide(func() { a.failLocked(err) })
	}
}

// wanted reports whether the process still waits for the flow.
func (a *allocation) wanted() bool {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	return a.done != nil
}

// query asks the layer of i for the name, unless this system has registered the name
// there.
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
	own := "" // the layer of the IPCP that asks, where it alone knows the name
	for _, i := range a.m.reg.IPCPs() {
		if i.Knows(a.name) && !slices.Contains(up, i) {
			own = i.Layer
		}
	}
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
	case own != "":
		return fmt.Errorf("%w: %q is registered in %s alone, and a member of that layer does not reach others through it; register it in a layer below: irm name register %s layer LAYER", core.ErrIPCP, a.name, own, logs.Word(a.name))
	case len(up) == 0:
		return fmt.Errorf("%w: there is no layer yet; make one: irm ipcp bootstrap type local name IPCP layer LAYER", core.ErrIPCP)
	case !created:
		return fmt.Errorf("%w: no layer here knows %q%s; register it: irm name register %s layer LAYER", core.ErrName, a.name, detail, logs.Word(a.name))
	}
	return fmt.Errorf("%w: %q is registered in none%s; register it: irm name register %s layer LAYER", core.ErrIPCP, a.name, detail, logs.Word(a.name))
}

// startLocked asks the IPCP i for the flow, after the beginning of a handshake if the
// other end may be on another system.
func (a *allocation) startLocked(i *registry.IPCP) {
	if i.Type.Far {
		a.shakeLocked(i)
		return
	}
	a.requestLocked(i, nil, nil)
}

// requestLocked asks the IPCP i for the flow. Through a far layer asked is the
// handshake, and data goes to the other IRMd.
func (a *allocation) requestLocked(i *registry.IPCP, asked *oap.Asked, data []byte) {
	m := a.m
	if a.done == nil || a.p.Gone || m.stopping {
		return
	}
	f := m.reg.NewFlow(a.p, i, a.name, a.qos)
	a.flow, a.asked = f, asked
	m.allocs[f] = a
	req := ipcp.AllocRequest{Flow: f.ID, Dst: i.Sum(a.name), QoS: a.qos, Data: data}
	if asked != nil {
		a.again = time.AfterFunc(pauses[0], func() { a.askAgain(req) })
	}
	control, name := i.Control, i.Name
	m.thenLocked(func() {
		control.FlowAlloc(req, func(err error) {
			if errors.Is(err, core.ErrIPCP) {
				err = fmt.Errorf("%w: the IPCP %q has just ended", core.ErrIPCP, name)
			}
			if err != nil {
				m.decide(func() { m.refusedLocked(f, err) })
			}
		})
	})
}

// pauses are the pauses before each repetition of a request to another system that
// nobody has answered.
var pauses = []time.Duration{time.Second, 2 * time.Second, 6 * time.Second}

// awaitsReplyLocked reports whether the other end has still to answer a.
func (a *allocation) awaitsReplyLocked() bool {
	return a.done != nil && !a.replied && a.flow.State() == registry.AllocPending && !a.m.stopping
}

// askAgain sends the request of a once more, with a new time in it.
func (a *allocation) askAgain(req ipcp.AllocRequest) {
	m := a.m
	var asked *oap.Asked
	m.decide(func() {
		if a.awaitsReplyLocked() {
			asked = a.asked
		}
	})
	if asked == nil {
		return
	}
	data, err := asked.Again(time.Now()) // which may take a signature
	if err != nil {
		return
	}
	m.decide(func() {
		if !a.awaitsReplyLocked() {
			return
		}
		req.Again, req.Data = true, data
		if a.tries++; a.tries < len(pauses) {
			a.again.Reset(pauses[a.tries])
		}
		control := a.flow.Provider.Control
		m.thenLocked(func() { control.FlowAlloc(req, func(error) {}) })
	})
}

// takeLocked ends a and returns its done, or nil if a has ended before. While the
// IRM stops, done does nothing: the process hears of the end from its closed link, and
// not from an answer.
func (a *allocation) takeLocked() func(HandedFlow, error) {
	done := a.done
	if a.done = nil; a.m.fault("an allocation is answered twice") {
		a.done = done
	}
	if a.flow != nil {
		delete(a.m.allocs, a.flow)
	}
	if a.counted {
		a.counted = false
		a.m.reg.Give(a.p.Owner(), registry.Allocations, 1)
	}
	for _, t := range []*time.Timer{a.timer, a.again} {
		if t != nil {
			t.Stop()
		}
	}
	if done != nil && a.m.stopping {
		return func(HandedFlow, error) {}
	}
	return done
}

// failLocked answers the process with err; there is no flow, or none any more.
func (a *allocation) failLocked(err error) {
	if done := a.takeLocked(); done != nil {
		a.m.thenLocked(func() { done(HandedFlow{}, err) })
	}
}

// giveUpLocked ends an allocation that is still under way, from the process's side.
func (a *allocation) giveUpLocked(err error) {
	done := a.takeLocked()
	if done == nil {
		return
	}
	if a.flow != nil {
		a.m.userLeftLocked(a.flow, core.ErrCanceled, nil)
	}
	a.m.thenLocked(func() { done(HandedFlow{}, err) })
}

func (a *allocation) giveUp(err error) { a.m.decide(func() { a.giveUpLocked(err) }) }

// refusedLocked says that the layer does not give f to the process that asked.
func (m *Manager) refusedLocked(f *registry.Flow, err error) {
	a := m.allocs[f]
	if a == nil || f.State() != registry.AllocPending {
		return
	}
	done := a.takeLocked()
	m.removeLocked(f)
	m.thenLocked(func() { done(HandedFlow{}, err) })
}

// FlowAllocReply takes the answer of the other end of a flow from the IPCP i.
func (m *Manager) FlowAllocReply(i IPCP, r ipcp.AllocReply) (err error) {
	m.decide(func() { err = m.repliedLocked(i.record, r) })
	return err
}

func (m *Manager) repliedLocked(i *registry.IPCP, r ipcp.AllocReply) error {
	f := m.reg.Flow(r.Flow)
	if f == nil || f.Provider != i {
		return fmt.Errorf("%w: flow %d", core.ErrNotFound, r.Flow)
	}
	a := m.allocs[f]
	if a == nil || a.replied {
		return fmt.Errorf("%w: nobody waits for flow %d", core.ErrState, r.Flow)
	}
	a.replied = true
	far := a.asked != nil && f.Peer == nil // else both ends are on this system
	switch {
	case r.Code == 0 && far:
		m.laterLocked(func() { m.finish(a, f, r) })
	case r.Code == 0:
		if err := f.SetState(registry.Allocated); err != nil {
			return err
		}
		m.infoLocked("Flow on flow_id %d allocated.", r.Flow)
		if f.Peer == nil { // else the answer waits until the IPCP has finished
			m.answerLocked(f)
		}
	case far && (r.Code == core.ErrCrypt || r.Code == core.ErrAuth):
		m.refusedLocked(f, fmt.Errorf("%w: the IRMd at the other end refused the flow to %q, for which this end asked for %v; the log of that IRMd says what it wants", r.Code, a.name, a.asked))
	default:
		m.refusedLocked(f, fmt.Errorf("%w: the other end refused the flow to %q; \"irm name show %s\" may tell why", r.Code, a.name, logs.Word(a.name)))
	}
	return nil
}

// finishedLocked goes on with the allocation a of f, to which the other end has
// answered yes: s was agreed on.
func (m *Manager) finishedLocked(a *allocation, f *registry.Flow, r ipcp.AllocReply, s *oap.Session) {
	if m.allocs[f] == a {
		f.Came(r.From, r.Path)
	}
	if m.allocs[f] != a || f.SetState(registry.Allocated) != nil {
		s.Zero() // nobody waits for the flow any more
		return
	}
	f.Agree(s)
	m.infoLocked("Flow on flow_id %d allocated.", f.ID)
	m.answerLocked(f)
}

// answerLocked hands the process that asked for f its end of the memory.
func (m *Manager) answerLocked(f *registry.Flow) {
	a := m.allocs[f]
	if a == nil {
		return
	}
	done, end := a.takeLocked(), f.TakeEnd()
	if end == nil {
		m.userLeftLocked(f, core.ErrInternal, nil)
		m.thenLocked(func() {
			done(HandedFlow{}, fmt.Errorf("%w: the other end of the flow to %q went before it was complete", core.ErrNotAllocated, a.name))
		})
		return
	}
	flow := f.Handed(end)
	m.thenLocked(func() {
		done(flow, nil)
		flow.End.Close()
		flow.Secret.Zero() // the process has it
	})
}
