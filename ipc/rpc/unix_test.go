package rpc

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

func TestPeerIsTheKernelsWord(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	ln, err := Listen(dir, "s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := Dial(background(t), dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []*net.UnixConn{client, server} {
		if err := cloexec(conn); err != nil {
			t.Error(err)
		}
	}
	s, c := newLink(t, server, Config{Instance: 3}), newLink(t, client, Config{})
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(groups)
	for _, l := range []*Link{s, c} {
		p := l.Peer()
		slices.Sort(p.Groups)
		if p.PID != os.Getpid() || p.UID != os.Getuid() || p.GID != os.Getgid() || !slices.Equal(p.Groups, groups) {
			t.Errorf("got %+v", p)
		}
		if p.PIDFD == 0 {
			t.Log("this kernel has no SO_PEERPIDFD")
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(p.PIDFD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("pidfd: flags %#x, %v", flags, err)
		}
		if err := unix.PidfdSendSignal(p.PIDFD, 0, nil, 0); err != nil {
			t.Errorf("pidfd: %v", err)
		}
	}
	if err := c.Handshake(background(t)); err != nil || c.Instance() != 3 {
		t.Error(c.Instance(), err)
	}
}

func TestPeerOfAPairIsWhatItsMakerSays(t *testing.T) {
	noLeaks(t)
	a, b := socketpair(t)
	fd := memfds(t, 1)[0]
	want := Peer{PID: 4711, UID: 12, GID: 13, Groups: []int{14}, PIDFD: fd}
	l := newLink(t, a, Config{Peer: &want})
	if p := l.Peer(); p.PID != 4711 || p.UID != 12 || p.PIDFD != fd {
		t.Errorf("got %+v", p)
	}
	b.Close()
	get(t, l.Done(), "end")
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("the maker's pidfd: %v", err)
	}
}

func TestDataIsKept(t *testing.T) {
	l, _ := rawLink(t, Config{})
	if l.Data() != nil {
		t.Error(l.Data())
	}
	l.SetData(1)
	l.SetData("x") // of another type
	if l.Data() != "x" {
		t.Error(l.Data())
	}
}

func TestInheritedDescriptorIsMadeCloseOnExec(t *testing.T) {
	noLeaks(t)
	l, _ := childLink(t, "inherit", Config{})
	if r, err := Do(background(t), l, add, &addReq{A: 1}, nil); err != nil || r.Body.Sum != 1 {
		t.Error(r, err)
	}
}

