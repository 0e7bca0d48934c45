package irmd

import (
	"errors"
	"fmt"
	"o7s/core/irm"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

func TestLockIsHeldOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	h, err := takeHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = takeHome(dir)
	if want := fmt.Sprintf("IRMd already running (%d), exiting.", os.Getpid()); err == nil || err.Error() != want {
		t.Errorf("second lock: %v, want %q", err, want)
	}
	h.release()
	if h, err = takeHome(dir); err != nil {
		t.Fatalf("after its release: %v", err)
	}
	h.release()
}

func TestRuntimeDirectoryMustBeADirectoryOfOnesOwn(t *testing.T) {
	base := t.TempDir()
	file, link := filepath.Join(base, "file"), filepath.Join(base, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(base, link); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(base, "taken") // a directory stands where the lock would
	if err := os.MkdirAll(filepath.Join(taken, lockFile), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, link, filepath.Join(file, "a", "b"), taken} {
		if _, err := takeHome(dir); err == nil || !strings.Contains(err.Error(), "O7S_RUNTIME_DIR chooses another") {
			t.Errorf("takeHome(%s): %v", dir, err)
		}
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the first one's file stays, as after a crash
		h, err := takeHome(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.listen(); err != nil {
			t.Fatal(err)
		}
		h.ln.Close()
		h.release()
	}
	fi, err := os.Stat(filepath.Join(dir, irmctl.Socket))
	if err != nil {
		t.Fatal(err)
	}
	want := os.FileMode(0o600)
	if os.Geteuid() == 0 {
		want = 0o666
	}
	if fi.Mode().Perm() != want {
		t.Errorf("mode of the socket %o, want %o", fi.Mode().Perm(), want)
	}
}

// peer is a process that lives, as a link's peer.
func peer(t *testing.T, pid int) rpc.Peer {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return rpc.Peer{PID: pid, PIDFD: fd}
}

func TestLabelIsWhatTheKernelConfirms(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "oping")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	me, hs := peer(t, os.Getpid()), newHelpers(nil)
	tests := []struct {
		name string
		peer rpc.Peer
		req  irmctl.AnnounceReq
		want string
	}{
		{"a symlink is a program of its own", me, irmctl.AnnounceReq{Path: link}, "oping"},
		{"an applet by argument", me, irmctl.AnnounceReq{Path: self, Applet: "irm"}, "irm"},
		{"another file", me, irmctl.AnnounceReq{Path: "/bin/sh", Applet: "sh"}, filepath.Base(self)},
		{"no file", me, irmctl.AnnounceReq{Path: "/no/such"}, filepath.Base(self)},
		{"no process", rpc.Peer{PID: 1 << 30}, irmctl.AnnounceReq{Path: self}, "unknown"},
		{"a long word", me, irmctl.AnnounceReq{Path: self, Applet: strings.Repeat("x", maxApplet)}, strings.Repeat("x", maxLabel)},
		{"one that no file has", me, irmctl.AnnounceReq{Path: self, Applet: strings.Repeat("x", maxApplet+1)}, filepath.Base(self)},
	}
	for _, tt := range tests {
		if _, got := program(hs, tt.peer, &tt.req); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A process keeps its name when its file is replaced, as by an upgrade.
func TestProgramOutlivesItsFile(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	b, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	file, link, other := filepath.Join(dir, "o7s"), filepath.Join(dir, "oping"), filepath.Join(dir, "other")
	for _, f := range []string{file, file + ".new", other} {
		if err := os.WriteFile(f, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("o7s", link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, "3600")
	cmd.Args[0] = "sleep"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p, hs := peer(t, cmd.Process.Pid), newHelpers(nil)
	check := func(when, says, want string) {
		if got, _ := program(hs, p, &irmctl.AnnounceReq{Path: says}); got != want {
			t.Errorf("%s, %s: it is %s, want %s", when, says, got, want)
		}
	}
	check("before", link, link)
	check("before", other, file)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	check("after", link, link)
	check("after", other, file)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	check("with none", link, file)
}

func TestRingsShrinkAsFlowsGrow(t *testing.T) {
	for held, want := range map[int]int{0: 4 << 20, 127: 4 << 20, 128: 2 << 20, 256: 1 << 20, 512: 512 << 10, 1024: 256 << 10, 1 << 20: 256 << 10} {
		if got := ringSize(held); got != want {
			t.Errorf("with %d flows held: %d KiB, want %d KiB", held, got>>10, want>>10)
		}
	}
}

func TestMemoryIsClosedWithItsSecondEnd(t *testing.T) {
	a, b, err := new(memory).NewFlow(irm.Owner{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	mem := fmt.Sprintf("/proc/self/fd/%d", a.(*end).kit.Mem)
	a.Close()
	if _, err := os.Readlink(mem); err != nil {
		t.Error("the memory is closed though an end is left")
	}
	b.Close()
	if to, err := os.Readlink(mem); err == nil && strings.Contains(to, "o7s-flow") {
		t.Error("the memory is still open")
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
