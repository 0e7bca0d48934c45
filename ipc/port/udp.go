package port

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/ipcp/port"
	"o7s/ipc/internal/mmsg"
)

const (
	// socketBuf is how many bytes the kernel is asked to keep for a socket in
	// each direction: some milliseconds of a fast sender.
	socketBuf = 4 << 20

	// recvMsgs messages of recvSize bytes are received at a time. With
	// UDP_GRO each holds many datagrams.
	recvMsgs = 32
	recvSize = 1 << 16
	// recvErrors is how many errors are received at a time.
	recvErrors = 16

	// maxPayload4 and maxPayload6 bound one message, cut into datagrams or
	// not, in bytes.
	maxPayload4 = 65535 - 20 - 8
	maxPayload6 = 65535 - 8

	// unsegmentedTime is for how long a peer gets one message a datagram,
	// after the kernel has refused to cut one for it.
	unsegmentedTime = time.Minute
	// maxPeers bounds what is remembered of peers.
	maxPeers = 4096
)

// udp is port.UDP: a socket whose datagrams pass many at a time. What is sent is
// cut into datagrams by the kernel or the device (UDP_SEGMENT), and what comes is
// put together there (UDP_GRO); on the wire these are ordinary datagrams.
type udp struct {
	file   *os.File
	rc     syscall.RawConn
	local  netip.AddrPort
	header int // bytes of the IP and UDP headers
	max    int // bytes of one message
	lost   atomic.Uint64

	recvMu sync.Mutex // guards the fields below
	in     *mmsg.In
	got    int // messages in in
	next   int // the first of them that is not passed on whole
	at     int // bytes of it that are
	seg    int // the size of its datagrams; 0: not known yet
	recv   func(uintptr) bool

	errs    *mmsg.In
	refused []netip.AddrPort // that Recv has not told yet

	sendMu sync.Mutex // guards the fields below
	out    mmsg.Out
	count  [mmsg.Batch]int // datagrams in each message of out
	from   int             // messages of out that are sent
	send   func(uintptr) bool
	serr   unix.Errno
	peers  map[netip.Addr]*peer

	sendErrors int
}

// peer is what is known of the way to an address.
type peer struct {
	mtu   int       // bytes of an IP packet
	until time.Time // no segments before
}

func openUDP(local netip.AddrPort) (*udp, error) {
	u := &udp{local: local, header: 28, max: maxPayload4, in: mmsg.NewIn(recvMsgs, recvSize), errs: mmsg.NewIn(recvErrors, 64), peers: make(map[netip.Addr]*peer)}
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(local.Port()), Addr: as4(local.Addr())}
	if local.Addr().Is6() {
		family, u.header, u.max = unix.AF_INET6, 48, maxPayload6
		sa = &unix.SockaddrInet6{Port: int(local.Port()), Addr: local.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := prepare(fd, family); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return nil, explainBind(err)
	}
	if local.Port() == 0 {
		u.local = boundTo(fd, local)
	}
	u.file = os.NewFile(uintptr(fd), "udp")
	if u.rc, err = u.file.SyscallConn(); err != nil {
		u.file.Close()
		return nil, err
	}
	u.recv, u.send = u.recvNow, u.sendNow
	return u, nil
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		return a.As4()
	}
	return b
}

// prepare sets the socket's options. Those that only make it faster, or tell
// more, may fail.
func prepare(fd, family int) error {
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	setBuffers(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	}
	return nil
}

// setBuffers asks for large buffers, beyond the system's bound where that is
// allowed.
func setBuffers(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuf) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuf)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuf) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuf)
	}
}

func explainBind(err error) error {
	switch err {
	case unix.EADDRINUSE:
		return fmt.Errorf("%w: another socket has this address and port", core.ErrExists)
	case unix.EADDRNOTAVAIL:
		return fmt.Errorf("%w: no device of this system has this address", core.ErrUsage)
	case unix.EACCES:
		return fmt.Errorf("%w: a port below 1024 is for root", core.ErrPermission)
	}
	return os.NewSyscallError("bind", err)
}

