// Package port says what a layer type sees of the machine's network: sockets
// that carry datagrams or Ethernet frames in batches, and a resolver. It opens
// none: package o7s/ipc/port does, and package porttest gives tests a network of
// their own.
package port

import (
	"context"
	"fmt"
	"net/netip"
)

// Opener opens the sockets of one machine.
type Opener interface {
	// UDP opens a socket that is bound to local.
	UDP(local netip.AddrPort) (UDP, error)
	// Ether opens a socket on the network device dev that takes the frames
	// of proto alone.
	Ether(dev string, proto Proto) (Ether, error)
	// Resolver looks up host names as the machine does.
	Resolver() Resolver
}

// Datagram is one datagram. A Send writes Head and Body one after the other; a
// Recv leaves Head empty.
type Datagram struct {
	Peer netip.AddrPort
	Head []byte
	Body []byte
	// Refused is set in a Datagram that Recv returns without a Body. It says that
	// the machine of Peer has no socket there. It is a hint: a machine that knows
	// both addresses can forge it.
	Refused bool
}

// UDP is a UDP socket that all flows of a layer share. One goroutine receives;
// any number may send.
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

// MAC is the address of a network device on Ethernet.
type MAC [6]byte

// String returns m as in 02:00:00:00:00:0a.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// IsGroup reports whether m stands for more than one station.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// Broadcast is the address of all stations.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Proto says which frames an Ethernet socket takes: an EtherType from 0x0600 on,
// or LLC.
type Proto uint16

// LLC stands for frames with an IEEE 802.2 header in place of an EtherType.
const LLC Proto = 4

// Frame is one Ethernet frame without the 14 bytes of its header. A Send writes
// Head and Body one after the other; a Recv leaves Head empty.
type Frame struct {
	Peer  MAC  // to whom it is sent, or who sent it
	Group bool // of one that was received: it was sent to more than one station
	Head  []byte
	Body  []byte // of LLC without padding; else padding may follow
}

// Ether is a socket on a network device that all flows of a layer share. Its
// methods are as those of UDP. Frames that this station sent, and those with a
// VLAN tag, are not received.
type Ether interface {
	Send(f []Frame) (n int, err error)
	Recv(f []Frame) (n int, err error)
	// MAC returns the device's own address.
	MAC() MAC
	// MTU returns the largest payload of a frame on the device, in bytes. It
	// may change.
	MTU() int
	// Up reports whether the device can carry frames. Changed receives when
	// that has changed.
	Up() bool
	Changed() <-chan struct{}
	// Lost returns how many frames the machine has dropped because nobody
	// received them in time.
	Lost() uint64
	Close() error
}

// Resolver looks up host names.
type Resolver interface {
	// Lookup returns the addresses of host: IPv4 where v6 is false, else
	// IPv6. The error is core.ErrName where there is none, core.ErrTimeout
	// where no server answered.
	Lookup(ctx context.Context, host string, v6 bool) ([]netip.Addr, error)
}
