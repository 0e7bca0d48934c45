package tutorial

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"o7s/applets"
	"o7s/applets/ipcpd"
	"o7s/applets/irm"
	"o7s/applets/irmd"
	"o7s/applets/oping"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/core/ipcp/unicast"
)

// withoutEnv names an applet that the test binary shall not have, so that a
// step goes wrong.
const withoutEnv = "O7S_TUTORIAL_TEST_WITHOUT"

var types = []ipcp.Type{local.Type, unicast.Type}

// TestMain makes the test binary the multitool, when it is called like an
// applet.
func TestMain(m *testing.M) {
	table := []applets.Applet{
		Applet(), irmd.Applet(types), irm.Applet(types), oping.Applet(), ipcpd.Applet(local.Type), ipcpd.Applet(unicast.Type),
	}
	name := filepath.Base(os.Args[0])
	if slices.ContainsFunc(table, func(a applets.Applet) bool { return a.Name == name }) {
		table = slices.DeleteFunc(table, func(a applets.Applet) bool { return a.Name == os.Getenv(withoutEnv) })
		os.Exit(applets.Main(os.Args, table))
	}
	flag.Set("test.parallel", "8") // they wait; -parallel counts where it is given
	os.Exit(m.Run())
}

// quickExit is for the race detector, with which every process would sleep for
// a second when it exits.
const quickExit = "GORACE=atexit_sleep_ms=10"

// testTime bounds all that a test waits for.
const testTime = 60 * time.Second

// testRun is a tutorial that runs, in a process of its own.
type testRun struct {
	t    *testing.T
	dir  string // the temporary directory, which is its own
	cmd  *exec.Cmd
	errs bytes.Buffer

	mu    sync.Mutex // guards out
	out   strings.Builder
	ended chan struct{}
}

// start starts "tutorial args..." with the additional environment env.
func start(t *testing.T, env []string, args ...string) *testRun {
	t.Helper()
	dir, err := os.MkdirTemp("", "o7s-test-") // shorter than t.TempDir's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &testRun{t: t, dir: dir, cmd: exec.Command("/proc/self/exe", args...), ended: make(chan struct{})}
	r.cmd.Args[0] = "tutorial"
	r.cmd.Env = append(append(os.Environ(), "TMPDIR="+dir, quickExit), env...)
	r.cmd.Stdout, r.cmd.Stderr = r, &r.errs
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.cmd.Wait(); close(r.ended) }() // its status is in ProcessState
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
	})
	return r
}

// Write takes what the tutorial prints.
func (r *testRun) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *testRun) stdout() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// until waits until the tutorial has printed text.
func (r *testRun) until(text string) {
	r.t.Helper()
	r.poll(fmt.Sprintf("it prints %q", text), func() bool { return strings.Contains(r.stdout(), text) })
}

// status waits for the end and returns the exit status, -1 for a signal.
func (r *testRun) status() int {
	r.t.Helper()
	select {
	case <-r.ended:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(testTime):
		r.t.Fatalf("it does not end; stdout:\n%s", r.stdout())
		return 0
	}
}

// signal sends s to the tutorial alone.
func (r *testRun) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// poll waits until ok.
func (r *testRun) poll(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(testTime); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain until %s; stdout:\n%s\nstderr:\n%s", what, r.stdout(), &r.errs)
		}
	}
}

// nothingLeft checks that the tutorial, which has ended, left no process and
// no file.
func (r *testRun) nothingLeft() {
	r.t.Helper()
	if left := r.processes(); len(left) > 0 {
		r.t.Errorf("it left processes: %v", left)
	}
	files, err := os.ReadDir(r.dir)
	if err != nil || len(files) > 0 {
		r.t.Errorf("it left files: %v, %v", files, err)
	}
}

// processes returns the processes of the tutorial, whatever group they are
// in: their environment has its temporary directory.
func (r *testRun) processes() []string {
	envs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(envs) == 0 {
		r.t.Fatalf("list processes: %v", err)
	}
	var found []string
	for _, path := range envs {
		env, err := os.ReadFile(path)
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), "TMPDIR="+r.dir) {
			continue // not ours, or gone by now
		}
		words, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline")) // empty if it is gone
		found = append(found, strings.TrimSpace(strings.ReplaceAll(string(words), "\x00", " ")))
	}
	return found
}
