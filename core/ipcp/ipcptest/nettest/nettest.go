// Package nettest is an ipcp.Net for tests: flows between the systems of a
// porttest.Network, which carries each packet as one datagram. So what becomes of
// datagrams there becomes of packets.
package nettest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/port"
)

// A datagram begins with its kind and the number of a flow of the system that asked
// for it.
const (
	open     = 1 // then the name
	accepted = 2
	refused  = 3
	data     = 4
	closing  = 5
	dialled  = 0x80 // or-ed: the sender is the one that asked for the flow
	HeadLen  = 5
)

// Max is the largest packet.
const Max = 8000

const (
	queueLen   = 1 << 16 // packets that nobody reads
	resendTime = 300 * time.Millisecond
)

// Data returns the packet in a datagram, nil where it carries none.
func Data(datagram []byte) []byte {
	if len(datagram) < HeadLen || datagram[0]&^dialled != data {
		return nil
	}
	return datagram[HeadLen:]
}

// Net is ipcp.Net of one system.
type Net struct {
	socket port.UDP
	where  func(name string) (netip.AddrPort, bool)

	mu      sync.Mutex // guards the fields below, and the flows and sets
	changed sync.Cond
	names   map[string]bool
	flows   map[key]*flow
	last    uint32
	fds     int
	accept  *acceptor
	full    bool
	closed  bool
}

type key struct {
	peer netip.AddrPort
	id   uint32
	mine bool // this system asked for it
}

// New returns the Net of the system at addr. It accepts flows to names; where finds
// the system that has a name. Close ends it.
func New(ports port.Opener, addr netip.AddrPort, where func(name string) (netip.AddrPort, bool), names ...string) (*Net, error) {
	socket, err := ports.UDP(addr)
	if err != nil {
		return nil, err
	}
	n := &Net{socket: socket, where: where, names: make(map[string]bool), flows: make(map[key]*flow), fds: core.FirstFD}
	n.changed.L = &n.mu
	for _, name := range names {
		n.names[name] = true
	}
	go n.read()
	return n, nil
}

// Close ends all flows without a word.
func (n *Net) Close() {
	n.mu.Lock()
	n.closed = true
	for _, f := range n.flows {
		f.down = true
		f.news()
	}
	n.changed.Broadcast()
	n.mu.Unlock()
	n.socket.Close()
}

// Fill makes all flows have no room from now on, or have some again.
func (n *Net) Fill(full bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.full = full
	for _, f := range n.flows {
		if !full && f.room {
			f.room, f.roomy = false, true
			f.news()
		}
	}
}

// Flows returns how many flows there are.
func (n *Net) Flows() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.flows)
}

func (n *Net) send(to netip.AddrPort, kind byte, id uint32, body []byte) {
	b := binary.BigEndian.AppendUint32([]byte{kind}, id)
	_, _ = n.socket.Send([]port.Datagram{{Peer: to, Head: b, Body: body}})
}

func (n *Net) read() {
	d := make([]port.Datagram, 64)
	for {
		got, err := n.socket.Recv(d)
		if err != nil {
			return
		}
		for _, one := range d[:got] {
			if !one.Refused && len(one.Body) >= HeadLen {
				n.received(one.Peer, one.Body)
			}
		}
	}
}

func (n *Net) received(from netip.AddrPort, b []byte) {
	kind, id, body := b[0], binary.BigEndian.Uint32(b[1:]), b[HeadLen:]
	k := key{from, id, kind&dialled == 0}
	n.mu.Lock()
	f := n.flows[k]
	if f != nil && f.closed {
		f = nil
	}
	var answer byte
	switch kind &^ dialled {
	case open:
		switch {
		case k.mine:
		case f != nil:
			answer = accepted
		case n.accept == nil || !n.names[string(body)] || len(n.accept.queue) == queueLen:
			answer = refused
		default:
			answer = accepted
			n.accept.queue = append(n.accept.queue, n.add(k))
			n.changed.Broadcast()
		}
	case accepted:
		if f != nil && k.mine {
			f.up = true
			n.changed.Broadcast()
		}
	case refused:
		if f != nil && k.mine && !f.up {
			f.down = true
			n.changed.Broadcast()
		}
	case data:
		switch {
		case f == nil:
			answer = closing
		case len(f.in) < queueLen && len(body) > 0:
			f.in = append(f.in, slices.Clone(body))
			f.news()
		}
	case closing:
		if f != nil {
			f.eof = true
			f.news()
		}
	}
	n.mu.Unlock()
	if answer != 0 {
		if k.mine {
			answer |= dialled
		}
		n.send(from, answer, id, nil)
	}
}

