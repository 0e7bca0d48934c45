package applets

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noWait writes to a file as os.File does, but where the kernel takes the bytes
// at once, which it says of pipes, sockets and /dev/null, Go's scheduler is not
// told of the call. A daemon writes a line for every message or two: told of
// each, the scheduler would wake its monitor thread each time, which costs more
// than the line.
type noWait struct {
	f     *os.File
	never atomic.Bool // the kernel does not say so of f
}

func (w *noWait) Write(b []byte) (int, error) {
	n := 0
	if len(b) > 0 && !w.never.Load() {
		if n = w.try(b); n == len(b) {
			return n, nil
		}
	}
	m, err := w.f.Write(b[n:]) // which also knows what to do with an error
	return n + m, err
}

// try writes what can be written without waiting.
func (w *noWait) try(b []byte) (n int) {
	c, err := w.f.SyscallConn()
	if err != nil {
		return 0
	}
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	const here = ^uintptr(0) // the file's own position
	_ = c.Control(func(fd uintptr) {
		written, _, errno := unix.RawSyscall6(unix.SYS_PWRITEV2, fd, uintptr(unsafe.Pointer(&v)), 1, here, here, unix.RWF_NOWAIT)
		switch errno {
		case 0:
			n = int(written)
		case unix.EAGAIN, unix.EINTR: // another time, perhaps
		default:
			w.never.Store(true)
		}
	})
	return n
}
