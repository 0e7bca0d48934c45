// Package mmsg sends and receives many messages of a datagram socket with one
// system call. It allocates nothing for a message. All unsafe code is in here.
package mmsg

import (
	"net/netip"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Batch is how many messages one system call passes at most.
const Batch = 64

// MaxSegments is how many datagrams the kernel makes of one message at most.
const MaxSegments = 64

// header is struct mmsghdr.
type header struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// control is room for one control message with a number of 4 bytes, twice.
type control [2 * ctlSpace]byte

// ctlSpace is CMSG_SPACE(4).
const ctlSpace = (unix.SizeofCmsghdr + 4 + 7) &^ 7

// Out is messages to be sent. The zero value is empty. It is not safe for
// concurrent use.
type Out struct {
	n     int
	heads [Batch]header
	names [Batch]unix.RawSockaddrInet6 // or RawSockaddrInet4, which is shorter
	ctl   [Batch]control
	parts []unix.Iovec
	first [Batch]int // of each message in parts
}

// Reset empties o.
func (o *Out) Reset() { o.n, o.parts = 0, o.parts[:0] }

// Len returns how many messages there are.
func (o *Out) Len() int { return o.n }

// Begin begins a message to an address. There must be less than Batch.
func (o *Out) Begin(to netip.AddrPort) {
	i := o.n
	o.n++
	o.first[i] = len(o.parts)
	h := &o.heads[i]
	h.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&o.names[i])), Namelen: putAddr(&o.names[i], to)}
}

// BeginRaw begins a message to a link-layer address.
func (o *Out) BeginRaw(to *unix.RawSockaddrLinklayer) {
	i := o.n
	o.n++
	o.first[i] = len(o.parts)
	h := &o.heads[i]
	*(*unix.RawSockaddrLinklayer)(unsafe.Pointer(&o.names[i])) = *to
	h.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&o.names[i])), Namelen: unix.SizeofSockaddrLinklayer}
}

// Add adds a piece of memory to the last message. It must stay valid until Send
// has returned.
func (o *Out) Add(b []byte) {
	if len(b) == 0 {
		return
	}
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	o.parts = append(o.parts, v)
}

// Segment makes the kernel cut the last message into datagrams of size bytes.
func (o *Out) Segment(size int) {
	i := o.n - 1
	c := &o.ctl[i]
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.SizeofCmsghdr + 2)
	*(*uint16)(unsafe.Pointer(&c[unix.SizeofCmsghdr])) = uint16(size)
	o.heads[i].hdr.Control = &c[0]
	o.heads[i].hdr.SetControllen(ctlSpace)
}

// Send sends the messages from the from-th on, and returns how many the socket
// took. The error is about the one after those.
func (o *Out) Send(fd uintptr, from int) (int, unix.Errno) {
	for i := from; i < o.n; i++ {
		end := len(o.parts)
		if i+1 < o.n {
			end = o.first[i+1]
		}
		h := &o.heads[i].hdr
		h.Iov = nil
		if end > o.first[i] {
			h.Iov = &o.parts[o.first[i]]
		}
		h.SetIovlen(end - o.first[i])
	}
	n, errno := call(unix.SYS_SENDMMSG, fd, o.heads[from:o.n], 0, o.n-from)
	runtime.KeepAlive(o)
	return n, errno
}

// few is how many messages pass in a moment.
const few = 8

// call is sendmmsg(2) or recvmmsg(2) on a non-blocking socket. Where few messages are
// expected to pass, the scheduler is not told of it, as in package sys.
func call(trap, fd uintptr, heads []header, flags uintptr, expected int) (int, unix.Errno) {
	var n uintptr
	var errno unix.Errno
	if expected <= few {
		n, _, errno = unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&heads[0])), uintptr(len(heads)), flags, 0, 0)
	} else {
		n, _, errno = unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&heads[0])), uintptr(len(heads)), flags, 0, 0)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// putAddr writes to as the kernel has it, and returns its length.