// add makes the flow k; n.mu is held.
func (n *Net) add(k key) *flow {
	f := &flow{n: n, key: k, fd: n.fds}
	n.fds++
	n.flows[k] = f
	return f
}

// Dial implements ipcp.Net.
func (n *Net) Dial(ctx context.Context, name string, _ core.QoS) (ipcp.Lower, error) {
	to, ok := n.where(name)
	if !ok {
		return nil, fmt.Errorf("%w: nobody has %q", core.ErrName, name)
	}
	n.mu.Lock()
	n.last++
	f := n.add(key{to, n.last, true})
	n.mu.Unlock()
	defer context.AfterFunc(ctx, n.wake)()
	again := time.AfterFunc(0, func() {})
	defer func() { again.Stop() }()
	var ask func()
	ask = func() {
		n.send(to, open|dialled, f.id, []byte(name))
		n.mu.Lock()
		defer n.mu.Unlock()
		if !f.up && !f.down && !f.closed && !n.closed {
			again = time.AfterFunc(resendTime, ask)
		}
	}
	ask()
	n.mu.Lock()
	defer n.mu.Unlock()
	for !f.up && !f.down && !n.closed && ctx.Err() == nil {
		n.changed.Wait()
	}
	if f.up {
		return f, nil
	}
	f.closed = true
	delete(n.flows, f.key)
	if ctx.Err() != nil {
		return nil, core.ContextError(ctx.Err())
	}
	return nil, fmt.Errorf("%w: nobody accepts %q", core.ErrNotAllocated, name)
}

func (n *Net) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed.Broadcast()
}

// Listen implements ipcp.Net.
func (n *Net) Listen(context.Context) (ipcp.Acceptor, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.accept = &acceptor{n: n}
	return n.accept, nil
}

type acceptor struct {
	n      *Net
	queue  []*flow
	closed bool
}

// Accept implements ipcp.Acceptor.
func (a *acceptor) Accept(ctx context.Context) (ipcp.Lower, error) {
	defer context.AfterFunc(ctx, a.n.wake)()
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	for len(a.queue) == 0 && !a.closed && ctx.Err() == nil {
		a.n.changed.Wait()
	}
	switch {
	case a.closed:
		return nil, core.ErrClosed
	case ctx.Err() != nil:
		return nil, core.ContextError(ctx.Err())
	}
	f := a.queue[0]
	a.queue = a.queue[1:]
	return f, nil
}

// Close implements ipcp.Acceptor.
func (a *acceptor) Close() error {
	a.n.mu.Lock()
	defer a.n.mu.Unlock()
	a.closed = true
	if a.n.accept == a {
		a.n.accept = nil
	}
	a.n.changed.Broadcast()
	return nil
}

// flow is ipcp.Lower.
type flow struct {
	n *Net
	key
	fd int

	// Guarded by n.mu.
	up, down    bool // of one that this system asked for
	in          [][]byte
	lent        int
	hidden      [][]byte
	eof, closed bool
	set         *set
	value       any
	room, roomy bool // somebody waits for room; there is some again
	parked      bool
}

// news says that something has come; n.mu is held.
func (f *flow) news() {
	f.n.changed.Broadcast()
	if f.set != nil {
		f.set.poke()
	}
}

// FD implements ipcp.Lower.
func (f *flow) FD() int { return f.fd }

// Path implements ipcp.Lower.
func (f *flow) Path() ipcp.Path {
	return ipcp.Path{MPL: 100 * time.Millisecond, Max: Max, Best: 1400}
}

// Look implements ipcp.Flow.
func (f *flow) Look(p [][]byte) (int, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	switch {
	case f.closed:
		return 0, core.ErrClosed
	case len(f.in) > 0:
		f.lent = copy(p, f.in)
		return f.lent, nil
	case f.eof:
		return 0, io.EOF
	case f.down:
		return 0, core.ErrFlowDown
	}
	return 0, nil
}

// Drop implements ipcp.Flow.
func (f *flow) Drop(k int) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	f.in = f.in[min(k, f.lent, len(f.in)):]
	f.lent = 0
}

// Put implements ipcp.Flow.
func (f *flow) Put(head, body []byte) (bool, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	switch {
	case f.closed:
		return false, core.ErrClosed
	case f.eof || f.down:
		return false, core.ErrFlowDown
	case f.n.full:
		return false, nil
	}
	f.hidden = append(f.hidden, slices.Concat(head, body))
	return true, nil
}

