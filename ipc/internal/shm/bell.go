package shm

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/sys"
)

// Bell returns the two ends of a new bell: a connected pair of stream sockets
// of the Unix family, non-blocking and close-on-exec. The caller owns both.
//
// A bell is not an eventfd, since the status flags of an eventfd are shared: a
// hostile peer can make a write to it block. Each end of a socket pair has its
// own flags, and says when the other has gone.
//
// No descriptors can be sent through a bell, since Linux 6.16: whoever drains it
// would have to close them, which for some takes as long as their sender likes.
func Bell() ([2]int, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return [2]int{-1, -1}, sysErr("socketpair", err)
	}
	for _, fd := range p {
		_ = sys.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0) // an older kernel knows no such option
	}
	return p, nil
}

// CheckBell checks that fd is a connected stream socket of the Unix family and
// makes it non-blocking and close-on-exec. The error wraps core.ErrUsage; fd
// stays open.
func CheckBell(fd int) error {
	for _, o := range []struct {
		name      string
		opt, want int
	}{
		{"family", unix.SO_DOMAIN, unix.AF_UNIX},
		{"type", unix.SO_TYPE, unix.SOCK_STREAM},
	} {
		got, err := sys.GetsockoptInt(fd, unix.SOL_SOCKET, o.opt)
		if err != nil {
			return fmt.Errorf("%w: bell: %w", core.ErrUsage, os.NewSyscallError("getsockopt", err))
		}
		if got != o.want {
			return fmt.Errorf("%w: bell: socket %s %d, want %d", core.ErrUsage, o.name, got, o.want)
		}
	}
	// That the other end may have closed by now is not said here but found by
	// Dead, since what it wrote is still to be read.
	if acc, err := sys.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || acc != 0 {
		return fmt.Errorf("%w: bell: a listening socket", core.ErrUsage)
	}
	flags, err := sys.Fcntl(fd, unix.F_GETFL, 0)
	if err == nil && flags&unix.O_NONBLOCK == 0 {
		_, err = sys.Fcntl(fd, unix.F_SETFL, flags|unix.O_NONBLOCK)
	}
	if err != nil {
		return fmt.Errorf("%w: bell: %w", core.ErrUsage, os.NewSyscallError("fcntl", err))
	}
	if _, err := sys.Fcntl(fd, unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("%w: bell: %w", core.ErrUsage, os.NewSyscallError("fcntl", err))
	}
	return nil
}

// Dead reports whether the other end of the bell is closed or shut down, by its
// owner or by the kernel. It takes no bytes, so it also sees an end that is
// hidden behind some, and never waits.
func Dead(fd int) bool {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	var zero unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
	return errno == 0 && n > 0 && p.Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

const (
	drainBytes = 512
	drainCalls = 8 // bounds one Drain, however fast a hostile peer rings
)

// sink takes what is drained, from everybody, and nobody reads it. On the stack
// of a goroutine that waits it would double that stack.
var sink [drainBytes]byte

// Drain reads and forgets what the peer rang, up to a few KiB, and reports
// whether there was anything. It never waits: MSG_DONTWAIT, whatever the
// descriptor's flags are.
//
// Who drains takes the ring of the bell from everybody who sleeps on it: the
// poller reports only what is still to be read. They have to be woken, or to
// look at the memory once more.
func Drain(fd int) bool {
	some := false
	for range drainCalls {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&sink)), uintptr(len(sink)),
			unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || n == 0 {
			break // empty, or dead, which Dead says
		}
		some = true
	}
	return some
}

var ding = [1]byte{1}

// Ring wakes the other end. It never waits and raises no signal. The error is
// nil, ErrDead, or, if the kernel had no memory for it, ErrRetry: the peer was
// not woken.
//
// A full queue is no error: whoever left hundreds of bytes unread was told
// often enough.
func Ring(fd int) error {
	for range 3 {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&ding)), 1,
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0, unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ENOMEM, unix.ENOBUFS:
			continue
		}
		return ErrDead
	}
	return ErrRetry
}

var (
	ErrDead  = errors.New("bell: the other end is closed")
	ErrRetry = errors.New("bell: no memory to ring it")
)