func boundTo(fd int, local netip.AddrPort) netip.AddrPort {
	switch sa, _ := unix.Getsockname(fd); sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(local.Addr(), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(local.Addr(), uint16(sa.Port))
	}
	return local
}

// LocalAddr implements port.UDP.
func (u *udp) LocalAddr() netip.AddrPort { return u.local }

// Lost implements port.UDP.
func (u *udp) Lost() uint64 { return u.lost.Load() }

// Close implements port.UDP.
func (u *udp) Close() error { return u.file.Close() }

// PathMTU implements port.UDP.
func (u *udp) PathMTU(addr netip.Addr) int {
	u.sendMu.Lock()
	defer u.sendMu.Unlock()
	return u.peerLocked(addr).mtu
}

func (u *udp) peerLocked(addr netip.Addr) *peer {
	p := u.peers[addr]
	if p == nil {
		if len(u.peers) >= maxPeers {
			clear(u.peers)
		}
		p = &peer{mtu: pathMTU(addr)}
		u.peers[addr] = p
	}
	return p
}

// minMTU is what each IPv4 and IPv6 network carries.
const (
	minMTU4 = 576
	minMTU6 = 1280
)

// pathMTU asks the kernel, which knows the device's MTU and what routers said.
func pathMTU(addr netip.Addr) int {
	family, level, opt, least := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU, minMTU4
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: 9, Addr: as4(addr)}
	if addr.Is6() {
		family, level, opt, least = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU, minMTU6
		sa = &unix.SockaddrInet6{Port: 9, Addr: addr.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return least
	}
	defer unix.Close(fd)
	if unix.Connect(fd, sa) != nil {
		return least
	}
	mtu, err := unix.GetsockoptInt(fd, level, opt)
	if err != nil {
		return least
	}
	return max(mtu, least)
}

// Send implements port.UDP.
func (u *udp) Send(d []port.Datagram) (int, error) {
	u.sendMu.Lock()
	defer u.sendMu.Unlock()
	sent := 0
	for sent < len(d) {
		u.fill(d[sent:])
		n, err := u.flush()
		sent += n
		if err == nil {
			continue
		}
		if segmentRefused(err) && u.count[u.from] > 1 {
			u.peerLocked(d[sent].Peer.Addr()).until = time.Now().Add(unsegmentedTime)
			continue // again, one by one
		}
		return sent, err
	}
	return sent, nil
}

func segmentRefused(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) }

func size(d *port.Datagram) int { return len(d.Head) + len(d.Body) }

// fill makes messages of as many of d as fit. A run of datagrams to one peer
// that have one length, of which the last may be shorter, is one message.
func (u *udp) fill(d []port.Datagram) {
	u.out.Reset()
	u.from = 0
	for i := 0; i < len(d) && u.out.Len() < mmsg.Batch; {
		run := u.run(d[i:])
		u.out.Begin(d[i].Peer)
		for j := i; j < i+run; j++ {
			u.out.Add(d[j].Head)
			u.out.Add(d[j].Body)
		}
		if run > 1 {
			u.out.Segment(size(&d[i]))
		}
		u.count[u.out.Len()-1] = run
		i += run
	}
}

// run returns how many of d, at least 1, the kernel can make of one message.
func (u *udp) run(d []port.Datagram) int {
	first := size(&d[0])
	if len(d) == 1 || first == 0 || size(&d[1]) > first || size(&d[1]) == 0 || d[1].Peer != d[0].Peer {
		return 1
	}
	p := u.peerLocked(d[0].Peer.Addr())
	if first > p.mtu-u.header || !p.until.IsZero() && time.Now().Before(p.until) {
		return 1
	}
	total := first
	for n := 1; ; n++ {
		if n == len(d) || n == mmsg.MaxSegments || d[n].Peer != d[0].Peer {
			return n
		}
		next := size(&d[n])
		if next == 0 || next > first || total+next > u.max {
			return n
		}
		total += next
		if next < first {
			return n + 1
		}
	}
}