// Publish implements ipcp.Flow.
func (f *flow) Publish() {
	f.n.mu.Lock()
	hidden := f.hidden
	f.hidden = nil
	f.n.mu.Unlock()
	for _, p := range hidden {
		f.n.send(f.peer, f.kind(data), f.id, p)
	}
}

func (f *flow) kind(k byte) byte {
	if f.mine {
		return k | dialled
	}
	return k
}

// Unread implements ipcp.Flow.
func (f *flow) Unread() int { return 0 }

// ReadPacket implements ipcp.Lower.
func (f *flow) ReadPacket(p []byte) (int, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	for len(f.in) == 0 && !f.eof && !f.down && !f.closed {
		f.n.changed.Wait()
	}
	switch {
	case f.closed:
		return 0, core.ErrClosed
	case len(f.in) > 0:
		k := copy(p, f.in[0])
		f.in = f.in[1:]
		return k, nil
	case f.eof:
		return 0, io.EOF
	}
	return 0, core.ErrFlowDown
}

// WritePacket implements ipcp.Lower.
func (f *flow) WritePacket(p []byte) error {
	if _, err := f.Put(nil, p); err != nil {
		return err
	}
	f.Publish()
	return nil
}

// CloseWrite implements ipcp.Flow.
func (f *flow) CloseWrite() error { return f.Close() }

// Abort implements ipcp.Flow.
func (f *flow) Abort() error { return f.Close() }

// Close implements ipcp.Flow.
func (f *flow) Close() error {
	f.n.mu.Lock()
	first := !f.closed
	f.closed = true
	delete(f.n.flows, f.key)
	if f.set != nil {
		f.set.remove(f)
	}
	f.n.changed.Broadcast()
	f.n.mu.Unlock()
	if first {
		f.n.send(f.peer, f.kind(closing), f.id, nil)
	}
	return nil
}

// set is ipcp.Set.
type set struct {
	n       *Net
	members []*flow
	turn    int
	news    chan struct{}
	over    chan struct{}
	closed  bool
}

// NewSet implements ipcp.Net.
func (n *Net) NewSet() (ipcp.Set, error) {
	return &set{n: n, news: make(chan struct{}, 1), over: make(chan struct{})}, nil
}

func (s *set) poke() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Add implements ipcp.Set.
func (s *set) Add(f ipcp.Flow, v any) error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	x := f.(*flow)
	if s.closed || x.closed {
		return core.ErrClosed
	}
	x.set, x.value, x.parked = s, v, false
	s.members = append(s.members, x)
	s.poke()
	return nil
}

// Remove implements ipcp.Set.
func (s *set) Remove(f ipcp.Flow) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.remove(f.(*flow))
}

func (s *set) remove(f *flow) {
	f.set = nil
	s.members = slices.DeleteFunc(s.members, func(x *flow) bool { return x == f })
}

// Room implements ipcp.Set.
func (s *set) Room(f ipcp.Flow, _ int) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	x := f.(*flow)
	if s.n.full {
		x.room = true
		return
	}
	x.roomy = true
	s.poke()
}

// Park implements ipcp.Set.
func (s *set) Park(f ipcp.Flow) { s.park(f, true) }

// Unpark implements ipcp.Set.
func (s *set) Unpark(f ipcp.Flow) { s.park(f, false) }

func (s *set) park(f ipcp.Flow, parked bool) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	f.(*flow).parked = parked
	s.poke()
}

// Next implements ipcp.Set.
func (s *set) Next() (any, bool) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	for range s.members {
		s.turn = (s.turn + 1) % len(s.members)
		f := s.members[s.turn]
		if !f.parked && (len(f.in) > 0 || f.eof || f.down) || f.roomy {
			f.roomy = false
			return f.value, true
		}
	}
	return nil, false
}

// Wait implements ipcp.Set.
func (s *set) Wait(ctx context.Context) (any, error) {
	for {
		select {
		case <-s.over:
			return nil, core.ErrClosed
		default:
		}
		if v, ok := s.Next(); ok {
			return v, nil
		}
		select {
		case <-s.news:
		case <-s.over:
			return nil, core.ErrClosed
		case <-ctx.Done():
			return nil, core.ContextError(ctx.Err())
		}
	}
}

// Close implements ipcp.Set.
func (s *set) Close() error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.over)
		for _, f := range s.members {
			f.set = nil
		}
		s.members = nil
	}
	return nil
}
