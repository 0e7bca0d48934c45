// Package shm makes and checks what two processes share for a flow: memory, which is
// a sealed memfd, and a bell, a socket by which each wakes the other. It does not
// know what is in the memory.
package shm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/sys"
)

// seals keep the size fixed for good. Without them a peer could truncate the
// file under the mapping, and every access would be a SIGBUS.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Create returns a new memfd of size bytes, all zero and sparse, sealed against
// any change of its size. The caller owns the descriptor, which is
// close-on-exec.
func Create(size int) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := sys.MemfdCreate("o7s-flow", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = sys.MemfdCreate("o7s-flow", flags)
	}
	if err != nil {
		return -1, sysErr("memfd_create", err)
	}
	if err := sys.Ftruncate(fd, size); err != nil {
		sys.Close(fd)
		return -1, sysErr("ftruncate", err)
	}
	if _, err := sys.Fcntl(fd, unix.F_ADD_SEALS, seals); err != nil {
		sys.Close(fd)
		return -1, sysErr("fcntl F_ADD_SEALS", err)
	}
	return fd, nil
}

// Map checks that fd is a sealed memfd of exactly size bytes and maps it. It
// closes fd in every case. An error about the descriptor wraps core.ErrUsage: the
// process that sent it is not to be trusted. The caller must Unmap.
func Map(fd, size int) ([]byte, error) {
	got, err := sys.Fcntl(fd, unix.F_GET_SEALS, 0)
	if err != nil {
		unix.Close(fd) // may be any kind of file, so sys.Close could wait
		return nil, fmt.Errorf("%w: memory: not a memfd", core.ErrUsage)
	}
	defer sys.Close(fd)
	if got&seals != seals {
		return nil, fmt.Errorf("%w: memory: seals %#x, want %#x", core.ErrUsage, got, seals)
	}
	// After the check of the seals: without them the size could change later.
	var st unix.Stat_t
	if err := sys.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("%w: memory: %w", core.ErrUsage, os.NewSyscallError("fstat", err))
	}
	if st.Size != int64(size) {
		return nil, fmt.Errorf("%w: memory: %d bytes, want %d", core.ErrUsage, st.Size, size)
	}
	mem, err := sys.Map(fd, size)
	if err != nil {
		return nil, sysErr("mmap", err)
	}
	return mem, nil
}

// Unmap unmaps what Map returned. No part of it may be used any more.
func Unmap(mem []byte) error {
	return os.NewSyscallError("munmap", sys.Unmap(mem))
}

// Discard gives the pages of part back to the system, for both processes. They read
// as zeros afterwards. part is a part of what Map returned, in whole pages.
func Discard(part []byte) error {
	// MADV_REMOVE: a hole in the file. The seals allow it.
	return os.NewSyscallError("madvise", unix.Madvise(part, unix.MADV_REMOVE))
}

// sysErr names the system call, and wraps core.ErrLimit too where a bound on
// memory or descriptors is the cause.
func sysErr(call string, err error) error {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM),
		errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: %w", core.ErrLimit, os.NewSyscallError(call, err))
	}
	return os.NewSyscallError(call, err)
}
