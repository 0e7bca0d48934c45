package porttest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"o7s/core"
	"o7s/core/ipcp/port"
)

// On this network an Ethernet socket has the address of its device and the number
// of its protocol in the form of an IP address and a port.

// etherMTU is the MTU of all devices.
const etherMTU = 1500

// Station returns the address of the sockets of a protocol on the device with an
// address.
func Station(mac port.MAC, proto port.Proto) netip.AddrPort {
	a := [16]byte{0: 0xfd, 1: 0x07}
	copy(a[10:], mac[:])
	return netip.AddrPortFrom(netip.AddrFrom16(a), uint16(proto))
}

// MAC returns the device of an address that Station returned.
func MAC(a netip.Addr) (mac port.MAC) {
	b := a.As16()
	copy(mac[:], b[10:])
	return mac
}

// stationsLocked returns the sockets that a broadcast from from reaches, in the
// order of their addresses.
func (n *Network) stationsLocked(from, to netip.AddrPort) (all []*socket) {
	for addr, s := range n.sockets {
		if s.ether && addr.Port() == to.Port() && addr != from {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *socket) int { return cmp.Compare(a.addr.String(), b.addr.String()) })
	return all
}

// Ether implements port.Opener.
func (o opener) Ether(dev string, proto port.Proto) (port.Ether, error) {
	if dev == "" {
		return nil, fmt.Errorf("%w: no device", core.ErrNotFound)
	}
	u, err := o.UDP(Station(o.mac, proto))
	if err != nil {
		return nil, err
	}
	s := u.(*socket)
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.ether = true
	return ether{s}, nil
}

// ether is port.Ether.
type ether struct{ *socket }

// Send implements port.Ether.
func (e ether) Send(f []port.Frame) (int, error) {
	d := make([]port.Datagram, len(f))
	for i := range f {
		d[i] = port.Datagram{Peer: Station(f[i].Peer, port.Proto(e.addr.Port())), Head: f[i].Head, Body: f[i].Body}
		if n := len(f[i].Head) + len(f[i].Body); n > etherMTU {
			return i, fmt.Errorf("%w: a frame of %d bytes", core.ErrUsage, n)
		}
	}
	return e.socket.Send(d)
}

// Recv implements port.Ether.
func (e ether) Recv(f []port.Frame) (int, error) {
	e.n.mu.Lock()
	defer e.n.mu.Unlock()
	for len(e.queue) == 0 && !e.closed {
		e.news.Wait()
	}
	if e.closed {
		return 0, core.ErrClosed
	}
	got := min(len(f), len(e.queue))
	for i := range got {
		r := e.queue[i]
		f[i] = port.Frame{Peer: MAC(r.Peer.Addr()), Group: r.group, Body: r.Body}
	}
	e.queue = e.queue[got:]
	return got, nil
}

// MAC implements port.Ether.
func (e ether) MAC() port.MAC { return MAC(e.addr.Addr()) }

// MTU implements port.Ether.
func (e ether) MTU() int { return etherMTU }

// Up implements port.Ether.
func (e ether) Up() bool { return true }

// Changed implements port.Ether.
func (e ether) Changed() <-chan struct{} { return nil }
