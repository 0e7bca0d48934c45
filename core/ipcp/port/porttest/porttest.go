// Package porttest is a network for tests: a switch that joins UDP sockets of any
// number of machines, and that loses, duplicates, disorders and delays what it
// carries, by a seed.
package porttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/ipcp/port"
)

// Wire is what becomes of a datagram. The zero value carries each at once.
type Wire struct {
	Loss, Duplicate, Disorder float64 // of all datagrams, from 0 to 1
	Delay                     time.Duration
	MTU                       int  // bytes of UDP payload; larger ones are lost; 0: 65507
	Cut                       bool // nothing passes
}

// queueLen is how many datagrams a socket keeps that nobody receives.
const queueLen = 4096

// Network is a switch. Its methods are safe for concurrent use. Time is that of
// package time, so a test of many seconds runs in a synctest bubble.
type Network struct {
	mu      sync.Mutex // guards all below, and the sockets
	rnd     *rand.Rand
	wire    Wire
	sockets map[netip.AddrPort]*socket
	names   map[string][]netip.Addr
	tap     func(from, to netip.AddrPort, datagram []byte)
	arrived func(from, to netip.AddrPort, datagram []byte)
	lose    func(from, to netip.AddrPort, datagram []byte) bool
	count   Count
}

// Count counts datagrams.
type Count struct{ Sent, Lost, Duplicated, Received uint64 }

// New returns a network whose chances seed repeats. A datagram to an address
// without a socket comes back to its sender as refused.
func New(seed uint64, w Wire) *Network {
	return &Network{
		rnd: rand.New(rand.NewPCG(seed, 1)), wire: w,
		sockets: make(map[netip.AddrPort]*socket), names: make(map[string][]netip.Addr),
	}
}

// Set changes what becomes of datagrams from now on.
func (n *Network) Set(change func(*Wire)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.wire)
}

// Name makes all resolvers find addr for host.
func (n *Network) Name(host string, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[host] = append(n.names[host], addr)
}

