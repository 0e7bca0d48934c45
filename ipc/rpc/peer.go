package rpc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/sys"
)

// Peer is the process that made a connection, by the kernel's word. It stays
// that process after an exec, and after the socket was passed to another one.
type Peer struct {
	// PID is the process's number here; 0 where it is in a PID namespace that
	// this process does not see. The number is the process's only while Alive
	// reports true: later another process may have it.
	PID int

	// UID and GID are NoID where the process has none in this user namespace.
	UID, GID int

	// Groups are the supplementary groups; nil where the kernel has no
	// SO_PEERGROUPS.
	Groups []int

	// PIDFD refers to the process itself. It is 0 where the process had ended
	// when the link was made, or the kernel has no pidfds (before Linux 5.3).
	// It is the link's, and is closed with it: an owner that needs it longer
	// duplicates it before OnEnd returns.
	PIDFD int
}

// NoID is the uid or gid of a peer that has none here. The kernel shows every
// such peer as the overflow uid (65534), so it names nobody.
const NoID = -1

// Alive reports whether the process still lives. It reports false where the
// kernel cannot tell.
func (p Peer) Alive() bool {
	if p.PIDFD <= 0 {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(p.PIDFD), Events: unix.POLLIN}}
	n, err := poll(fds)
	return err == nil && n == 0 // readable: it has ended
}

// poll is the system call without a wait, until it is not interrupted.
func poll(fds []unix.PollFd) (int, error) {
	for {
		n, err := sys.PollNow(fds)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func peerOf(raw syscall.RawConn) (p Peer, err error) {
	cerr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			err = os.NewSyscallError("getsockopt SO_PEERCRED", err)
			return
		}
		p.PID, p.UID, p.GID = int(cred.Pid), KnownUID(int(cred.Uid)), knownID(int(cred.Gid), "gid")
		if p.Groups, err = peerGroups(int(fd)); err != nil {
			err = os.NewSyscallError("getsockopt SO_PEERGROUPS", err)
			return
		}
		p.Groups = slices.DeleteFunc(p.Groups, func(gid int) bool { return knownID(gid, "gid") == NoID })
		p.PIDFD = peerPIDFD(int(fd), p.PID)
	})
	return p, errors.Join(cerr, err)
}

// peerPIDFD returns a pidfd of the process that made the connection, or 0.
func peerPIDFD(fd, pid int) int {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) && pid > 0 {
		// Before Linux 6.5 only the number is known. If the process that connected
		// has ended meanwhile, another process may have that number.
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	if err != nil || pidfd <= 0 {
		return 0
	}
	return pidfd
}

// KnownUID returns uid, or NoID where the kernel may have shown it for a user
// that this user namespace does not have.
func KnownUID(uid int) int { return knownID(uid, "uid") }

// knownID returns id, of the kind uid or gid. It returns NoID for the overflow id: the
// kernel shows that in place of every id that this user namespace does not have.
func knownID(id int, kind string) int {
	if id == overflowIDs()[kind] {
		return NoID
	}
	return id
}

// overflowIDs are the uid and the gid that stand for unknown ids. A user namespace that
// has all ids, as the system's first one has, needs none.
var overflowIDs = sync.OnceValue(func() map[string]int {
	ids := make(map[string]int)
	for _, kind := range []string{"uid", "gid"} {
		ids[kind] = overflowID("/proc/self/"+kind+"_map", "/proc/sys/kernel/overflow"+kind)
	}
	return ids
})

func overflowID(mapFile, idFile string) int {
	const usual = 65534
	if m, err := os.ReadFile(mapFile); err == nil && slices.Equal(strings.Fields(string(m)), []string{"0", "0", "4294967295"}) {
		return NoID
	}
	b, err := os.ReadFile(idFile)
	if err != nil {
		return usual
	}
	id, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return usual
	}
	return id
}

func peerGroups(fd int) ([]int, error) {
	gids := make([]uint32, 64)
	for {
		size := uint32(len(gids) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && int(size/4) > len(gids):
			gids = make([]uint32, size/4)
			continue
		case errno == unix.ENOPROTOOPT, errno == unix.ENODATA:
			return nil, nil
		case errno != 0:
			return nil, errno
		}
		groups := make([]int, 0, size/4)
		for _, g := range gids[:size/4] {
			groups = append(groups, int(g))
		}
		return groups, nil
	}
}

func checkSeqpacket(raw syscall.RawConn) error {
	var typ int
	var err error
	cerr := raw.Control(func(fd uintptr) {
		typ, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	})
	if err := errors.Join(cerr, err); err != nil {
		return err
	}
	if typ != unix.SOCK_SEQPACKET {
		return fmt.Errorf("%w: not a SOCK_SEQPACKET socket", core.ErrUsage)
	}
	return nil
}
