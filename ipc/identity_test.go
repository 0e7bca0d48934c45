package ipc_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// stolenLink returns a copy of the connection of a process with the IRMd. It
// stays open when the process ends, as one that the process had passed on.
func stolenLink(t *testing.T, pid int) *net.UnixConn {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	for _, f := range fds {
		n, err := strconv.Atoi(f.Name())
		must(t, err)
		fd, err := stolen(pid, n)
		must(t, err)
		file := os.NewFile(uintptr(fd), "stolen")
		defer file.Close()
		if typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || typ != unix.SOCK_SEQPACKET {
			continue
		}
		c, err := net.FileConn(file)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		must(t, c.SetDeadline(time.Now().Add(patience)))
		return c.(*net.UnixConn)
	}
	t.Fatalf("process %d has no connection", pid)
	return nil
}

// A connection ends with the process that made it, though another process holds
// it: what the process listened on is free, and its number names it no more.
func TestConnectionEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "local")
	w.register(t, "service")
	server := w.role(t, "test-echo", "listens", "service")
	held := stolenLink(t, server.pid())
	must(t, w.admin.BindProcess(wait(t), server.pid(), "other"))
	server.kill()
	fails(t, "bind the process that has ended", w.admin.BindProcess(wait(t), server.pid(), "third"), core.ErrNotFound)
	if err := ended(held); err != nil {
		t.Errorf("the connection of a process that has ended: %v", err)
	}
	_, err := w.node.Dial(wait(t), "service")
	fails(t, "dial what the process served", err, core.ErrNotAllocated)
	w.role(t, "test-echo", "listens", "service")
	c := w.dial(t, "service")
	must(t, ask(c, "x"))
	must(t, c.Close())
}

// idleRole connects to the IRMd and does not announce itself.
func idleRole(ctx context.Context, _ []string) error {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err == nil {
		_, err = rpc.Do(ctx, l, irmctl.ShowSystem, &rpc.Empty{}, nil)
	}
	if err != nil {
		return err
	}
	fmt.Println("connected")
	<-ctx.Done()
	return nil
}

// A process that has ended cannot be announced by another process that holds its
// connection.
func TestDeadProcessIsNotAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "local")
	for range 10 {
		p := w.role(t, "test-idle", "connected")
		held := stolenLink(t, p.pid())
		p.kill()
		announce := "\x95\x01\x01\x00\xa8announce\x92\xa1x\xa0"
		_, _ = held.Write([]byte(announce)) // or the IRMd has ended it already
		if err := ended(held); err != nil {
			t.Fatalf("the connection of a process that has ended: %v", err)
		}
		list, err := w.admin.Processes(wait(t))
		must(t, err)
		if len(list) > 0 {
			t.Fatalf("announced: %+v", list)
		}
	}
}

// A connection that a process has passed on speaks for that process while it
// lives: calls on the copy are the process's.
func TestPassedConnectionIsItsMakers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "local")
	w.register(t, "service")
	p := w.role(t, "test-idle", "connected")
	held := stolenLink(t, p.pid())
	stopped(t, p.pid(), func() { // else it reads the answer
		_, err := held.Write([]byte("\x95\x01\x64\x00\xa8announce\x92\xa1x\xa0"))
		must(t, err)
		answer := make([]byte, rpc.MaxMessage)
		n, err := held.Read(answer)
		if want := "\x94\x03\x64\x00\x90"; string(answer[:n]) != want || err != nil {
			t.Fatalf("the announcement is answered by %q, %v, want %q", answer[:n], err, want)
		}
		list, err := w.admin.Processes(wait(t))
		must(t, err)
		if len(list) != 1 || list[0].PID != p.pid() {
			t.Errorf("announced: %+v, want process %d", list, p.pid())
		}
	})
}

// inPIDNamespace makes a process the first one of a PID namespace.
func inPIDNamespace() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
}

// Processes that the IRMd's PID namespace does not have are told apart: each
// listens and dials, none replaces another or is bound by its number.
func TestProcessesThatAreNotSeen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a PID namespace")
	}
	t.Parallel()
	dir, err := newDir()
	must(t, err)
	p, err := start("irmd", dir, inPIDNamespace(), "--stdout")
	must(t, err)
	w := &world{system: &system{p, dir}, typ: "local"}
	t.Cleanup(func() {
		w.admin.Close()
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	_, err = p.line(started, 1)
	must(t, err)
	w.setUp(t)
	w.register(t, "one", "two")
	w.role(t, "test-echo", "listens", "one")
	w.role(t, "test-echo", "listens", "two")
	for _, name := range []string{"one", "two", "one"} {
		client := w.role(t, "test-client", "dialed", name)
		client.kill()
	}
	list, err := w.admin.Processes(wait(t))
	must(t, err)
	seen := make(map[int]bool)
	for _, p := range list {
		if seen[p.PID] || p.PID >= 0 {
			t.Errorf("a process that is not seen has the number %d", p.PID)
		}
		seen[p.PID] = true
		fails(t, "bind it", w.admin.BindProcess(wait(t), p.PID, "three"), core.ErrNotSupported, "PID namespace")
	}
	if len(list) < 2 {
		t.Errorf("processes: %+v", list)
	}
}

// inUserNamespace makes a process root of a user namespace that has no other
// uid.
func inUserNamespace() *syscall.SysProcAttr {
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one}
}

// The uid that the kernel shows for all users that a user namespace does not
// have is nobody's: neither a client nor an IRMd of such a user is trusted.
func TestUserThatHasNoUID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	t.Parallel()
	t.Run("client", func(t *testing.T) {
		dir, err := newDir()
		must(t, err)
		p, err := start("irmd", dir, inUserNamespace(), "--stdout")
		must(t, err)
		s := &system{p, dir}
		t.Cleanup(func() {
			if err := s.stop(); err != nil {
				t.Error(err)
			}
		})
		_, err = p.line(started, 1)
		must(t, err)
		must(t, os.Chmod(dir+"/"+irmctl.Socket, 0o666))
		client, err := start("test-idle", dir, asNobody())
		must(t, err)
		defer client.stop()
		line, err := client.line("error:", 1)
		must(t, err)
		if !strings.Contains(line, "no uid in the user namespace") {
			t.Errorf("a client without a uid: %s", line)
		}
	})
	t.Run("IRMd", func(t *testing.T) {
		w := newWorld(t, "local")
		// Without any uid the kernel shows it its own as the overflow uid too.
		client, err := start("test-idle", w.dir, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER})
		must(t, err)
		defer client.stop()
		line, err := client.line("error:", 1)
		must(t, err)
		if !strings.Contains(line, "no uid in this user namespace") {
			t.Errorf("an IRMd without a uid: %s", line)
		}
	})
}
