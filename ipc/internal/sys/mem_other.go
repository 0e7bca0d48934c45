//go:build !(amd64 || arm64 || ppc64le || riscv64)

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The names and arguments of these calls differ between these architectures. Package
// unix knows them, and tells the scheduler of each call.

// Ftruncate is ftruncate(2) of a memfd.
func Ftruncate(fd, size int) error { return unix.Ftruncate(fd, int64(size)) }

// Fstat is fstat(2) of a memfd.
func Fstat(fd int, st *unix.Stat_t) error { return unix.Fstat(fd, st) }

// Map maps size bytes of a memfd, shared, to read and to write.
func Map(fd, size int) ([]byte, error) {
	// Not unix.Mmap, which remembers every mapping in a table of its own.
	p, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), size), nil
}
