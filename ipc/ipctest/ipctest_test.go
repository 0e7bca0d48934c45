package ipctest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"o7s/ipc"
	"o7s/ipc/internal/testkit"
	"o7s/ipc/ipctest"
)

// TestStart: a test has a system by one call, two tests have two, and nothing of them
// is left.
func TestStart(t *testing.T) {
	before := len(testkit.Files())
	var dirs []string
	for range 2 {
		t.Run("system", func(t *testing.T) {
			s := ipctest.Start(t)
			dirs = append(dirs, s.Dir)
			l, err := ipc.Listen(t.Context(), "echo", ipc.WithLayer(ipctest.Layer))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if c, err := l.AcceptFlow(); err == nil {
					defer c.Close()
					p := make([]byte, 100)
					if n, err := c.ReadPacket(p); err == nil {
						_ = c.WritePacket(p[:n])
					}
				}
			}()
			c, err := ipc.Dial(t.Context(), "echo")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.WritePacket([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 100)
			if n, err := c.ReadPacket(p); err != nil || string(p[:n]) != "hello" {
				t.Errorf("read %q, %v", p[:n], err)
			}
			names, err := s.Admin.Names(t.Context())
			if err != nil || len(names) != 1 || names[0].Name != "echo" {
				t.Errorf("names %v, %v", names, err)
			}
			if !strings.Contains(s.Log(), "Registered echo with IPCP") {
				t.Errorf("the log:\n%s", s.Log())
			}
		})
	}
	if len(dirs) != 2 || dirs[0] == dirs[1] {
		t.Fatalf("directories %q", dirs)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
		if left := processesOf(dir); left != "" {
			t.Errorf("left: %s", left)
		}
	}
	// The link to the last IRMd is closed a moment after its end.
	if !testkit.Eventually(func() bool { return len(testkit.Files()) <= before+1 }) { // the poller's
		t.Errorf("%d files are open, %d before: %v", len(testkit.Files()), before, testkit.Files())
	}
}

// processesOf returns the processes whose environment has dir.
func processesOf(dir string) (left string) {
	envs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, e := range envs {
		if b, err := os.ReadFile(e); err == nil && bytes.Contains(b, []byte("O7S_RUNTIME_DIR="+dir)) {
			left += " " + e
		}
	}
	return left
}

// failing is a TB that notes a failure, and calls its cleanups itself.
type failing struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (f *failing) Cleanup(c func())          { f.cleanups = append(f.cleanups, c) }
func (f *failing) Error(args ...any)         { f.errors = append(f.errors, "error") }
func (f *failing) Errorf(s string, a ...any) { f.errors = append(f.errors, s) }
func (f *failing) Logf(s string, a ...any)   {}
func (f *failing) Failed() bool              { return len(f.errors) > 0 }

// TestDead: a test whose IRMd has died is told.
func TestDead(t *testing.T) {
	f := &failing{TB: t}
	s := ipctest.Start(f)
	pid := 0
	for pid == 0 {
		system, err := s.Admin.System(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pid = system.PID
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
	if len(f.errors) == 0 || time.Since(start) > 20*time.Second {
		t.Errorf("errors %q after %v", f.errors, time.Since(start))
	}
	if left := processesOf(s.Dir); left != "" {
		t.Errorf("left: %s", left)
	}
}
