package port

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/ipcp/port"
	"o7s/ipc/internal/mmsg"
)

const (
	etherHead = 14
	// etherRecv bounds one frame that is received: a jumbo frame, or what a
	// device puts together of several.
	etherRecv = 1 << 16
	// maxMTU bounds what is believed of a device's MTU: a length on the wire
	// has 16 bits.
	maxMTU = 65535
	// loMTU bounds frames on the loopback device, as the C prototype does.
	loMTU = 9000
	// minEther is the smallest EtherType.
	minEther = 0x0600
)

// Ether implements port.Opener.
func (machine) Ether(dev string, proto port.Proto) (port.Ether, error) { return openEther(dev, proto) }

// ether is port.Ether: a packet socket that is bound to its device and to its
// protocol, so that the kernel passes on no other frames.
type ether struct {
	dev   string
	proto port.Proto
	file  *os.File
	rc    syscall.RawConn
	claim int // the socket that keeps others off this device and protocol
	lost  atomic.Uint64

	index   atomic.Int32
	mac     atomic.Uint64
	mtu     atomic.Int32
	up      atomic.Bool
	changed chan struct{}
	done    chan struct{}
	wg      sync.WaitGroup // of watch

	recvMu sync.Mutex // guards the fields below
	in     *mmsg.In
	got    int
	next   int
	recv   func(uintptr) bool

	sendMu sync.Mutex // guards the fields below
	out    mmsg.Out
	heads  [mmsg.Batch][etherHead]byte
	from   int
	send   func(uintptr) bool
	serr   unix.Errno
}

func openEther(dev string, proto port.Proto) (*ether, error) {
	if proto != port.LLC && proto < minEther {
		return nil, fmt.Errorf("%w: %#04x is no EtherType: those begin with 0x0600", core.ErrUsage, uint16(proto))
	}
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return nil, fmt.Errorf("%w: this system has no such device; it has %s", core.ErrNotFound, deviceNames())
	}
	e := &ether{dev: dev, proto: proto, changed: make(chan struct{}, 1), done: make(chan struct{}), in: mmsg.NewIn(recvMsgs, etherRecv)}
	e.recv, e.send = e.recvNow, e.sendNow
	if len(link.Attrs().HardwareAddr) != 6 {
		return nil, fmt.Errorf("%w: it is no Ethernet device", core.ErrUsage)
	}
	e.learn(link)
	if e.claim, err = claim(dev, proto); err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		unix.Close(e.claim)
		return nil, err
	}
	news, err := subscribe()
	if err != nil {
		e.file.Close()
		unix.Close(e.claim)
		return nil, fmt.Errorf("watch the devices: %w", err)
	}
	e.wg.Go(func() { e.watch(news) })
	return e, nil
}

// open opens the socket.
func (e *ether) open() error {
	// Without a protocol until it is bound: else it would receive the frames
	// of all devices for a moment.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	switch {
	case err == unix.EPERM:
		return fmt.Errorf("%w: frames on Ethernet are for root; without root, once: sudo setcap cap_net_raw+ep %s", core.ErrPermission, executable())
	case err != nil:
		return os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	setBuffers(fd)
	if err := e.bind(fd); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("bind", err)
	}
	e.file = os.NewFile(uintptr(fd), "ether")
	if e.rc, err = e.file.SyscallConn(); err != nil {
		e.file.Close()
	}
	return err
}

func (e *ether) bind(fd int) error {
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network16(uint16(e.proto)), Ifindex: int(e.index.Load())})
}

func network16(n uint16) uint16 { return n<<8 | n>>8 }

func executable() string {
	path, err := os.Executable()
	if err != nil {
		return "FILE"
	}
	return path
}

func deviceNames() string {
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		return "none"
	}
	names := ""
	for i, d := range all {
		if i > 0 {
			names += ", "
		}
		names += d.Name
	}
	return names
}

