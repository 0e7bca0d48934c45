package rpc

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// files are descriptors that came with a packet. A nil *files has none.
type files struct {
	mu  sync.Mutex
	fds []int
}

func (f *files) take() []int {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fds := f.fds
	f.fds = nil
	return fds
}

func (f *files) close() { closeAll(f.take()) }

// closeWithOwner makes the collector close what nobody has taken, as os.File
// does: a reply goes to a caller who may not expect descriptors in it.
func (f *files) closeWithOwner() {
	if f != nil {
		runtime.SetFinalizer(f, (*files).close)
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// dupAll duplicates fds, close-on-exec, all or none.
func dupAll(fds []int) ([]int, error) {
	if len(fds) == 0 {
		return nil, nil
	}
	dups := make([]int, 0, len(fds))
	for _, fd := range fds {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(dups)
			return nil, err
		}
		dups = append(dups, d)
	}
	return dups, nil
}
