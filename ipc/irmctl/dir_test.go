package irmctl

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/rpc"
)

// A program that is started in another directory finds the same IRMd.
func TestRuntimeDirIsAbsoluteAndClean(t *testing.T) {
	wd := t.TempDir()
	t.Chdir(wd)
	for in, want := range map[string]string{
		"run": wd + "/run", "./run/": wd + "/run", ".": wd, "a/../run": wd + "/run",
		"/x/run/": "/x/run", "/x/run/.": "/x/run", "//x//run": "/x/run",
	} {
		t.Setenv("O7S_RUNTIME_DIR", in)
		if got := RuntimeDir(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// A user's IRMd is found whatever the environment that it was started in.
func TestDirsOf(t *testing.T) {
	for _, tt := range []struct {
		uid                 int
		chosen, xdg, tmpdir string
		want                string
	}{
		{0, "", "/xdg", "/t", "/run/o7s"},
		{5, "", "", "", "/tmp/o7s-5 /run/user/5/o7s"},
		{5, "", "/run/user/5", "", "/run/user/5/o7s /tmp/o7s-5"},
		{5, "", "/xdg", "/t/", "/xdg/o7s /t/o7s-5 /tmp/o7s-5 /run/user/5/o7s"},
		{5, "", "xdg", "t", "/tmp/o7s-5 /run/user/5/o7s"},
		{5, "/a/../b/", "/xdg", "/t", "/b"},
		{0, "/b/.", "/xdg", "/t", "/b"},
	} {
		env := map[string]string{"O7S_RUNTIME_DIR": tt.chosen, "XDG_RUNTIME_DIR": tt.xdg, "TMPDIR": tt.tmpdir}
		if got := strings.Join(dirsOf(tt.uid, func(k string) string { return env[k] }), " "); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// Each directory that is made has its rights, whatever the umask.
func TestMakeDirGivesItsRights(t *testing.T) {
	want := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		want = 0o755
	}
	base := t.TempDir()
	for _, mask := range []int{0o077, 0, 0o022, 0o277} {
		top := filepath.Join(base, fmt.Sprintf("%o", mask))
		was := unix.Umask(mask)
		err := MakeDir(filepath.Join(top, "b", "c"))
		unix.Umask(was)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{top, top + "/b", top + "/b/c"} {
			if fi, err := os.Lstat(dir); err != nil || fi.Mode().Perm() != want {
				t.Errorf("umask %o: %s has %v, %v, want %v", mask, dir, fi.Mode(), err, want)
			}
		}
		if err := MakeDir(filepath.Join(top, "b", "c")); err != nil {
			t.Errorf("again: %v", err)
		}
	}
}

// A directory that others could change is not taken, and what a symbolic link
// leads to is not touched.
func TestMakeDirRefuses(t *testing.T) {
	base := t.TempDir()
	make := func(name string, mode os.FileMode) string {
		dir := filepath.Join(base, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	target, link := make("target", 0o750), filepath.Join(base, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		make("open", 0o777): "may be written to by others: chmod go-w it", make("group", 0o770): "may be written to by others", make("sticky", 0o1777|os.ModeSticky): "may be written to by others",
		link: "is a symbolic link: set O7S_RUNTIME_DIR to what it leads to, " + target,
	}
	if os.Geteuid() == 0 {
		other := make("other", 0o755)
		if err := os.Chown(other, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		tests[other] = "belongs to uid 65534: it is not yours"
	}
	for dir, want := range tests {
		if err := MakeDir(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	if fi, _ := os.Stat(target); fi.Mode().Perm() != 0o750 {
		t.Errorf("the target of the link has %v", fi.Mode())
	}
}

// A socket of another user's is not connected to: it might never answer. Its
// queue is full here.
func TestSquatter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	for _, given := range []string{"", Socket} { // the directory, or the socket alone
		dir := t.TempDir()
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		path := filepath.Join(dir, Socket)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		c, err := rpc.Dial(t.Context(), dir, Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := os.Lchown(filepath.Join(dir, given), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = ConnectTo(t.Context(), dir, rpc.Config{})
		if !errors.Is(err, core.ErrPermission) || !strings.Contains(err.Error(), "belongs to uid 65534, which is neither root nor you") {
			t.Error(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

// What is wrong here is not told as "start one".
func TestWhyNoIRMdIsReached(t *testing.T) {
	base := t.TempDir()
	link, file, dead, notOne := filepath.Join(base, "link"), filepath.Join(base, "file"), filepath.Join(base, "dead"), filepath.Join(base, "none")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: func() string { os.Mkdir(dead, 0o700); return filepath.Join(dead, Socket) }(), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if err := errors.Join(os.Symlink(dead, link), os.WriteFile(file, nil, 0o600), os.Mkdir(notOne, 0o700), os.WriteFile(filepath.Join(notOne, Socket), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]struct {
		is   error
		text string
	}{
		filepath.Join(base, "no"): {core.ErrIRMd, `start one with "irmd"`},
		dead:                      {core.ErrIRMd, `start one with "irmd"`},
		file:                      {core.ErrUsage, "not a directory; O7S_RUNTIME_DIR chooses another"},
		filepath.Join(file, "in"): {core.ErrUsage, "not a directory"},
		link:                      {core.ErrPermission, "is a symbolic link: set O7S_RUNTIME_DIR to what it leads to"},
		notOne:                    {core.ErrUsage, "is no socket"},
	} {
		_, err := ConnectTo(t.Context(), dir, rpc.Config{})
		if !errors.Is(err, want.is) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for err, want := range map[error]string{
		unix.EMFILE: "there is no file descriptor left", unix.ENFILE: "there is no file descriptor left", unix.EACCES: "is not for you to enter",
	} {
		got := explainDial(base, fmt.Errorf("dial: %w", os.NewSyscallError("socket", err)))
		if !strings.Contains(got.Error(), want) || strings.Contains(got.Error(), "start one") {
			t.Errorf("%v: %v", err, got)
		}
	}
}
