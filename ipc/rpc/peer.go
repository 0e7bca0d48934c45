package rpc

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// Peer is who is at the other end of a link. It is the kernel's word, of the
// time of connect: also after an exec, and after the socket was passed on.
type Peer struct {
	PID, UID, GID int
	Groups        []int // supplementary; nil where the kernel has no SO_PEERGROUPS

	// PIDFD refers to the process itself, whatever becomes of its number; 0
	// where the kernel has no SO_PEERPIDFD. It is the link's, and closed with
	// it: whoever needs it longer duplicates it before OnEnd returns.
	PIDFD int
}

func peerOf(raw syscall.RawConn) (p Peer, err error) {
	cerr := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			err = os.NewSyscallError("getsockopt SO_PEERCRED", err)
			return
		}
		p.PID, p.UID, p.GID = int(cred.Pid), int(cred.Uid), int(cred.Gid)
		if p.Groups, err = peerGroups(int(fd)); err != nil {
			err = os.NewSyscallError("getsockopt SO_PEERGROUPS", err)
			return
		}
		// Not every kernel has it, and a peer that is gone may have none.
		if pidfd, perr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); perr == nil && pidfd > 0 {
			p.PIDFD = pidfd
		}
	})
	return p, errors.Join(cerr, err)
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
