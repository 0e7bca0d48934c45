package output

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is the Destination f: a terminal, a pipe, a socket, a device or a file
// on a disk.
//
// Try calls the kernel without telling Go's scheduler. A daemon writes a line
// for every message or two. If the scheduler knew of each such call, it would
// wake its monitor thread each time, which costs more than the line.
type File struct {
	*os.File
	disk  bool        // a regular file: a write to it waits for no reader
	never atomic.Bool // the kernel knows no write to it that surely does not wait
}

// NewFile returns the Destination f.
func NewFile(f *os.File) *File {
	info, err := f.Stat()
	return &File{File: f, disk: err == nil && info.Mode().IsRegular()}
}

// Try implements Destination.
func (f *File) Try(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if !f.never.Load() {
		if n, err = f.noWait(b); err != nil || n == len(b) {
			return n, err
		}
	}
	if !f.disk {
		return n, nil
	}
	m, err := f.Write(b[n:])
	return n + m, err
}

// noWait writes what the kernel takes at once, as it does for pipes, sockets
// and /dev/null.
func (f *File) noWait(b []byte) (n int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	const here = ^uintptr(0) // the file's own position
	cerr := c.Control(func(fd uintptr) {
		written, _, errno := unix.RawSyscall6(unix.SYS_PWRITEV2, fd, uintptr(unsafe.Pointer(&v)), 1, here, here, unix.RWF_NOWAIT)
		switch errno {
		case 0:
			n = int(written)
		case unix.EAGAIN, unix.EINTR: // there may be room later
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL, unix.ESPIPE:
			f.never.Store(true)
		default:
			err = &os.PathError{Op: "write", Path: f.Name(), Err: syscall.Errno(errno)}
		}
	})
	if cerr != nil { // it is closed, which Write says in os.File's words
		return f.Write(b)
	}
	return n, err
}
