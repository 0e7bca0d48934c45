package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// old COMMAND... becomes COMMAND on Linux 5.4, as far as a filter of system calls
// can make this kernel one: what came later fails as it would there. Processes that
// it starts are under the same filter.
func old() {
	path, err := exec.LookPath(os.Args[1])
	if err == nil {
		runtime.LockOSThread() // a filter is a thread's, until it executes something
		err = filterSystemCalls()
	}
	if err == nil {
		err = unix.Exec(path, os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "old:", err)
	os.Exit(1)
}

// seccomp reports whether the kernel can filter system calls.
func seccomp() bool {
	_, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err == nil && auditArch != 0
}

var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]

// What Linux 5.4 has. System calls have had the same numbers on all machines since
// 5.0, in the order in which they came.
const (
	lastCall   = unix.SYS_CLONE3
	lastOption = 68 // of a socket: SO_DETACH_REUSEPORT_BPF
	memfdFlags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING | unix.MFD_HUGETLB
)

// Offsets in struct seccomp_data, of which an argument's lower half is all that is
// looked at.
const (
	dataCall = 0
	dataArch = 4
	dataArg1 = 24
	dataArg2 = 32
)

// filterSystemCalls puts this thread under the filter, and tries that it holds.
func filterSystemCalls() error {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	// skip skips the next n instructions if the comparison does not hold.
	skip := func(op uint16, k uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jf: n, K: k}
	}
	give := func(what uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
	}
	fail := func(errno unix.Errno) unix.SockFilter {
		return give(unix.SECCOMP_RET_ERRNO | uint32(errno))
	}
	filter := []unix.SockFilter{
		load(dataArch), skip(unix.BPF_JEQ, auditArch, 14),
		load(dataCall),
		skip(unix.BPF_JGT, lastCall, 1), fail(unix.ENOSYS),
		skip(unix.BPF_JEQ, unix.SYS_MEMFD_CREATE, 3), load(dataArg1), skip(unix.BPF_JSET, ^uint32(memfdFlags), 8), fail(unix.EINVAL),
		// getsockopt and setsockopt
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.SYS_GETSOCKOPT}, skip(unix.BPF_JEQ, unix.SYS_SETSOCKOPT, 5),
		load(dataArg1), skip(unix.BPF_JEQ, unix.SOL_SOCKET, 3), load(dataArg2), skip(unix.BPF_JGT, lastOption, 1), fail(unix.ENOPROTOOPT),
		give(unix.SECCOMP_RET_ALLOW),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return fmt.Errorf("PR_SET_SECCOMP: %w", err)
	}
	return tryFilter()
}

// tryFilter returns what the filter lets pass that it should not, or the other way
// round.
func tryFilter() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	option := func(o int) error {
		_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o)
		return err
	}
	memfd := func(flags int) error {
		fd, err := unix.MemfdCreate("old", flags)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	pidfd, now := unix.PidfdOpen(os.Getpid(), 0)
	if now == nil {
		defer unix.Close(pidfd)
	}
	_, getfd := unix.PidfdGetfd(pidfd, 0, 0)
	_, openat2 := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{})
	return errors.Join(
		expect("pidfd_open", now, nil),
		expect("pidfd_getfd", getfd, unix.ENOSYS),
		expect("openat2", openat2, unix.ENOSYS),
		expect("close_range", unix.CloseRange(1<<20, 1<<20, 0), unix.ENOSYS),
		expect("SO_TYPE", option(unix.SO_TYPE), nil),
		expect("SO_PEERPIDFD", option(unix.SO_PEERPIDFD), unix.ENOPROTOOPT),
		expect("SO_PASSRIGHTS", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0), unix.ENOPROTOOPT),
		expect("memfd_create", memfd(unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING), nil),
		expect("MFD_NOEXEC_SEAL", memfd(unix.MFD_NOEXEC_SEAL), unix.EINVAL),
	)
}

func expect(what string, got, want error) error {
	if got != want {
		return fmt.Errorf("%s gives %v under the filter, want %v", what, got, want)
	}
	return nil
}