// flush sends the messages and returns how many datagrams the socket took.
func (u *udp) flush() (int, error) {
	sent := 0
	for u.from < u.out.Len() {
		before := u.from
		u.serr = 0
		if err := u.rc.Write(u.send); err != nil {
			return sent, core.ErrClosed
		}
		for i := before; i < u.from; i++ {
			sent += u.count[i]
		}
		if u.serr != 0 {
			return sent, os.NewSyscallError("sendmmsg", u.serr)
		}
	}
	return sent, nil
}

// sendNow is called by the poller until it returns true.
func (u *udp) sendNow(fd uintptr) bool {
	n, errno := u.out.Send(fd, u.from)
	switch errno {
	case 0:
		u.from += n
	case unix.EAGAIN:
		return false
	case unix.EINTR:
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
		// About an earlier one, most likely.
		if u.sendErrors++; u.sendErrors%maxSendErrors == 0 {
			u.serr = errno
		}
	default:
		u.serr = errno
	}
	return true
}

// maxSendErrors bounds how often a message is tried again because of what a
// network said of an earlier one.
const maxSendErrors = 4

// Recv implements port.UDP.
func (u *udp) Recv(d []port.Datagram) (int, error) {
	u.recvMu.Lock()
	defer u.recvMu.Unlock()
	for {
		if n := u.split(d); n > 0 {
			return n, nil
		}
		if n := min(len(d), len(u.refused)); n > 0 {
			for i, a := range u.refused[:n] {
				d[i] = port.Datagram{Peer: a, Refused: true}
			}
			u.refused = append(u.refused[:0], u.refused[n:]...)
			return n, nil
		}
		if err := u.rc.Read(u.recv); err != nil {
			return 0, core.ErrClosed
		}
	}
}

// recvNow is called by the poller until it returns true. An error is what a
// network says of an earlier datagram, which ends nothing.
func (u *udp) recvNow(fd uintptr) bool {
	n, errno := u.in.Recv(fd)
	switch errno {
	case 0:
		u.got, u.next, u.at, u.seg = n, 0, 0, 0
		return true
	case unix.EAGAIN:
		return u.recvErrors(fd) // what wakes a reader may be an error
	}
	u.recvErrors(fd)
	return true
}

// recvErrors takes the errors that are there, and reports whether some say that
// nobody has a socket where something was sent.
func (u *udp) recvErrors(fd uintptr) bool {
	n, errno := u.errs.RecvErrors(fd)
	if errno != 0 {
		return false
	}
	for i := range n {
		refused := false
		u.errs.Control(i, func(level, typ int32, value uint32) {
			if level == unix.IPPROTO_IP && typ == unix.IP_RECVERR || level == unix.IPPROTO_IPV6 && typ == unix.IPV6_RECVERR {
				refused = unix.Errno(value) == unix.ECONNREFUSED
			}
		})
		if refused && len(u.refused) < recvErrors {
			u.refused = append(u.refused, u.errs.From(i))
		}
	}
	return len(u.refused) > 0
}

// split puts the datagrams of the messages that were received into d.
func (u *udp) split(d []port.Datagram) int {
	n := 0
	for n < len(d) && u.next < u.got {
		b := u.in.Bytes(u.next)
		if u.seg == 0 {
			u.seg = max(len(b), 1)
			u.in.Control(u.next, u.control)
			if !u.in.Whole(u.next) {
				b = nil
			}
		}
		if u.at >= len(b) && (u.at > 0 || len(b) == 0) {
			u.next, u.at, u.seg = u.next+1, 0, 0
			continue
		}
		end := min(u.at+u.seg, len(b))
		d[n] = port.Datagram{Peer: u.in.From(u.next), Body: b[u.at:end:end]}
		u.at = end
		n++
	}
	return n
}

// control takes what came with a message.
func (u *udp) control(level, typ int32, value uint32) {
	switch {
	case level == unix.SOL_UDP && typ == unix.UDP_GRO && value > 0:
		u.seg = int(value)
	case level == unix.SOL_SOCKET && typ == unix.SO_RXQ_OVFL:
		u.lost.Store(uint64(value))
	}
}
