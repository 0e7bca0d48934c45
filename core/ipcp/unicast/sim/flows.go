package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/carry"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/fa"
	"o7s/core/logs"
	"o7s/core/oap"
)

// The processes of members: they ask for flows to names, accept most of those that are
// asked for, keep them for a while and give them up.
const (
	// askTime is how long a process waits for the answer to its request.
	askTime = 20 * time.Second
	// holdTime bounds how long a process keeps a flow.
	holdTime = 20 * time.Second
	// Over is the time after the last request after which nothing is left of any
	// flow, whatever has happened to its other end.
	Over = 150 * time.Second
)

// ask is one request of a process for a flow.
type ask struct {
	from    *member
	name    string
	until   time.Time // when the process gives up
	answers int       // it was answered, or has given up: in all
}

// end is a process's end of a flow.
type end struct {
	id    core.FlowID
	token string // of its request
	asks  *ask   // nil: the other end's process has asked
	eid   uint64 // 0: nobody has heard of it
	left  bool   // the process has given it up
}

// host is the processes of a member, and the part of its IRMd.
type host struct {
	m    *member
	next core.FlowID
	ends map[core.FlowID]*end
	eids map[uint64]string // in use, with the tokens of their flows
}

// flows returns the flows of m, which begin with the first call.
func (m *member) flows() *carry.Flows[uint64] {
	if m.carry != nil {
		return m.carry
	}
	m.host = &host{m: m, ends: make(map[core.FlowID]*end), eids: make(map[uint64]string)}
	m.carry = carry.New(ipcp.Env{Host: m.host, Clock: m.l.clock, Log: logs.Discard()}, carry.Config[uint64]{
		IDs: carry.IDs64, Anonymous: true, Ours: oap.Ours,
		Path: func(uint64) ipcp.Path { return ipcp.Path{Max: 1400, Best: 1400} },
		Text: func(addr uint64) string { return fmt.Sprint(addr) },
	}, (*allocator)(m))
	if err := m.carry.Begin(func() error { return nil }, func() {}); err != nil {
		m.l.fail("member %d can't begin to carry: %v", m.n, err)
	}
	return m.carry
}

// stopFlows ends the flows of m. What it says then is lost where m has crashed.
func (m *member) stopFlows() {
	if m.carry != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		m.carry.Serve(ctx, func() {}, func() {})
	}
}

// Ask has a process of some member ask for a flow to name.
func (l *Layer) Ask(name string) {
	m := l.any()
	if l.names[name] == m {
		return // both ends on one member: no message is sent
	}
	l.asked++
	token := fmt.Sprintf("%016d", l.asked)
	a := &ask{from: m, name: name, until: l.clock.Now().Add(askTime)}
	l.asks = append(l.asks, a)
	flows := m.flows()
	m.host.next++
	e := &end{id: m.host.next, token: token, asks: a}
	m.host.ends[e.id] = e
	h := hash.SHA3_256.Sum(name)
	m.dir.Find(h, func(addr uint64) {
		if !m.alive || a.answers > 0 {
			return
		}
		if addr == 0 {
			m.host.answered(e)
			m.host.release(e)
			return
		}
		req := ipcp.AllocRequest{Flow: e.id, Dst: h, QoS: core.QoSRaw, Data: []byte(token)}
		flows.FlowAlloc(req, func(err error) {
			if err != nil {
				m.host.answered(e)
				m.host.release(e)
			}
		})
		for _, d := range []time.Duration{time.Second, 3 * time.Second, 7 * time.Second} {
			l.clock.Call(d, func() {
				if m.alive && a.answers == 0 {
					again := req
					again.Again = true
					flows.FlowAlloc(again, func(error) {})
				}
			})
		}
	})
	l.clock.Call(askTime, func() {
		if m.alive && a.answers == 0 {
			m.host.answered(e)
			m.host.leave(e)
		}
	})
}

// answered counts an answer to the request of e.
func (h *host) answered(e *end) {
	if h.m.l.cfg.Fault == "an answer is lost" && h.m.n%3 == 1 {
		return
	}
	if e.asks.answers++; e.asks.answers > 1 {
		h.m.l.fail("a request for a flow to %s is answered twice", e.asks.name)
	}
}

