package sys

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// NewEpoll returns an epoll instance in a file that is itself in Go's poller. So a
// goroutine that waits for its events takes no thread: it calls Read of the RawConn with
// a function that looks for events and does not wait. The caller closes the file, which
// also ends that Read. name is the file's. Unlike the other functions of this package it
// makes ordinary system calls.
func NewEpoll(name string) (*os.File, syscall.RawConn, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(ep, true); err != nil { // else NewFile keeps it out of the poller
		unix.Close(ep)
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(ep), name)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, raw, nil
}
