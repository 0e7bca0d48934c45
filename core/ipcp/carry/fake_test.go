package carry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/core/logs"
)

// node is an IPCP's flows with a host, memory and wire that a test plays. What the
// host, the wire and the callers hear is written down in one list.
type node struct {
	*Flows[string]
	hold bool          // Attach waits for attach
	late bool          // FlowReqArr is answered by announce
	gate chan struct{} // Reply waits for it, unless it is nil

	mu     sync.Mutex // guards the fields below
	heard  []string
	nextID core.FlowID
	got    func(ipcp.Flow, error)

	announce func()
	mems     map[core.FlowID]*memory
	set      *set
	takes    int    // how many packets Carry takes at a time
	last     []byte // the last packet that Carry got
}

var (
	_ ipcp.Host   = host{}
	_ Out[string] = (*node)(nil)
)

// newNode returns flows that are carried, with ids of a kind.
func newNode(t testing.TB, ids IDs) *node {
	n := &node{mems: make(map[core.FlowID]*memory), nextID: 100, takes: 1 << 30}
	n.Flows = New(ipcp.Env{Host: host{n}, Clock: clock.Real, Log: logs.Discard()}, Config[string]{
		IDs: ids, Text: func(p string) string { return p },
		Path: func(string) ipcp.Path { return ipcp.Path{Max: 1000, Best: 1000} },
		Ours: func(data []byte) bool { return len(data) > 0 },
	}, n)
	if err := n.Begin(func() error { return nil }, func() {}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		n.Serve(ctx, func() {}, func() {})
	}()
	t.Cleanup(func() { cancel(); <-served })
	return n
}

func (n *node) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = append(n.heard, fmt.Sprintf(format, args...))
}

// all returns what was heard since the last call.
func (n *node) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	heard := n.heard
	n.heard = nil
	return heard
}

// want checks what was heard since the last call.
func (n *node) want(t *testing.T, want ...string) {
	t.Helper()
	if got := n.all(); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// done returns an answer that is written down.
func (n *node) done(what string) func(error) {
	return func(err error) {
		if err != nil {
			what += ": " + errno(err).Error()
		}
		n.note("%s", what)
	}
}

// client asks for a flow and returns its endpoint id.
func (n *node) client(id core.FlowID, qos core.QoS) uint64 {
	n.FlowAlloc(ipcp.AllocRequest{Flow: id, Dst: "far", QoS: qos, Data: []byte("ask")}, func(error) {})
	n.Flows.mu.Lock()
	defer n.Flows.mu.Unlock()
	return n.byID[id].eid
}

// up makes a flow as a client and returns its endpoint id.
func (n *node) up(id core.FlowID) uint64 {
	eid := n.client(id, core.QoSRaw)
	n.Replied("peer", eid, 7, 0, []byte("ours"))
	return eid
}

// attach gives the memory that Attach asked for.
func (n *node) attach(err error) {
	n.mu.Lock()
	got, id := n.got, n.nextID
	n.mu.Unlock()
	if err != nil {
		got(nil, err)
		return
	}
	got(n.mem(id), nil)
}

func (n *node) mem(id core.FlowID) *memory {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &memory{n: n, id: id}
	n.mems[id] = m
	return m
}

func (n *node) FlowReqArr(a ipcp.Arrival, got func(core.FlowID, error)) {
	n.mu.Lock()
	n.nextID++
	id := n.nextID
	n.mu.Unlock()
	n.note("arrival %d", id)
	if n.late {
		n.announce = func() { got(id, nil) }
		return
	}
	got(id, nil)
}

func (n *node) FlowAllocReply(r ipcp.AllocReply, done func(error)) {
	n.note("reply %d %d", r.Flow, int(r.Code))
	done(nil)
}

// host is the node as its flows see it.
type host struct{ *node }

func (n host) FlowDealloc(id core.FlowID, done func(error)) {
	n.note("released %d", id)
	done(nil)
}

func (n *node) FlowEnd(id core.FlowID, code core.Errno) { n.note("end %d %d", id, int(code)) }

func (n *node) Splice(a, b core.FlowID) error { return nil }

func (n *node) Attach(id core.FlowID, got func(ipcp.Flow, error)) {
	if n.hold {
		n.mu.Lock()
		n.nextID, n.got = id, got
		n.mu.Unlock()
		return
	}
	got(n.mem(id), nil)
}

func (n *node) NewSet() (ipcp.Set, error) {
	n.set = &set{news: make(chan any, 1<<12), closed: make(chan struct{})}
	return n.set, nil
}

func (n *node) Find(core.Hash) (string, error) { return "peer", nil }

func (n *node) Request(to string, eid uint64, dst core.Hash, qos core.QoS, data []byte) error {
	return nil
}

func (n *node) Reply(to string, remote, eid uint64, code core.Errno, data []byte) {
	if n.gate != nil {
		<-n.gate
	}
	n.note("answer %s %d %d %s", to, remote, int(code), data)
}

func (n *node) Bye(to string, remote uint64) { n.note("bye %s %d", to, remote) }

func (n *node) Carry(to string, remote, eid uint64, packets [][]byte) int {
	n.last = packets[len(packets)-1]
	return min(len(packets), n.takes)
}

func (n *node) Alive(to string, remote, eid uint64) { n.note("alive %d", remote) }

// memory is the layer's end of a flow's memory. It keeps the packets that the process
// sees, and lends the same packets for ever.
type memory struct {
	n  *node
	id core.FlowID

	mu             sync.Mutex
	put, published []string
	lend           [][]byte // what Look lends
	taken          int
	end            error // what Look returns when it lends nothing
	full, discard  bool
	last           []byte // the last body that Put got
}

func (m *memory) Look(p [][]byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.lend) == 0 {
		return 0, m.end
	}
	return copy(p, m.lend), nil
}