// Tap makes n call f with each datagram that is sent, under its lock. f must not
// keep the bytes.
func (n *Network) Tap(f func(from, to netip.AddrPort, datagram []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tap = f
}

// Arrived makes n call f with each datagram that reaches a socket, as Tap does with
// those that are sent.
func (n *Network) Arrived(f func(from, to netip.AddrPort, datagram []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.arrived = f
}

// Lose makes n lose the datagrams for which f returns true. f is called as Tap's.
func (n *Network) Lose(f func(from, to netip.AddrPort, datagram []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = f
}

// Count returns what has passed so far.
func (n *Network) Count() Count {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

// Opener returns the sockets of a machine whose network device has an address. All
// devices are on one Ethernet, whatever their names.
func (n *Network) Opener(mac port.MAC) port.Opener { return opener{n, mac} }

// Inject sends a datagram as if from sent it.
func (n *Network) Inject(from, to netip.AddrPort, datagram []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sendLocked(from, to, append([]byte(nil), datagram...))
}

// Refuse tells the socket at a that nobody receives at b.
func (n *Network) Refuse(a, b netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuseLocked(a, b)
}

func (n *Network) refuseLocked(a, b netip.AddrPort) {
	if s := n.sockets[a]; s != nil && !s.ether && len(s.queue) < queueLen {
		s.queue = append(s.queue, received{Datagram: port.Datagram{Peer: b, Refused: true}})
		s.news.Signal()
	}
}

type opener struct {
	n   *Network
	mac port.MAC
}

// UDP implements port.Opener.
func (o opener) UDP(local netip.AddrPort) (port.UDP, error) {
	o.n.mu.Lock()
	defer o.n.mu.Unlock()
	if local.Port() == 0 {
		local = o.n.freeLocked(local.Addr())
	}
	if o.n.sockets[local] != nil {
		return nil, fmt.Errorf("%w: %v is in use", core.ErrExists, local)
	}
	s := &socket{n: o.n, addr: local}
	s.news.L = &o.n.mu
	o.n.sockets[local] = s
	return s, nil
}

// freeLocked returns an address with a port that no socket has.
func (n *Network) freeLocked(a netip.Addr) netip.AddrPort {
	for {
		free := netip.AddrPortFrom(a, uint16(32768+n.rnd.IntN(28232)))
		if n.sockets[free] == nil {
			return free
		}
	}
}

// Resolver implements port.Opener.
func (o opener) Resolver() port.Resolver { return o }

// Lookup implements port.Resolver.
func (o opener) Lookup(_ context.Context, host string, v6 bool) ([]netip.Addr, error) {
	o.n.mu.Lock()
	defer o.n.mu.Unlock()
	var found []netip.Addr
	for _, a := range o.n.names[host] {
		if a.Is6() == v6 {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no address of %s", core.ErrName, host)
	}
	return found, nil
}

// socket is port.UDP.
type socket struct {
	n    *Network
	addr netip.AddrPort

	news   sync.Cond
	queue  []received
	ether  bool
	lost   uint64
	closed bool
}

// Send implements port.UDP.
func (s *socket) Send(d []port.Datagram) (int, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.closed {
		return 0, core.ErrClosed
	}
	for _, one := range d {
		s.n.sendLocked(s.addr, one.Peer, append(append([]byte(nil), one.Head...), one.Body...))
	}
	return len(d), nil
}

func (n *Network) sendLocked(from, to netip.AddrPort, datagram []byte) {
	n.count.Sent++
	if n.tap != nil {
		n.tap(from, to, datagram)
	}
	mtu := n.wire.MTU
	if mtu == 0 {
		mtu = 65507
	}
	if n.wire.Cut || len(datagram) > mtu || n.lose != nil && n.lose(from, to, datagram) || n.rnd.Float64() < n.wire.Loss {
		n.count.Lost++
		return
	}
	copies := 1
	if n.rnd.Float64() < n.wire.Duplicate {
		copies = 2
		n.count.Duplicated++
	}
	for range copies {
		delay := n.wire.Delay
		if n.rnd.Float64() < n.wire.Disorder {
			delay += time.Duration(n.rnd.Int64N(int64(2*n.wire.Delay + time.Millisecond)))
		}
		if delay == 0 {
			n.arriveLocked(from, to, datagram)
			continue
		}
		time.AfterFunc(delay, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.arriveLocked(from, to, datagram)
		})
	}
}

func (n *Network) arriveLocked(from, to netip.AddrPort, datagram []byte) {
	if mac := MAC(to.Addr()); to.Addr().Is6() && mac == port.Broadcast {
		for _, s := range n.stationsLocked(from, to) {
			n.arriveAtLocked(s, from, to, datagram, true)
		}
		return
	}
	n.arriveAtLocked(n.sockets[to], from, to, datagram, false)
}

func (n *Network) arriveAtLocked(s *socket, from, to netip.AddrPort, datagram []byte, group bool) {
	if s == nil && !n.wire.Cut {
		n.refuseLocked(from, to)
	}
	if s == nil || s.ether && from.Port() != s.addr.Port() {
		n.count.Lost++
		return
	}
	if len(s.queue) == queueLen {
		s.lost++
		n.count.Lost++
		return
	}
	n.count.Received++
	if n.arrived != nil {
		n.arrived(from, to, datagram)
	}
	s.queue = append(s.queue, received{port.Datagram{Peer: from, Body: datagram}, group})
	s.news.Signal()
}

// Recv implements port.UDP.
func (s *socket) Recv(d []port.Datagram) (int, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	for len(s.queue) == 0 && !s.closed {
		s.news.Wait()
	}
	if s.closed {
		return 0, core.ErrClosed
	}
	got := min(len(d), len(s.queue))
	for i := range got {
		d[i] = s.queue[i].Datagram
	}
	s.queue = s.queue[got:]
	return got, nil
}

// received is a datagram, and whether it was sent to more than one socket.
type received struct {
	port.Datagram
	group bool
}

// LocalAddr implements port.UDP.
func (s *socket) LocalAddr() netip.AddrPort { return s.addr }

// PathMTU implements port.UDP.
func (s *socket) PathMTU(a netip.Addr) int {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	mtu := s.n.wire.MTU
	if mtu == 0 {
		mtu = 1472
	}
	if a.Is6() {
		return mtu + 48
	}
	return mtu + 28
}

// Lost implements port.UDP.
func (s *socket) Lost() uint64 {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	return s.lost
}

// Close implements port.UDP.
func (s *socket) Close() error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if !s.closed {
		s.closed = true
		delete(s.n.sockets, s.addr)
		s.news.Broadcast()
	}
	return nil
}
