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
// A bell is not an eventfd. Both processes share the status flags of an eventfd, so
// a hostile peer can make a write to it block. Each end of a socket pair has its own
// flags, and tells when the other end is closed.
//
// Since Linux 6.16 no descriptors can be sent through a bell. The process that drains
// the bell would have to close them, and a hostile sender can choose ones whose close
// takes as long as it likes.
func NewBell() ([2]int, error) {
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
	// The other end may be closed by now. Dead finds that later: what it wrote
	// is read first.
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
// owner or by the kernel. It reads no bytes, so bytes that wait to be read do not
// hide the end. It never waits.
func Dead(fd int) bool {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	var zero unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0)
	return errno == 0 && n > 0 && p.Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

const (
	drainBytes = 512
	drainCalls = 8 // bounds one Drain, however fast a hostile peer writes
)

// sink takes the bytes that all calls of Drain read; no code reads it. On the stack
// of a goroutine that waits it would double the size of that stack.
var sink [drainBytes]byte

// Drain reads and drops the bytes of the peer's Notify, up to a few KiB, and reports
// whether there were any. It never waits: MSG_DONTWAIT, whatever the descriptor's
// flags are.
//
// The poller reports only bytes that are still to be read. So after a Drain, all
// other goroutines that sleep on the bell must be woken, or the memory be checked
// for them.
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

var oneByte = [1]byte{1}

// Notify wakes the other end. It never waits and raises no signal. The error is nil;
// ErrDead; or ErrRetry if the kernel had no memory, so that the peer was not woken.
//
// A full queue is no error: a peer with hundreds of bytes to read is awake, or will
// be without one more.
func Notify(fd int) error {
	for range 3 {
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&oneByte)), 1,
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
	ErrRetry = errors.New("bell: no memory to wake the other end")
)
