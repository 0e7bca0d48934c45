package applets

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// streamTest is in the environment of the processes that these tests start: the
// applet that they are.
const streamTest = "O7S_TEST_STREAMS"

// streamApplets are a tool and a service that print.
var streamApplets = []Applet{
	{Name: "line", Run: func(_ context.Context, env *Env) error {
		fmt.Fprintln(env.Stdout, "a line")
		return nil
	}},
	// A tool that prints until its ctx is done.
	{Name: "watch", Run: func(ctx context.Context, env *Env) error {
		for ctx.Err() == nil {
			fmt.Fprintln(env.Stdout, strings.Repeat("x", 99))
		}
		fmt.Fprintln(env.Stdout, "ended in order")
		return nil
	}},
	// A service that prints for each line of its stdin, and tells on stderr
	// when it has.
	{Name: "serve", Run: func(ctx context.Context, env *Env) error {
		env.Serve(nil)
		b := make([]byte, 1)
		for ctx.Err() == nil {
			if _, err := env.Stdin.Read(b); err != nil {
				break
			}
			for range 1000 {
				fmt.Fprintln(env.Stdout, strings.Repeat("x", 999))
			}
			fmt.Fprintln(env.Stderr, "done")
		}
		<-ctx.Done()
		fmt.Fprintln(env.Stderr, "ended in order")
		return nil
	}},
	{Name: "wait", Run: func(ctx context.Context, env *Env) error {
		fmt.Fprintln(env.Stdout, "started")
		<-ctx.Done()
		return nil
	}},
}

func TestMain(m *testing.M) {
	if name := os.Getenv(streamTest); name != "" {
		os.Exit(Main([]string{name}, streamApplets))
	}
	os.Exit(m.Run())
}

// run is such a process.
type run struct {
	*exec.Cmd
	t      *testing.T
	in     io.WriteCloser
	stderr *bufio.Reader
}

