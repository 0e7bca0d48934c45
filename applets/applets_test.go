package applets

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStatus(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want int
		say  string
	}{
		{"done", nil, StatusDone, ""},
		{"failed", errors.New("no luck"), StatusFailed, "x: no luck\n"},
		{"usage", Usagef("no flag %q", "-z"), StatusUsage, "x: no flag \"-z\"\n"},
		{"said already", Exit(StatusFailed), StatusFailed, ""},
		{"what does not print", errors.New("a\nb\x1b"), StatusFailed, "x: a\\nb\\x1b\n"},
	}
	for _, tt := range tests {
		var stderr bytes.Buffer
		if got := status(&Env{Name: "x", Stderr: &stderr}, tt.err); got != tt.want || stderr.String() != tt.say {
			t.Errorf("%s: status %d and %q, want %d and %q", tt.name, got, stderr.String(), tt.want, tt.say)
		}
	}
}

// signalTest is in the environment of the process that TestSignals starts: its
// sameSignal.
const signalTest = "O7S_TEST_SAME_SIGNAL"

// TestSignals: a signal that comes again at once ends nothing, another one
// after that kills what the first has not ended. (SIGINT is ignored by what a
// shell starts in the background.)
func TestSignals(t *testing.T) {
	if d := os.Getenv(signalTest); d != "" {
		sameSignal, _ = time.ParseDuration(d)
		os.Exit(Main([]string{"x"}, []Applet{{Name: "x", Run: func(ctx context.Context, env *Env) error {
			fmt.Fprintln(env.Stdout, "started")
			<-ctx.Done()
			fmt.Fprintln(env.Stdout, "ending")
			_, err := io.Copy(io.Discard, env.Stdin)
			return err
		}}}))
	}
	// begin starts such a process and sends it the first signal. The close of
	// in lets it end, ended is closed when it has.
	begin := func(t *testing.T, same string) (cmd *exec.Cmd, in io.Closer, ended <-chan struct{}) {
		cmd = exec.Command("/proc/self/exe", "-test.run=^TestSignals$")
		cmd.Env = append(os.Environ(), signalTest+"="+same)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for _, want := range []string{"started", "ending"} {
			if !lines.Scan() || lines.Text() != want {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				t.Fatalf("printed %q, want %q", lines.Text(), want)
			}
			if want == "started" {
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
		}
		done := make(chan struct{})
		t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
		go func() {
			for lines.Scan() { // to its end, which is the process's
			}
			_ = cmd.Wait() // its status is in ProcessState
			close(done)
		}()
		return cmd, in, done
	}
	again := func(cmd *exec.Cmd, ended <-chan struct{}, times int) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range times {
			select {
			case <-ended:
				return
			case <-tick.C:
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
		}
	}
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		cmd, in, ended := begin(t, "1h")
		again(cmd, ended, 20)
		in.Close()
		if <-ended; !cmd.ProcessState.Success() {
			t.Errorf("it ended with %v, want status 0", cmd.ProcessState)
		}
	})
	t.Run("later", func(t *testing.T) {
		t.Parallel()
		cmd, _, ended := begin(t, "0s")
		again(cmd, ended, 1<<30)
		if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGTERM {
			t.Errorf("it ended with %v, want SIGTERM", cmd.ProcessState)
		}
	})
}

func TestTwoAppletsOfOneName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Main([]string{"o7s"}, []Applet{{Name: "a"}, {Name: "a"}})
}

func TestInstallLeavesOthersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bin")
	table := []Applet{{Name: "irm"}, {Name: "ipcpd-local", Hidden: true}}
	var out bytes.Buffer
	for range 2 { // again is as good as once
		if err := (&installer{w: &out, bin: dir, table: table}).install(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "irm")); err != nil || to != "o7s" {
		t.Errorf("irm -> %q, %v", to, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "o7s")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("o7s: %v, %v", fi, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "ipcpd-local")); err == nil {
		t.Error("a hidden applet is installed")
	}
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&installer{w: &out, bin: dir, table: []Applet{{Name: "mine"}}}).install(t.Context()); err == nil || !strings.Contains(err.Error(), "is no symlink: remove it first") {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(mine); string(b) != "mine" {
		t.Error("a file of another's is replaced")
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".o7s-*"))
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
