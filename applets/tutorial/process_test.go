package tutorial

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// fakeProcess returns a process that prints what is written to out, and ends
// with script, a shell's.
func fakeProcess(t *testing.T, script string) *process {
	t.Helper()
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Start()
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{words: "sh", cmd: cmd, out: r, news: make(chan struct{}, 1), gone: make(chan struct{})}
	t.Cleanup(func() { _ = p.stop() })
	return p
}

func TestAwait(t *testing.T) {
	cause := errors.New("another process failed")
	failed, fail := context.WithCancelCause(t.Context())
	fail(cause)
	tests := []struct {
		name, script string
		ctx          context.Context
		want         string // the line, or a part of the error
	}{
		{"a line", "echo one; echo two; echo three; exec sleep 60", t.Context(), "two"},
		{"before the end", "echo one; printf two", t.Context(), "two"},
		{"never, and it ends", "echo one", t.Context(), `"sh" ended and never printed "two"`},
		{"not in time", "echo one; exec sleep 60", t.Context(), `waited 200ms in vain for "sh" to print "two"`},
		{"the tutorial has failed", "exec sleep 60", failed, cause.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := fakeProcess(t, tt.script)
			go p.follow(func(string) {}, func(error) {})
			limit := 200 * time.Millisecond
			if tt.want == "two" {
				limit = testTime
			}
			got, err := p.await(tt.ctx, limit, "two")
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A line is awaited once.
func TestAwaitTakes(t *testing.T) {
	p := &process{words: "it", lines: []string{"a 1", "b", "a 2", "c"}, news: make(chan struct{}), gone: make(chan struct{})}
	close(p.gone)
	for _, want := range []string{"a 1", "a 2"} {
		if got, err := p.await(t.Context(), testTime, "a"); got != want || err != nil {
			t.Errorf("await: %q, %v, want %q", got, err, want)
		}
	}
	if got, err := p.await(t.Context(), testTime, "b"); err == nil {
		t.Errorf("await of a line before one that was seen: %q", got)
	}
}

// One that ends badly and unasked ends the tutorial, and says why; one that
// was told to end says so to stop.
func TestEnds(t *testing.T) {
	tests := []struct {
		name, script string
		asked        bool
		fails, stops string // part of each error; "" for none
	}{
		{"well", "echo ready; exit 0", false, "", ""},
		{"badly", "echo ready; echo why; echo; exit 3", false, `"sh" ended with exit status 3: why`, ""},
		{"well, as asked", "trap 'kill $!; exit 0' TERM; sleep 60 & echo ready; wait", true, "", ""},
		{"badly, as asked", "trap 'kill $!; exit 3' TERM; sleep 60 & echo ready; wait", true, "", "exit status 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := fakeProcess(t, tt.script)
			var failed error
			go p.follow(func(string) {}, func(err error) { failed = err })
			if _, err := p.await(t.Context(), testTime, "ready"); err != nil {
				t.Fatal(err)
			}
			if !tt.asked {
				_ = p.wait(t.Context(), testTime)
			}
			stopped := p.stop()
			for _, e := range []struct {
				got  error
				want string
			}{{failed, tt.fails}, {stopped, tt.stops}} {
				if (e.got == nil) != (e.want == "") || e.got != nil && !strings.Contains(e.got.Error(), e.want) {
					t.Errorf("error %v, want %q", e.got, e.want)
				}
			}
		})
	}
}

// One that ignores SIGTERM is killed.
func TestStopKills(t *testing.T) {
	t.Parallel()
	p := fakeProcess(t, "trap '' TERM; echo ready; exec sleep 60") // an ignored signal stays ignored
	go p.follow(func(string) {}, func(error) {})
	if _, err := p.await(t.Context(), testTime, "ready"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	err := p.stop()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("stop: %v", err)
	}
	if d := time.Since(begin); d < stopTime || d > 30*time.Second {
		t.Errorf("stop took %v", d)
	}
}

// One that leaves children behind who print is waited for in vain, not for
// ever.
func TestStopChildStays(t *testing.T) {
	t.Parallel()
	p := fakeProcess(t, "trap '' TERM; sleep 20 & echo ready; exit 0")
	go p.follow(func(string) {}, func(error) {})
	if _, err := p.await(t.Context(), testTime, "ready"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("stop took %v", d)
	}
}
