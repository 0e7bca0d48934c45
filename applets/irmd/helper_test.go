package irmd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/logs"
)

// leased returns the path of an executable on which the test holds a lease: until
// the test gives it up, an open or an execution waits.
func leased(t *testing.T) string {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	b, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// A write lease is broken by any open. The kernel's signal of that is ignored
	// here: SIGIO does nothing in a Go program.
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	return path
}

var self = account{os.Geteuid(), []int{os.Getegid()}}

// A program whose file does not answer is given up, and its user's others with it
// once there are too many. Programs of other users start meanwhile.
func TestFileThatDoesNotAnswer(t *testing.T) {
	path := leased(t)
	var l textLog
	s := &starter{dir: t.TempDir(), log: logs.New(logs.Options{Writer: &l}).With("irmd"), helpers: newHelpers(nil)}
	defer s.helpers.close()
	died := make(chan error, maxHelpers)
	start := func(path string, runs func()) (int, error) {
		began := time.Now()
		i, err := s.Start(irm.Program{Path: path, UID: self.uid, Groups: self.groups}, runs, func(err error) { died <- err })
		if d := time.Since(began); d > fileTime/2 {
			t.Errorf("Start takes %v", d)
		}
		if err != nil {
			return 0, err
		}
		t.Cleanup(i.Stop)
		return i.PID(), nil
	}
	var pids []int
	for range maxHelpers {
		pid, err := start(path, func() { t.Error("it runs") })
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if _, err := start(path, func() {}); !errors.Is(err, core.ErrLimit) || !strings.Contains(err.Error(), "uid") {
		t.Errorf("one more: %v", err)
	}
	for range maxHelpers {
		select {
		case err := <-died:
			if !errors.Is(err, core.ErrTimeout) || !strings.Contains(err.Error(), "does not answer") {
				t.Error(err)
			}
		case <-time.After(2 * fileTime):
			t.Fatal("it is not given up")
		}
	}
	// All are gone: another one may start.
	for _, pid := range pids {
		for deadline := time.Now().Add(10 * time.Second); unix.Kill(pid, 0) == nil; {
			if time.Now().After(deadline) {
				t.Fatalf("helper %d is left", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	runs := make(chan struct{})
	sleep, err := exec.LookPath("true")
	if err != nil {
		t.Skip(err)
	}
	if _, err := start(sleep, func() { close(runs) }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-runs:
	case <-time.After(10 * time.Second):
		t.Error("another program does not run")
	}
}

// A user who stops all of the user's processes, all the time, stops no helper before it
// runs: irmd would wait for it, and start nothing more.
func TestUserWhoStopsHelpers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts helpers of others")
	}
	who := account{41777, []int{41777}}
	for range 2 {
		stopper := exec.Command("sh", "-c", "while :; do kill -STOP -1; done")
		stopper.Stderr = nil
		stopper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.uid)}}
		if err := stopper.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = stopper.Process.Kill()
			_ = stopper.Wait()
		}()
	}
	s := &starter{dir: "/", log: logs.Discard(), helpers: newHelpers(nil)}
	path, err := exec.LookPath("true")
	if err != nil {
		t.Skip(err)
	}
	var stops sync.WaitGroup
	defer stops.Wait()
	for n := range 40 {
		started := make(chan struct{})
		go func() {
			i, err := s.Start(irm.Program{Path: path, UID: who.uid, Groups: who.groups}, func() {}, func(error) {})
			if err == nil {
				stops.Go(i.Stop)
			} else if !errors.Is(err, core.ErrLimit) { // of files that have not answered
				t.Error(err)
			}
			close(started)
		}()
		select {
		case <-started:
		case <-time.After(2 * time.Second):
			t.Fatalf("start %d does not return", n)
		}
		if n%10 == 0 { // another user's
			runs := make(chan struct{})
			if _, err := s.Start(irm.Program{Path: path, UID: self.uid, Groups: self.groups}, func() { close(runs) }, func(error) {}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-runs:
			case <-time.After(10 * time.Second):
				t.Fatal("a program of another user does not run")
			}
		}
	}
}