// begin starts the applet name with stdout, and with signals that it is to
// find ignored.
func begin(t *testing.T, name string, stdout *os.File, ignored ...os.Signal) *run {
	t.Helper()
	r := &run{t: t, Cmd: exec.Command("/proc/self/exe")}
	r.Env = append(os.Environ(), streamTest+"="+name, "GORACE=atexit_sleep_ms=0")
	r.Stdout = stdout
	errs, err := r.StderrPipe()
	if err == nil {
		r.in, err = r.StdinPipe()
	}
	if err == nil {
		if len(ignored) > 0 { // which a child inherits
			signal.Ignore(ignored...)
			defer signal.Reset(ignored...)
		}
		err = r.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.stderr = bufio.NewReader(errs)
	t.Cleanup(func() { _ = r.Process.Kill() })
	return r
}

// line returns the next line of stderr.
func (r *run) line() string {
	r.t.Helper()
	late := time.AfterFunc(30*time.Second, func() { _ = r.Process.Kill() })
	defer late.Stop()
	s, err := r.stderr.ReadString('\n')
	if err != nil {
		r.t.Fatalf("stderr ends: %q, %v", s, err)
	}
	return strings.TrimSuffix(s, "\n")
}

// ended waits until the process has ended, for at most limit, and returns its
// status and the rest of its stderr.
func (r *run) ended(limit time.Duration) (status int, stderr string) {
	r.t.Helper()
	late := time.AfterFunc(limit, func() {
		r.t.Errorf("it has not ended after %v", limit)
		_ = r.Process.Kill()
	})
	defer late.Stop()
	b, _ := io.ReadAll(r.stderr)
	_ = r.Wait() // its status is in ProcessState
	return r.ProcessState.ExitCode(), string(b)
}

func full(t *testing.T) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// What a tool can't write is an error. All tools share the way to print.
func TestToolOnAFullDisk(t *testing.T) {
	for _, name := range []string{"line", "watch"} {
		status, stderr := begin(t, name, full(t)).ended(10 * time.Second)
		if want := name + ": print: write /dev/stdout: no space left on device\n"; status != StatusFailed || stderr != want {
			t.Errorf("%s: status %d, %q, want 1, %q", name, status, stderr, want)
		}
	}
}

// A service goes on, says so once and ends in order.
func TestServiceThatCantWrite(t *testing.T) {
	gone, broken := pipe(t)
	gone.Close()
	for why, stdout := range map[string]*os.File{"no space left on device": full(t), "broken pipe": broken} {
		r := begin(t, "serve", stdout)
		io.WriteString(r.in, "12")
		for _, want := range []string{"serve: standard output can't be written: " + why + "; the service goes on", "done", "done"} {
			if got := r.line(); got != want {
				t.Errorf("%s: %q, want %q", why, got, want)
			}
		}
		r.in.Close()
		_ = r.Process.Signal(syscall.SIGTERM)
		if status, stderr := r.ended(10 * time.Second); status != 0 || stderr != "ended in order\n" {
			t.Errorf("%s: status %d, %q", why, status, stderr)
		}
	}
}

// A tool whose reader has gone ends quietly, and in order.
func TestToolWithoutItsReader(t *testing.T) {
	for _, name := range []string{"line", "watch"} {
		in, out := pipe(t)
		in.Close()
		if status, stderr := begin(t, name, out).ended(10 * time.Second); status != 141 || stderr != "" {
			t.Errorf("%s: status %d, %q", name, status, stderr)
		}
	}
}

// A reader that does not read holds up no service, and a signal ends tool and
// service.
func TestReaderThatDoesNotRead(t *testing.T) {
	_, out := pipe(t)
	r := begin(t, "serve", out)
	io.WriteString(r.in, "123")
	for range 3 { // 3 MB
		if got := r.line(); got != "done" {
			t.Fatal(got)
		}
	}
	tool := begin(t, "watch", out)
	for _, r := range []*run{r, tool} {
		r.in.Close()
		_ = r.Process.Signal(syscall.SIGTERM)
		if status, stderr := r.ended(2 * time.Second); status != 0 || r != tool && stderr != "ended in order\n" {
			t.Errorf("status %d, %q", status, stderr)
		}
	}
}

// A tool that is through waits for its reader, as other tools do.
func TestToolWaitsForItsReader(t *testing.T) {
	in, out := pipe(t)
	fill := make([]byte, 64<<10)
	if _, err := out.Write(fill); err != nil {
		t.Fatal(err)
	}
	r := begin(t, "line", out)
	out.Close()
	read := make(chan struct{})
	time.AfterFunc(2*lastWait, func() { // later than a service would wait
		defer close(read)
		if _, err := io.ReadFull(in, fill); err != nil {
			t.Error(err)
		}
		if b, err := io.ReadAll(in); string(b) != "a line\n" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	if status, stderr := r.ended(30 * time.Second); status != 0 || stderr != "" {
		t.Errorf("status %d, %q", status, stderr)
	}
	<-read
}

// A signal that was ignored at the start, as by nohup or by a script's "&", stays
// ignored.
func TestIgnoredSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		in, out := pipe(t)
		r := begin(t, "wait", out, s)
		if line, err := bufio.NewReader(in).ReadString('\n'); err != nil {
			t.Fatal(line, err)
		}
		if got := r.ignored(s); !got {
			t.Errorf("%v is heeded though it was ignored", s)
		}
		_ = r.Process.Signal(s)
		_ = r.Process.Signal(syscall.SIGTERM)
		if status, stderr := r.ended(10 * time.Second); status != 0 {
			t.Errorf("%v: status %d, %q", s, status, stderr)
		}
	}
}

// ignored reports whether the process ignores s, by the kernel's word.
func (r *run) ignored(s syscall.Signal) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Process.Pid))
	_, b, _ = bytes.Cut(b, []byte("SigIgn:\t"))
	mask, err := strconv.ParseUint(string(b[:16]), 16, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return mask>>(s-1)&1 == 1
}
