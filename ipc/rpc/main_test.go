package rpc

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/ipc/internal/testkit"
)

// childRole says in a child's environment which function of children it runs.
const childRole = "O7S_RPC_TEST_CHILD"

// childDir names in a child's environment the directory that it works in.
const childDir = "O7S_RPC_TEST_DIR"

// children are what the test binary does when it runs as another process.
// Descriptor 3 is the child's end of a Pair, where it has one.
var children = map[string]func() error{
	"no descriptors": childNoDescriptors,
	"serve":          childServe,
	"connect":        childConnect,
	"inherit":        childInherit,
	"toomanyrefs":    childTooManyRefs,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := children[role](); err != nil {
			fmt.Fprintf(os.Stderr, "child %s: %v\n", role, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The runtime opens descriptors of its own for the first socket.
	if c, f, err := Pair(); err == nil {
		c.Close()
		f.Close()
	}
	os.Exit(m.Run())
}

// child starts this binary again; extra is its descriptor 3.
func child(t testing.TB, role string, extra *os.File, attr *syscall.SysProcAttr) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	if extra != nil {
		cmd.ExtraFiles = []*os.File{extra}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// childLink starts a child that has the other end of the link.
func childLink(t testing.TB, role string, cfg Config) (*Link, *exec.Cmd) {
	t.Helper()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, role, theirs, nil)
	theirs.Close()
	t.Cleanup(func() {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child %s: %v", role, err)
		}
	})
	return newLink(t, ours, cfg), cmd // closed first, then waited for
}

func childServe() error {
	conn, err := Inherit(3)
	if err != nil {
		return err
	}
	l, err := New(conn, Config{Mux: testMux(), Instance: 5})
	if err != nil {
		return err
	}
	<-l.Done()
	return nil
}

// childInherit checks its descriptor and answers until its link ends.
func childInherit() error {
	if flags, err := unix.FcntlInt(3, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
		return fmt.Errorf("descriptor 3 started with flags %#x, %v: is Inherit still needed?", flags, err)
	}
	conn, err := Inherit(3)
	if err != nil {
		return err
	}
	if err := cloexec(conn); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(3, unix.F_GETFD, 0); err != unix.EBADF {
		return fmt.Errorf("descriptor 3 after Inherit: %v", err)
	}
	l, err := New(conn, Config{Mux: testMux()})
	if err != nil {
		return err
	}
	<-l.Done()
	return nil
}

func cloexec(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var flags int
	raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFD, 0) })
	if err == nil && flags&unix.FD_CLOEXEC == 0 {
		err = fmt.Errorf("not close-on-exec: %#x", flags)
	}
	return err
}

// noLeaks fails the test if, after everything that it cleans up, descriptors
// or goroutines are left. Call it first.
func noLeaks(t testing.TB) {
	t.Helper()
	before := testkit.Files()
	t.Cleanup(func() {
		t.Helper()
		// A goroutine's last act is to say that it ends; then it still has
		// to. The bound is for a failing test.
		deadline := time.Now().Add(5 * time.Second)
		stacks := goroutines()
		for len(stacks) > 0 && time.Now().Before(deadline) {
			runtime.Gosched()
			time.Sleep(time.Millisecond)
			stacks = goroutines()
		}
		for _, s := range stacks {
			t.Errorf("goroutine left behind:\n%s", s)
		}
		for fd, what := range testkit.Files() {
			if before[fd] == "" {
				t.Errorf("descriptor %s left behind: %s", fd, what)
			}
		}
	})
}

// goroutines returns the stacks that run code of this package, but for tests.
func goroutines() []string {
	return testkit.Goroutines("rpc.(*", "testing.tRunner", "testing.(*")
}