// use notes that the endpoint id eid belongs to the flow of token.
func (h *host) use(eid uint64, token string) {
	if h.m.l.cfg.Fault == "an endpoint id is shared" {
		eid = dt.FirstFlow
	}
	if other, ok := h.eids[eid]; ok && other != token {
		h.m.l.fail("member %d gives the endpoint id %d to two flows", h.m.n, eid)
	}
	h.eids[eid] = token
	for _, e := range h.ends {
		if e.token == token {
			e.eid = eid
		}
	}
}

// release forgets e: the layer has.
func (h *host) release(e *end) {
	delete(h.ends, e.id)
	delete(h.eids, e.eid)
}

// leave gives e up, unless that was done.
func (h *host) leave(e *end) {
	if h.m.l.cfg.Fault == "a flow is never given up" && h.m.n%3 == 1 {
		return
	}
	if !e.left && h.ends[e.id] == e && h.m.alive {
		e.left = true
		h.m.carry.FlowDealloc(ipcp.DeallocRequest{Flow: e.id, Tell: true}, func(error) {})
	}
}

// hold keeps e for a while.
func (h *host) hold(e *end) {
	l := h.m.l
	l.clock.Call(time.Duration(l.rnd.Int64N(int64(holdTime))), func() { h.leave(e) })
}

// FlowReqArr implements ipcp.Host.
func (h *host) FlowReqArr(a ipcp.Arrival, got func(core.FlowID, error)) {
	h.next++
	e := &end{id: h.next, token: string(a.Data)}
	h.ends[e.id] = e
	got(e.id, nil)
	l := h.m.l
	resp := ipcp.AllocResponse{Flow: e.id, Data: a.Data}
	switch l.rnd.IntN(10) {
	case 0:
		return // nobody answers
	case 1, 2:
		resp.Code, resp.Data = core.ErrPermission, nil
	}
	l.clock.Call(time.Duration(l.rnd.Int64N(int64(3*time.Second))), func() {
		if !h.m.alive || h.ends[e.id] != e {
			return
		}
		h.m.carry.FlowAllocResp(resp, func(err error) {
			switch {
			case err == nil && resp.Code == 0:
				h.hold(e)
			case h.ends[e.id] == e:
				h.release(e)
			}
		})
	})
}

// FlowAllocReply implements ipcp.Host.
func (h *host) FlowAllocReply(r ipcp.AllocReply, done func(error)) {
	e := h.ends[r.Flow]
	switch {
	case e == nil || e.asks == nil:
		h.m.l.fail("an answer comes to member %d, which has not asked", h.m.n)
	case r.Code != 0:
		h.answered(e)
		h.release(e)
	default:
		h.answered(e)
		if string(r.Data) != e.token {
			h.m.l.fail("the request %s gets the answer to %s", e.token, r.Data)
		}
		h.hold(e)
	}
	done(nil)
	if h.m.l.cfg.Fault == "an answer comes twice" && e != nil && e.asks != nil {
		h.answered(e)
	}
}

// FlowDealloc implements ipcp.Host.
func (h *host) FlowDealloc(id core.FlowID, done func(error)) {
	if e := h.ends[id]; e != nil {
		h.release(e)
	}
	done(nil)
}

// FlowEnd implements ipcp.Host.
func (h *host) FlowEnd(id core.FlowID, _ core.Errno) {
	if e := h.ends[id]; e != nil {
		h.m.l.clock.Call(0, func() { h.leave(e) })
	}
}

// Splice implements ipcp.Host.
func (h *host) Splice(core.FlowID, core.FlowID) error { return nil }

// Attach implements ipcp.Host.
func (h *host) Attach(id core.FlowID, got func(ipcp.Flow, error)) {
	got(&memory{h: h, e: h.ends[id]}, nil)
}

// NewSet implements ipcp.Host.
func (h *host) NewSet() (ipcp.Set, error) { return &set{closed: make(chan struct{})}, nil }

// memory is that of a flow whose process writes nothing.
type memory struct {
	ipcp.Flow
	h *host
	e *end
}

func (f *memory) Look([][]byte) (int, error)    { return 0, nil }
func (f *memory) Put(_, _ []byte) (bool, error) { return true, nil }
func (f *memory) Publish()                      {}
func (f *memory) Abort() error                  { return nil }

// Close has the process, which sees that, give the flow up.
func (f *memory) Close() error {
	if f.e != nil {
		f.h.m.l.clock.Call(0, func() { f.h.leave(f.e) })
	}
	return nil
}

