// Package sys makes system calls that never wait, and does not tell Go's scheduler
// of them. When the scheduler is told of a call it wakes its monitor thread, if that
// sleeps. A process that allocates a flow works for a few microseconds at a time, so
// the monitor thread always sleeps, and to wake it costs more than the calls.
//
// Only calls that the kernel completes at once belong here. During a call the thread
// can do nothing else, and the garbage collector waits for it.
package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Close closes a descriptor of a memfd or of a socket of the Unix family. Other kinds
// of file may make the caller wait.
func Close(fd int) {
	// The only error is that fd is no descriptor: there is nothing to do then.
	unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// MemfdCreate is memfd_create(2).
func MemfdCreate(name string, flags int) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_MEMFD_CREATE, uintptr(unsafe.Pointer(p)), uintptr(flags), 0)
	return int(fd), result(errno)
}

// Fcntl is fcntl(2) of a command that takes an integer and is not about locks.
func Fcntl(fd, cmd, arg int) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), uintptr(cmd), uintptr(arg))
	return int(n), result(errno)
}

// GetsockoptInt is getsockopt(2) of an option that is an integer.
func GetsockoptInt(fd, level, opt int) (int, error) {
	var v int32
	n := uint32(unsafe.Sizeof(v))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&n)), 0)
	return int(v), result(errno)
}

// SetsockoptInt is setsockopt(2) of an option that is an integer.
func SetsockoptInt(fd, level, opt, v int) error {
	value := int32(v)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return result(errno)
}

// EpollNow is epoll_wait(2) that does not wait, of sockets of the Unix family.
func EpollNow(fd int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// PollNow is poll(2) that does not wait, of sockets of the Unix family and pidfds.
func PollNow(fds []unix.PollFd) (int, error) {
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return int(n), result(errno)
}

// Unmap undoes Map.
func Unmap(mem []byte) error {
	_, _, errno := unix.RawSyscall(unix.SYS_MUNMAP, uintptr(unsafe.Pointer(unsafe.SliceData(mem))), uintptr(len(mem)), 0)
	return result(errno)
}

func result(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