func TestInheritRefusesOtherDescriptors(t *testing.T) {
	noLeaks(t)
	fd := memfds(t, 1)[0]
	if _, err := Inherit(fd); !errors.Is(err, unix.ENOTSOCK) {
		t.Error(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := Inherit(1 << 20); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
	stream, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(stream[:])
	if _, err := Inherit(stream[0]); !errors.Is(err, core.ErrUsage) {
		t.Error(err)
	}
}

func TestKilledChildEndsItsLink(t *testing.T) {
	noLeaks(t)
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "serve", theirs, nil)
	theirs.Close()
	l := newLink(t, ours, Config{DownErr: core.ErrIPCP})
	if err := l.Handshake(background(t)); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	get(t, l.Done(), "end")
	cmd.Wait()
	if _, err := Do(background(t), l, add, &addReq{}, nil); !errors.Is(err, core.ErrIPCP) {
		t.Error(err)
	}
}

func TestSocketHasExactlyItsMode(t *testing.T) {
	noLeaks(t)
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, umask := range []int{0, 0o22, 0o77, 0o777} {
		for _, mode := range []os.FileMode{0o600, 0o666, 0o660, 0o000} {
			dir := t.TempDir()
			unix.Umask(umask)
			ln, err := Listen(dir, "s", mode)
			unix.Umask(0)
			if err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat(filepath.Join(dir, "s"))
			if err != nil {
				t.Fatal(err)
			}
			if fi.Mode().Perm() != mode || fi.Mode().Type() != fs.ModeSocket {
				t.Errorf("umask %#o, mode %#o: got %v", umask, mode, fi.Mode())
			}
			ln.Close()
		}
	}
}

func TestSocketIsNeverWiderThanItsMode(t *testing.T) {
	// bind alone, without the chmod after it, under the widest umask: what
	// another process could catch in between.
	noLeaks(t)
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	path := filepath.Join(dir, "s")
	if err := bindMode(fd, path, 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func TestDirectoryLongerThanASocketAddress(t *testing.T) {
	noLeaks(t)
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 200))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	dirs := []string{dir, t.TempDir()}
	// Where the address is 107 bytes it goes as it is, at 108 it cannot.
	for n := range 3 {
		base := t.TempDir()
		edge := filepath.Join(base, strings.Repeat("x", maxPath-len(base)-len("/")-len("/s")-1+n))
		if err := os.Mkdir(edge, 0o700); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, edge)
	}
	// An address that starts with @ would be an abstract one.
	t.Chdir(t.TempDir())
	if err := os.Mkdir("@dir", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(dirs, "@dir", ".") {
		ln, err := Listen(dir, "s", 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if fi, err := os.Stat(filepath.Join(dir, "s")); err != nil || fi.Mode().Type() != fs.ModeSocket {
			t.Errorf("%s: %v", dir, err)
		}
		conn, err := Dial(background(t), dir, "s")
		if err != nil {
			t.Fatal(err)
		}
		c := newLink(t, conn, Config{})
		accepted, err := ln.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		newLink(t, accepted, Config{Mux: testMux()})
		if _, err := Do(background(t), c, add, &addReq{}, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestStaleSocketIsTheCallersToRemove(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	ln, err := Listen(dir, "s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if _, err := Listen(dir, "s", 0o600); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("listen where a stale socket is: %v", err)
	}
	if _, err := Dial(background(t), dir, "s"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial a stale socket: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	if ln, err = Listen(dir, "s", 0o600); err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestCloseOfAListenerLeavesTheSuccessorsSocket(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	first, err := Listen(dir, "s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(dir, "s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	conn, err := Dial(background(t), dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestDialAndListenErrors(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	ctx := background(t)
	if _, err := Dial(ctx, dir, "s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	if _, err := Dial(ctx, filepath.Join(dir, "none"), "s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	stream, err := net.Listen("unix", filepath.Join(dir, "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := Dial(ctx, dir, "stream"); !errors.Is(err, unix.EPROTOTYPE) {
		t.Errorf("a stream socket: %v", err)
	}
	for _, name := range []string{"", "a/b", "..", strings.Repeat("n", 108)} {
		if _, err := Listen(dir, name, 0o600); err == nil {
			t.Errorf("listen on %q", name)
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Dial(canceled, dir, "s"); !errors.Is(err, core.ErrCanceled) {
		t.Errorf("canceled: %v", err)
	}
	sconn, err := net.Dial("unix", filepath.Join(dir, "stream"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(sconn.(*net.UnixConn), Config{}); !errors.Is(err, core.ErrUsage) {
		t.Errorf("a link over a stream: %v", err)
	}
	if _, err := sconn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("New that fails closes its conn: %v", err)
	}
}

// overdue is a context whose deadline has passed and whose timer is late.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

func TestDialWaitsForAFullQueue(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	ln, err := Listen(dir, "s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) }) // room for one
	if err != nil {
		t.Fatal(err)
	}
	first, err := Dial(background(t), dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(background(t), 1e7)
	defer cancel()
	if _, err := Dial(ctx, dir, "s"); !errors.Is(err, core.ErrTimeout) {
		t.Fatalf("queue full: %v", err)
	}
	if _, err := Dial(overdue{background(t)}, dir, "s"); !errors.Is(err, core.ErrTimeout) {
		t.Fatalf("a deadline that net notices first: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		conn, err := Dial(background(t), dir, "s")
		if err == nil {
			conn.Close()
		}
		second <- err
	}()
	for range 2 {
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if err := get(t, second, "second dial"); err != nil {
		t.Error(err)
	}
}
