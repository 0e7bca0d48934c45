// Package port says what a layer type sees of the machine's network: sockets
// that carry datagrams in batches, and a resolver. It opens none: package
// o7s/ipc/port does, and package porttest gives tests a network of their own.
package port

import (
	"context"
	"net/netip"
)

// Opener opens the sockets of one machine.
type Opener interface {
	// UDP opens a socket that is bound to local.
	UDP(local netip.AddrPort) (UDP, error)
	// Resolver looks up host names as the machine does.
	Resolver() Resolver
}

// Datagram is one datagram. A Send writes Head and Body one after the other; a
// Recv leaves Head empty.
type Datagram struct {
	Peer netip.AddrPort
	Head []byte
	Body []byte
}

// UDP is a UDP socket that all flows of a layer share. One goroutine may send
// while another receives.
type UDP interface {
	// Send sends the datagrams in order and returns how many the socket took.
	// It waits while the socket is full. An error is about d[n]: the caller
	// drops that one and goes on after it, unless the error is
	// core.ErrClosed.
	Send(d []Datagram) (n int, err error)
	// Recv waits for a datagram and returns how many it has put into d. Each
	// Body is valid until the next Recv. The error is core.ErrClosed once the
	// socket is closed.
	Recv(d []Datagram) (n int, err error)
	// LocalAddr returns the address that the socket is bound to.
	LocalAddr() netip.AddrPort
	// PathMTU returns the largest IP packet, in bytes, that reaches addr
	// without fragments, as far as the machine knows.
	PathMTU(addr netip.Addr) int
	// Lost returns how many datagrams the machine has dropped because
	// nobody received them in time.
	Lost() uint64
	// Close closes the socket. A Send or Recv that waits returns
	// core.ErrClosed.
	Close() error
}

// Resolver looks up host names.
type Resolver interface {
	// Lookup returns the addresses of host: IPv4 where v6 is false, else
	// IPv6. The error is core.ErrName where there is none, core.ErrTimeout
	// where no server answered.
	Lookup(ctx context.Context, host string, v6 bool) ([]netip.Addr, error)
}