// set is one without news.
type set struct {
	once   sync.Once
	closed chan struct{}
}

func (s *set) Add(ipcp.Flow, any) error { return nil }
func (s *set) Remove(ipcp.Flow)         {}
func (s *set) Room(ipcp.Flow, int)      {}
func (s *set) Park(ipcp.Flow)           {}
func (s *set) Unpark(ipcp.Flow)         {}
func (s *set) Next() (any, bool)        { return nil, false }

func (s *set) Wait(ctx context.Context) (any, error) {
	select {
	case <-s.closed:
		return nil, core.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *set) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// allocator is carry.Out of a member.
type allocator member

func (a *allocator) send(to, eid uint64, m *fa.Message) {
	var b []byte
	if m != nil {
		b = m.Append(nil)
	}
	(*member)(a).forward(packet{dst: to, ttl: ttl, eid: eid, message: b})
}

// Find implements carry.Out.
func (a *allocator) Find(dst core.Hash) (uint64, error) {
	if addr, ok := a.dir.Known(dst); ok {
		return addr, nil
	}
	return 0, core.ErrName
}

// Request implements carry.Out.
func (a *allocator) Request(to, eid uint64, dst core.Hash, qos core.QoS, data []byte) error {
	a.host.use(eid, string(data))
	a.send(to, dt.FlowAllocator, &fa.Message{Code: fa.Request, From: a.addr, Sender: eid, QoS: qos, Rest: append([]byte(dst), data...)})
	return nil
}

// Reply implements carry.Out.
func (a *allocator) Reply(to, remote, eid uint64, code core.Errno, data []byte) {
	m := &fa.Message{Code: fa.Reply, Receiver: remote, Response: carry.Response(code)}
	if code == 0 {
		a.host.use(eid, string(data))
		m.Sender, m.Rest = eid, data
	}
	a.send(to, dt.FlowAllocator, m)
}

// Bye implements carry.Out.
func (a *allocator) Bye(to, remote uint64) {
	a.send(to, dt.FlowAllocator, &fa.Message{Code: fa.Bye, Receiver: remote})
}

// Carry implements carry.Out.
func (a *allocator) Carry(_, _, _ uint64, packets [][]byte) int { return len(packets) }

// Alive implements carry.Out.
func (a *allocator) Alive(to, remote, _ uint64) { a.send(to, remote, nil) }

// allocate takes a message of the flow allocator.
func (m *member) allocate(b []byte) {
	x, err := fa.Parse(b, idLen)
	if err != nil {
		m.l.fail("member %d gets a message of the flow allocator that is none: %v", m.n, err)
		return
	}
	flows := m.flows()
	switch x.Code {
	case fa.Request:
		dst := core.Hash(x.Rest[:idLen])
		for _, name := range sortedNames(m.l.names) { // what is registered here now
			if m.l.names[name] == m {
				_ = flows.Register(context.Background(), hash.SHA3_256.Sum(name))
			}
		}
		flows.Requested(x.From, x.Sender, dst, x.QoS, x.Rest[idLen:])
	case fa.Reply:
		flows.Replied(0, x.Receiver, x.Sender, carry.Code(x.Response), x.Rest)
	case fa.Bye:
		flows.Left(0, x.Receiver)
	}
}

// checkAsks looks whether each request that is old enough has its answer.
func (l *Layer) checkAsks() {
	var open []*ask
	for _, a := range l.asks {
		switch {
		case !a.from.alive || a.answers > 0:
		case l.clock.Now().After(a.until):
			l.fail("the request of member %d for a flow to %s has no answer", a.from.n, a.name)
		default:
			open = append(open, a)
		}
	}
	l.asks = open
}

// CheckOver returns what is left of flows although the last request was made longer
// than Over ago.
func (l *Layer) CheckOver() []string {
	for _, m := range l.members {
		if m.alive && m.carry != nil && (len(m.host.ends) > 0 || m.carry.Carried() > 0) {
			l.fail("member %d still has %d flows, and their processes %d", m.n, m.carry.Carried(), len(m.host.ends))
		}
	}
	return l.takeWrong()
}

// Stop ends the layer.
func (l *Layer) Stop() {
	for _, m := range l.members {
		if m.alive {
			m.alive = false
			m.stopFlows()
		}
	}
}
