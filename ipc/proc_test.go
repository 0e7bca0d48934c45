package ipc_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core/view"
)

// pids are those of the IPCPs.
func pids(list []view.IPCP) []int {
	var all []int
	for _, i := range list {
		all = append(all, i.PID)
	}
	return all
}

// stolen returns a copy of descriptor fd of another process of this user.
func stolen(pid, fd int) (int, error) {
	p, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(p)
	return unix.PidfdGetfd(p, fd, 0)
}

// closeLink ends the connections of a process with the IRMd, or those of an
// IRMd with all, as if it had closed them.
func closeLink(pid int) error {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return err
	}
	for _, f := range fds {
		n, err := strconv.Atoi(f.Name())
		if err != nil {
			return err
		}
		fd, err := stolen(pid, n)
		if errors.Is(err, unix.EBADF) {
			continue // closed meanwhile
		}
		if err != nil {
			return err
		}
		typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		listens, lerr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err == nil && lerr == nil && typ == unix.SOCK_SEQPACKET && listens == 0 {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		}
		unix.Close(fd)
	}
	return nil
}

// possession is what a process has of the system's.
type possession struct{ descriptors, memories, threads, kB int }

func possessionOf(pid int) (h possession, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		return h, err
	}
	maps, err := os.ReadFile(dir + "maps")
	if err != nil {
		return h, err
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return h, err
	}
	h.descriptors, h.memories = len(fds), strings.Count(string(maps), "memfd:o7s")
	for line := range strings.Lines(string(status)) {
		switch f := strings.Fields(line); f[0] {
		case "Threads:":
			h.threads, err = strconv.Atoi(f[1])
		case "RssAnon:":
			h.kB, err = strconv.Atoi(f[1])
		}
	}
	return h, err
}

// holds returns what IRMd and IPCPs hold.
func (w *world) holds(t testing.TB) (all []possession) {
	t.Helper()
	list, err := w.admin.IPCPs(wait(t))
	must(t, err)
	for _, pid := range append([]int{w.pid()}, pids(list)...) {
		h, err := possessionOf(pid)
		must(t, err)
		all = append(all, h)
	}
	return all
}

// holdsNoMore waits until IRMd and IPCPs have no more descriptors and memories
// of flows than before: a layer lets go of them after it has said so.
func (w *world) holdsNoMore(t testing.TB, before []possession) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		after, more := w.holds(t), false
		for i, h := range after {
			more = more || h.descriptors > before[i].descriptors || h.memories > before[i].memories
		}
		if !more {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("IRMd and IPCPs held %+v, now %+v", before, after)
		}
	}
}