func putAddr(b *unix.RawSockaddrInet6, to netip.AddrPort) uint32 {
	port := to.Port()<<8 | to.Port()>>8 // in network order
	if a := to.Addr(); a.Is4() {
		s := (*unix.RawSockaddrInet4)(unsafe.Pointer(b))
		*s = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: a.As4()}
		return unix.SizeofSockaddrInet4
	}
	*b = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: to.Addr().As16()}
	return unix.SizeofSockaddrInet6
}

// In is room for messages to be received. It is not safe for concurrent use.
type In struct {
	heads []header
	names []unix.RawSockaddrInet6
	ctl   []control
	parts []unix.Iovec
	bufs  [][]byte
	last  int // how many messages came last
}

// NewIn returns room for n messages of size bytes each.
func NewIn(n, size int) *In {
	in := &In{heads: make([]header, n), names: make([]unix.RawSockaddrInet6, n), ctl: make([]control, n), parts: make([]unix.Iovec, n)}
	for i := range n {
		b := make([]byte, size)
		in.bufs = append(in.bufs, b)
		in.parts[i].Base = &b[0]
		in.parts[i].SetLen(size)
	}
	return in
}

// Recv receives messages that are there, without waiting, and returns how many.
func (in *In) Recv(fd uintptr) (int, unix.Errno) { return in.recv(fd, unix.MSG_DONTWAIT) }

// RecvErrors is Recv of what networks say about messages that were sent: From is
// to whom, and a control message holds the error.
func (in *In) RecvErrors(fd uintptr) (int, unix.Errno) {
	return in.recv(fd, unix.MSG_DONTWAIT|unix.MSG_ERRQUEUE)
}

func (in *In) recv(fd uintptr, flags uintptr) (int, unix.Errno) {
	for i := range in.heads {
		h := &in.heads[i].hdr
		*h = unix.Msghdr{
			Name: (*byte)(unsafe.Pointer(&in.names[i])), Namelen: unix.SizeofSockaddrInet6,
			Iov: &in.parts[i], Control: &in.ctl[i][0],
		}
		h.SetIovlen(1)
		h.SetControllen(len(in.ctl[i]))
	}
	n, errno := call(unix.SYS_RECVMMSG, fd, in.heads, flags, in.last)
	runtime.KeepAlive(in)
	in.last = n
	return n, errno
}

// Bytes returns the bytes of message i.
func (in *In) Bytes(i int) []byte { return in.bufs[i][:in.heads[i].n] }

// Whole reports whether message i fitted.
func (in *In) Whole(i int) bool { return in.heads[i].hdr.Flags&unix.MSG_TRUNC == 0 }

// From returns who sent message i.
func (in *In) From(i int) netip.AddrPort {
	n := &in.names[i]
	port := n.Port<<8 | n.Port>>8
	switch n.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(n.Addr).Unmap(), port)
	}
	return netip.AddrPort{}
}

// FromRaw returns who sent message i of a packet socket.
func (in *In) FromRaw(i int) *unix.RawSockaddrLinklayer {
	return (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&in.names[i]))
}

// Control calls each with the control messages of message i that hold a number
// of at least 4 bytes, or of 2.
func (in *In) Control(i int, each func(level, typ int32, value uint32)) {
	b := in.ctl[i][:min(uint64(in.heads[i].hdr.Controllen), uint64(len(in.ctl[i])))]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := uint64(h.Len)
		if n < unix.SizeofCmsghdr || n > uint64(len(b)) {
			return
		}
		switch v := b[unix.SizeofCmsghdr:n]; {
		case len(v) >= 4:
			each(h.Level, h.Type, *(*uint32)(unsafe.Pointer(&v[0])))
		case len(v) >= 2:
			each(h.Level, h.Type, uint32(*(*uint16)(unsafe.Pointer(&v[0]))))
		}
		b = b[min((n+7)&^7, uint64(len(b))):]
	}
}