// claim keeps two layers of one system from using the same device and protocol:
// each would take the other's frames for its own. The name of the socket, which
// the kernel forgets with the process, is that of a network namespace.
func claim(dev string, proto port.Proto) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@o7s/ether/%s/%04x", dev, uint16(proto))})
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	if err != unix.EADDRINUSE {
		return -1, os.NewSyscallError("bind", err)
	}
	if proto == port.LLC {
		return -1, fmt.Errorf("%w: another layer of this system uses LLC on it", core.ErrExists)
	}
	return -1, fmt.Errorf("%w: another layer of this system uses EtherType %04X on it", core.ErrExists, uint16(proto))
}

// learn takes what a device is like.
func (e *ether) learn(link netlink.Link) {
	a := link.Attrs()
	e.index.Store(int32(a.Index))
	mac := uint64(0)
	for _, b := range a.HardwareAddr {
		mac = mac<<8 | uint64(b)
	}
	e.mac.Store(mac)
	mtu := min(a.MTU, maxMTU)
	if a.Flags&net.FlagLoopback != 0 {
		mtu = min(mtu, loMTU)
	}
	e.mtu.Store(int32(mtu))
	e.up.Store(a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_RUNNING != 0)
}

// subscription is the kernel's news of all devices. The kernel ends it where it has
// more news than it keeps.
type subscription struct {
	updates chan netlink.LinkUpdate
	done    chan struct{}
}

func subscribe() (*subscription, error) {
	s := &subscription{make(chan netlink.LinkUpdate, 16), make(chan struct{})}
	return s, netlink.LinkSubscribe(s.updates, s.done)
}

// close ends the subscription, and the goroutine that may wait to pass on news.
func (s *subscription) close() {
	close(s.done)
	for range s.updates {
	}
}

// watchAgain is the time until a subscription that failed is tried again.
const watchAgain = time.Second

// watch follows the device until the socket is closed: its link, its MTU, and
// that it vanishes and comes back as another of the same name.
func (e *ether) watch(news *subscription) {
	for {
		over := e.follow(news)
		news.close()
		if over {
			return
		}
		for {
			var err error
			if news, err = subscribe(); err == nil {
				break
			}
			select {
			case <-time.After(watchAgain):
			case <-e.done:
				return
			}
		}
		// What has happened meanwhile nobody has told.
		link, err := netlink.LinkByName(e.dev)
		switch {
		case err == nil:
			e.became(link)
		case errors.As(err, new(netlink.LinkNotFoundError)):
			e.vanished()
		}
	}
}

// follow takes news until the socket is closed, or until the subscription ends:
// then it returns false.
func (e *ether) follow(news *subscription) (over bool) {
	for {
		select {
		case u, ok := <-news.updates:
			switch {
			case !ok:
				return false
			case u.Attrs().Name != e.dev || u.Family == unix.AF_BRIDGE: // the latter is of a port of a bridge
			case u.Header.Type == unix.RTM_DELLINK:
				e.vanished()
			default:
				e.became(u.Link)
			}
		case <-e.done:
			return true
		}
	}
}

// became takes what the device is like now.
func (e *ether) became(link netlink.Link) {
	was := e.index.Load()
	e.learn(link)
	if e.index.Load() != was {
		_ = e.rc.Control(func(fd uintptr) { _ = e.bind(int(fd)) })
	}
	e.tell()
}

func (e *ether) vanished() {
	e.up.Store(false)
	e.tell()
}

// tell says that something about the device has changed.
func (e *ether) tell() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// MAC implements port.Ether.
func (e *ether) MAC() (mac port.MAC) {
	n := e.mac.Load()
	for i := range mac {
		mac[len(mac)-1-i] = byte(n >> (8 * i))
	}
	return mac
}

// MTU implements port.Ether.
func (e *ether) MTU() int { return int(e.mtu.Load()) }

// Up implements port.Ether.
func (e *ether) Up() bool { return e.up.Load() }

// Changed implements port.Ether.
func (e *ether) Changed() <-chan struct{} { return e.changed }

// Lost implements port.Ether.
func (e *ether) Lost() uint64 { return e.lost.Load() }

