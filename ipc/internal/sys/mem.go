//go:build amd64 || arm64 || ppc64le || riscv64

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ftruncate is ftruncate(2) of a memfd.
func Ftruncate(fd, size int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_FTRUNCATE, uintptr(fd), uintptr(size), 0)
	return result(errno)
}

// Fstat is fstat(2) of a memfd.
func Fstat(fd int, st *unix.Stat_t) error {
	_, _, errno := unix.RawSyscall(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(st)), 0)
	return result(errno)
}

// Map maps size bytes of a memfd, shared, to read and to write.
func Map(fd, size int) ([]byte, error) {
	p, _, errno := unix.RawSyscall6(unix.SYS_MMAP, 0, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, uintptr(fd), 0)
	if errno != 0 {
		return nil, errno
	}
	// It is not the garbage collector's memory, so p may be a number until here.
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), size), nil
}
