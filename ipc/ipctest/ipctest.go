// Package ipctest gives a test a system of its own: an IRMd with one layer, in
// processes of their own, and nothing of it left when the test ends. It needs no
// root, no installation and no IRMd on the machine.
//
//	func TestEcho(t *testing.T) {
//		ipctest.Start(t)
//		l, err := ipc.Listen(t.Context(), "echo", ipc.WithLayer(ipctest.Layer))
//		...
//	}
//
// It is for tests alone. The IRMd and the IPCP are the test's own executable, started
// again: a program that imports this package becomes one of them, before its main
// begins, if Start has started it so.
package ipctest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"o7s/applets"
	"o7s/applets/ipcpd"
	"o7s/applets/irmd"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/ipc/irmctl"
)

// Layer is the name of the layer that a system has. It is of the type local.
const Layer = "local-layer"

// startedBy is in the environment of the IRMd and the IPCP.
const startedBy = "O7S_IPCTEST"

// patience bounds each wait of Start and of the cleanup: far beyond what a loaded
// machine needs.
const patience = 30 * time.Second

// init makes a process that Start has started the IRMd or the IPCP. It runs before
// the packages under test are initialized.
func init() {
	if os.Getenv(startedBy) == "" {
		return
	}
	types := []ipcp.Type{local.Type}
	table := []applets.Applet{irmd.Applet(types), ipcpd.Applet(local.Type)}
	for _, a := range table {
		if a.Name == filepath.Base(os.Args[0]) {
			os.Exit(applets.Main(os.Args, table))
		}
	}
}

// System is an IRMd with a layer.
type System struct {
	// Dir is the runtime directory, which $O7S_RUNTIME_DIR names while the test runs.
	Dir string
	// Admin does what the command irm does. It is closed at the test's end.
	Admin *irmctl.Client

	cmd   *exec.Cmd
	ready chan struct{} // closed when the IRMd can be reached
	gone  chan struct{} // closed when nobody prints any more: all processes have ended

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// Start starts an IRMd in a directory of its own, makes the layer Layer, and sets
// $O7S_RUNTIME_DIR, so that package ipc and the programs that the test starts use that
// IRMd. At the test's end all of it is stopped and removed; what does not end in order
// fails the test. The log of the IRMd is printed if the test has failed.
//
// Since it sets the environment, Start can't be used in a parallel test; see
// testing.T.Setenv. Parallel subtests may share the system of their parent.
func Start(t testing.TB) *System {
	t.Helper()
	dir, err := os.MkdirTemp("", "o7s-") // not t.TempDir: the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("O7S_RUNTIME_DIR", dir)
	t.Setenv("O7S_CONFIG_DIR", filepath.Join(dir, "config")) // the user's own is for other IRMds
	s := &System{Dir: dir, ready: make(chan struct{}), gone: make(chan struct{})}
	if err := s.start(); err != nil {
		t.Fatalf("start an IRMd: %v", err)
	}
	t.Cleanup(func() { s.stop(t) })
	select {
	case <-s.ready:
	case <-s.gone:
		t.Fatal("the IRMd ended at once")
	case <-time.After(patience):
		t.Fatalf("the IRMd has not started in %v", patience)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if s.Admin, err = irmctl.DialTo(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Admin.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: "local-ipcp", Type: local.Type.Name, Draft: ipcp.Draft{Layer: Layer}}); err != nil {
		t.Fatalf("make a layer: %v", err)
	}
	return s
}

// Log returns what the IRMd and the IPCP have logged so far, at level debug.
func (s *System) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// start starts the IRMd.
func (s *System) start() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.cmd = exec.Command("/proc/self/exe", "--stdout")
	s.cmd.Args[0] = "irmd"
	// The race detector would wait for a second at the end of each process.
	s.cmd.Env = append(os.Environ(), startedBy+"=1", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	s.cmd.Stdout, s.cmd.Stderr = w, w
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the test, whose end ends it in order
	err = s.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	go s.read(r)
	return nil
}

// read keeps what is printed, until the last process that may print has ended.
func (s *System) read(r io.ReadCloser) {
	defer close(s.gone)
	defer r.Close()
	ready := false
	for b := bufio.NewReader(r); ; {
		line, err := b.ReadString('\n')
		s.mu.Lock()
		s.log.WriteString(line)
		s.mu.Unlock()
		if !ready && strings.Contains(line, "daemon started...") {
			ready = true
			close(s.ready)
		}
		if err != nil {
			return
		}
	}
}

// stop ends the IRMd, which ends the IPCP, and waits for both.
func (s *System) stop(t testing.TB) {
	if s.Admin != nil {
		s.Admin.Close()
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.gone:
	case <-time.After(patience):
		t.Errorf("the IRMd, or its IPCP, has not ended in %v", patience)
		_ = s.cmd.Process.Kill() // which ends the IPCP too
		<-s.gone
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the IRMd ended: %v", err)
	}
	// The lock stays, for the next IRMd of the directory.
	files, err := os.ReadDir(s.Dir)
	for _, f := range files {
		if f.Name() != "irmd.lock" {
			err = fmt.Errorf("%s is left in the runtime directory", f.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the log of the IRMd:\n%s", s.Log())
	}
}