func (m *memory) Drop(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken += n
}

func (m *memory) Put(head, body []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return false, nil
	}
	m.last = body
	if !m.discard {
		m.put = append(m.put, string(head)+string(body))
	}
	return true, nil
}

func (m *memory) Publish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.published = append(m.published, m.put...)
	m.put = m.put[:0]
}

func (m *memory) Unread() int       { return 0 }
func (m *memory) CloseWrite() error { return nil }
func (m *memory) Abort() error      { return nil }

func (m *memory) Close() error {
	m.n.note("closed %d", m.id)
	return nil
}

// sees checks which packets the process sees.
func (m *memory) sees(t *testing.T, want ...string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.published, want) {
		t.Errorf("flow %d: the process sees %q, want %q", m.id, m.published, want)
	}
}

// set gives what a test puts into news.
type set struct {
	news   chan any
	closed chan struct{}
	mu     sync.Mutex
	in     map[ipcp.Flow]any
	parked map[ipcp.Flow]bool
}

func (s *set) Add(f ipcp.Flow, v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		s.in, s.parked = make(map[ipcp.Flow]any), make(map[ipcp.Flow]bool)
	}
	s.in[f] = v
	return nil
}

func (s *set) Remove(f ipcp.Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.in, f)
}

// watches reports whether f is a member that is not parked.
func (s *set) watches(f ipcp.Flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in[f] != nil && !s.parked[f]
}

func (s *set) Room(ipcp.Flow, int) {}
func (s *set) Park(f ipcp.Flow)    { s.park(f, true) }
func (s *set) Unpark(f ipcp.Flow)  { s.park(f, false) }

func (s *set) park(f ipcp.Flow, parked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parked[f] = parked
}

func (s *set) Wait(context.Context) (any, error) {
	select {
	case v := <-s.news:
		return v, nil
	case <-s.closed:
		return nil, core.ErrClosed
	}
}

func (s *set) Next() (any, bool) { return nil, false }
func (s *set) Close() error      { close(s.closed); return nil }
