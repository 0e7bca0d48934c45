package rpc

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetIO is one direction of a socket: sendmsg or recvmsg of one packet,
// without an allocation and without the peer's address, which the net package
// would make a string of for every packet.
type packetIO struct {
	hdr     unix.Msghdr
	iov     unix.Iovec
	control [64]byte // filled or read up to controlSpace
	n       int      // bytes of the packet
	oobn    int      // bytes of control that were received
	flags   int      // MSG_TRUNC, MSG_CTRUNC
	err     unix.Errno
	wait    bool // park until the socket is ready, instead of EAGAIN
	told    bool // the scheduler is told of the call: it may take long
}

// controlSpace is room for exactly MaxFiles descriptors.
var controlSpace = unix.CmsgSpace(4 * MaxFiles)

func (p *packetIO) prepare(b []byte, control int) {
	p.iov.Base = &b[0]
	p.iov.SetLen(len(b))
	p.hdr = unix.Msghdr{Iov: &p.iov}
	p.hdr.SetIovlen(1)
	if control > 0 {
		p.hdr.Control = &p.control[0]
		p.hdr.SetControllen(control)
	}
}

// call runs a system call on p.hdr until it is not interrupted. It reports
// false where the caller is to park. The call never waits, so the scheduler is
// not told of it: that would wake its monitor for most messages.
func (p *packetIO) call(trap, fd uintptr, flags int) bool {
	for {
		var n uintptr
		var errno unix.Errno
		if p.told {
			n, _, errno = unix.Syscall(trap, fd, uintptr(unsafe.Pointer(&p.hdr)), uintptr(flags|unix.MSG_DONTWAIT))
		} else {
			n, _, errno = unix.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&p.hdr)), uintptr(flags|unix.MSG_DONTWAIT))
		}
		if errno == unix.EINTR {
			continue
		}
		p.n, p.err = int(n), errno
		p.oobn, p.flags = int(p.hdr.Controllen), int(p.hdr.Flags)
		return errno != unix.EAGAIN || !p.wait
	}
}

// putFiles writes the control message that passes fds and returns its length.
func (p *packetIO) putFiles(fds []int) int {
	if len(fds) == 0 {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&p.control[0]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(4 * len(fds)))
	for i, fd := range fds {
		*(*int32)(unsafe.Pointer(&p.control[unix.CmsgLen(4*i)])) = int32(fd)
	}
	return unix.CmsgSpace(4 * len(fds))
}

// takeFiles returns every descriptor that was received, and whether the
// control data were anything else than descriptors.
func (p *packetIO) takeFiles() (fds []int, bad bool) {
	if p.oobn == 0 {
		return nil, false
	}
	msgs, err := unix.ParseSocketControlMessage(p.control[:p.oobn])
	bad = err != nil
	for i := range msgs {
		more, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			bad = true
			continue
		}
		fds = append(fds, more...)
	}
	return fds, bad
}