// Programs that run take no thread of irmd each.
func TestProgramsTakeNoThreads(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		t.Skip(err)
	} else {
		unix.Close(fd)
	}
	s := &starter{dir: t.TempDir(), log: logs.Discard(), helpers: newHelpers(nil)}
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := threads()
	const many = 40
	var all []interface{ Stop() }
	for range many {
		runs := make(chan struct{})
		i, err := s.Start(irm.Program{Path: sleep, Args: []string{"60"}, UID: self.uid, Groups: self.groups}, func() { close(runs) }, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, i)
		select {
		case <-runs:
		case <-time.After(10 * time.Second):
			t.Fatal("it does not run")
		}
	}
	if n := threads() - before; n > many/2 {
		t.Errorf("%d programs take %d threads", many, n)
	}
	for _, i := range all {
		i.Stop()
	}
}

// A path leads a user no further than that user may go, whatever root may: neither what
// exists nor where a link leads is told.
func TestPathIsFollowedAsItsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root follows paths of others")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	private := filepath.Join(dir, "private")
	for _, d := range []string{private, filepath.Join(private, "really"), filepath.Join(dir, "open")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(private, "really"), filepath.Join(private, "link")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{filepath.Join(private, "really", "prog"), filepath.Join(dir, "open", "prog")} {
		if err := os.WriteFile(f, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	hs := newHelpers(nil)
	defer hs.close()
	nobody, root := account{65534, []int{65534}}, account{0, []int{0}}
	for _, tt := range []struct {
		who      account
		path     string
		found    bool
		resolved bool
	}{
		{nobody, filepath.Join(private, "link", "prog"), false, false},
		{nobody, filepath.Join(private, "none", "prog"), false, false},
		{nobody, filepath.Join(dir, "open", "prog"), true, true},
		{nobody, "/bin/sh", true, true},
		{root, filepath.Join(private, "link", "prog"), true, true},
	} {
		p, err := hs.place(tt.who, tt.path)
		if (p.canonical != "") != tt.found || (p.resolved != "") != tt.resolved {
			t.Errorf("uid %d, %s: leads to %+v, %v", tt.who.uid, tt.path, p, err)
		}
	}
	// This thread, and all others, are root's again.
	for range 100 {
		if _, err := os.ReadDir(private); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever stops irmd does not wait for a file.
func TestStopDoesNotWaitForFiles(t *testing.T) {
	path := leased(t)
	var l textLog
	s := &starter{dir: t.TempDir(), log: logs.New(logs.Options{Writer: &l}).With("irmd"), helpers: newHelpers(nil)}
	died := make(chan error, 1)
	i, err := s.Start(irm.Program{Path: path, UID: self.uid, Groups: self.groups}, func() { t.Error("it runs") }, func(err error) { died <- err })
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.helpers.close()
	i.Stop()
	if err := <-died; err == nil {
		t.Error("no error")
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("Stop takes %v", d)
	}
	if _, err := s.helpers.find(self, path); !errors.Is(err, core.ErrState) {
		t.Errorf("after the end: %v", err)
	}
}

func TestPlaces(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file, link, in := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "in")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("file", link), os.Symlink(".", in)); err != nil {
		t.Fatal(err)
	}
	hs := newHelpers(nil)
	defer hs.close()
	for _, path := range []string{file, link, filepath.Join(in, "link"), filepath.Join(dir, "none"), filepath.Join(dir, "no", "dir"), "/"} {
		want := find(path)
		if got, err := hs.find(self, path); err != nil || got != want {
			t.Errorf("a helper finds %s at %+v (error %v), want %+v", path, got, err, want)
		}
		// All of that is in the caches of the kernel now.
		if got, err := cachedPlace(path); err != nil && !errors.Is(err, errNotCached) && want.canonical != "" || err == nil && got != want {
			t.Errorf("the caches have %s at %+v (error %v), want %+v", path, got, err, want)
		}
	}
	if got, err := cachedPlace(link); err != nil || got.resolved != file {
		t.Errorf("a symlink that has just been followed: %+v, error %v", got, err)
	}
	if _, err := hs.place(self, "file"); !errors.Is(err, core.ErrUsage) {
		t.Errorf("a relative path: %v", err)
	}
}

func TestAnswersOfHelpers(t *testing.T) {
	p := place{"/a", "/b", 1 << 63, 2}
	if got, err := parsePlace(p.text()); err != nil || got != p {
		t.Errorf("%+v, error %v", got, err)
	}
	for _, s := range []string{"", "a\x00b\x00c", "a\x00b\x00x\x001", "a\x00b\x001\x00-1", "a\x00b\x001\x002\x003"} {
		if _, err := parsePlace(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