// Close implements port.Ether.
func (e *ether) Close() error {
	close(e.done)
	err := e.file.Close()
	e.wg.Wait()
	unix.Close(e.claim)
	return err
}

// Send implements port.Ether.
func (e *ether) Send(f []port.Frame) (int, error) {
	e.sendMu.Lock()
	defer e.sendMu.Unlock()
	sent := 0
	for sent < len(f) {
		e.fill(f[sent:])
		err := e.flush()
		sent += e.from
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// fill makes messages of as many of f as fit.
func (e *ether) fill(f []port.Frame) {
	e.out.Reset()
	e.from = 0
	to := unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Protocol: network16(uint16(e.proto)), Ifindex: e.index.Load(), Halen: 6}
	own := e.MAC()
	for i := range min(len(f), mmsg.Batch) {
		head := e.heads[i][:]
		copy(head, f[i].Peer[:])
		copy(head[6:], own[:])
		typ := uint16(e.proto)
		if e.proto == port.LLC {
			typ = uint16(len(f[i].Head) + len(f[i].Body))
		}
		head[12], head[13] = byte(typ>>8), byte(typ)
		copy(to.Addr[:], f[i].Peer[:])
		e.out.BeginRaw(&to)
		e.out.Add(head)
		e.out.Add(f[i].Head)
		e.out.Add(f[i].Body)
	}
}

func (e *ether) flush() error {
	for e.from < e.out.Len() {
		e.serr = 0
		if err := e.rc.Write(e.send); err != nil {
			return core.ErrClosed
		}
		if e.serr != 0 {
			return os.NewSyscallError("sendmmsg", e.serr)
		}
	}
	return nil
}

// sendNow is called by the poller until it returns true.
func (e *ether) sendNow(fd uintptr) bool {
	n, errno := e.out.Send(fd, e.from)
	switch errno {
	case 0:
		e.from += n
	case unix.EAGAIN:
		return false
	case unix.EINTR:
	default:
		e.serr = errno
	}
	return true
}

// Recv implements port.Ether.
func (e *ether) Recv(f []port.Frame) (int, error) {
	e.recvMu.Lock()
	defer e.recvMu.Unlock()
	for {
		n := 0
		for ; n < len(f) && e.next < e.got; e.next++ {
			if e.take(e.next, &f[n]) {
				n++
			}
		}
		if n > 0 {
			return n, nil
		}
		if err := e.rc.Read(e.recv); err != nil {
			return 0, core.ErrClosed
		}
	}
}

// recvNow is called by the poller until it returns true. An error says that the
// device is down, or has vanished: it may come back.
func (e *ether) recvNow(fd uintptr) bool {
	n, errno := e.in.Recv(fd)
	switch errno {
	case 0:
		e.got, e.next = n, 0
	case unix.EAGAIN:
		return false
	}
	return true
}

// take makes message i a frame, unless it is not for this socket.
func (e *ether) take(i int, f *port.Frame) bool {
	b := e.in.Bytes(i)
	tagged := false
	e.in.Control(i, func(level, typ int32, value uint32) {
		switch {
		case level == unix.SOL_PACKET && typ == unix.PACKET_AUXDATA:
			tagged = value&unix.TP_STATUS_VLAN_VALID != 0
		case level == unix.SOL_SOCKET && typ == unix.SO_RXQ_OVFL:
			e.lost.Store(uint64(value))
		}
	})
	kind := e.in.FromRaw(i).Pkttype
	if tagged || len(b) < etherHead || !e.in.Whole(i) || kind == unix.PACKET_OUTGOING || kind == unix.PACKET_OTHERHOST {
		return false
	}
	body := b[etherHead:]
	if e.proto == port.LLC {
		n := int(b[12])<<8 | int(b[13])
		if n >= minEther || n > len(body) {
			return false
		}
		body = body[:n]
	}
	*f = port.Frame{Peer: port.MAC(b[6:12]), Group: kind == unix.PACKET_BROADCAST || kind == unix.PACKET_MULTICAST, Body: body}
	return true
}
