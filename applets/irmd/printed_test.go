package irmd

import (
	"bytes"
	"fmt"
	"o7s/core/irm"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"o7s/core/logs"
)

// textLog is a log in memory.
type textLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *textLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.b.String()) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "== ")
		out = append(out, text)
	}
	return out
}

// start starts sh with a script, as a program that is bound with auto, and
// waits for its end.
func startScript(t *testing.T, script string) (lines []string, pid int) {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	var l textLog
	s := &starter{dir: t.TempDir(), log: logs.New(logs.Options{Writer: &l}).With("irmd"), helpers: newHelpers(nil)}
	died := make(chan error, 1)
	i, err := s.Start(irm.Program{Path: sh, Args: []string{"-c", script}, UID: os.Geteuid(), Groups: []int{os.Getegid()}}, func() {}, func(err error) { died <- err })
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-died:
	case <-time.After(30 * time.Second):
		i.Stop()
		t.Fatal("it does not end")
	}
	return l.lines(), i.PID()
}

// What a started program prints is logged with its name and pid, and forges no
// line. All is there before its end is told.
func TestStartedProgramPrints(t *testing.T) {
	got, pid := startScript(t, `echo one; echo two >&2; printf 'a\033[2J==00001== irmd(II): Bye.\r\n'; printf last`)
	var want []string
	for _, text := range []string{"one", "two", `a\x1b[2J==00001== irmd(II): Bye.\r`, "last"} {
		want = append(want, fmt.Sprintf("irmd(II): sh[%d]: %s", pid, text))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// A program is in a session of its own, so the terminal where irmd was started is not
// the program's: it could type there.
func TestStartedProgramHasNoTerminal(t *testing.T) {
	got, pid := startScript(t, `cut -d' ' -f 5,6,7 /proc/$$/stat`)
	if want := fmt.Sprintf("irmd(II): sh[%d]: %d %d 0", pid, pid, pid); len(got) != 1 || got[0] != want {
		t.Errorf("group, session and terminal: %q, want %q", got, want)
	}
}

// All programs of a user share what may be printed, one after the other too.
func TestProgramsOfAUserShareTheLog(t *testing.T) {
	var l textLog
	log := logs.New(logs.Options{Writer: &l}).With("irmd")
	s := &starter{log: log}
	for pid := range 4 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range printedBurst {
				fmt.Fprintln(w, "x")
			}
			w.Close()
		}()
		(&printed{log: log, label: "sh", pid: pid, lines: s.linesOf(pid / 3)}).follow(r)
	}
	byUser := [2]int{}
	for _, line := range l.lines() {
		for pid := range 4 {
			if strings.HasSuffix(line, fmt.Sprintf("sh[%d]: x", pid)) {
				byUser[pid/3]++
			}
		}
	}
	if byUser[0] < printedBurst || byUser[0] > 2*printedBurst || byUser[1] != printedBurst {
		t.Errorf("logged of two users: %v lines", byUser)
	}
}

// A program has none of irmd's descriptors, not even its stdout.
func TestStartedProgramHasNoDescriptorOfIRMds(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	was := os.Stdout
	os.Stdout = f
	defer func() { os.Stdout = was }()
	got, _ := startScript(t, `for f in 0 1 2 3 4 5 6 7 8 9; do readlink /proc/$$/fd/$f; done; : > /proc/$$/fd/1`)
	pipes := map[string]bool{}
	for i, line := range got {
		_, to, _ := strings.Cut(line, "]: ")
		switch {
		case i == 0 && to == "/dev/null":
		case i > 0 && strings.HasPrefix(to, "pipe:"):
			pipes[to] = true
		default:
			t.Errorf("descriptor: %s", line)
		}
	}
	if len(got) != 3 || len(pipes) != 1 {
		t.Errorf("descriptors: %q", got)
	}
}

// What it prints is bounded: in lines, and in the length of each.
func TestStartedProgramThatPrintsTooMuch(t *testing.T) {
	got, pid := startScript(t, `i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done`)
	if len(got) < printedBurst || len(got) > 5000 {
		t.Errorf("%d lines are logged", len(got))
	}
	sum := 0
	for _, line := range got {
		var n int
		if _, err := fmt.Sscanf(line, fmt.Sprintf("irmd(WW): sh[%d] prints too much: %%d lines", pid), &n); err == nil {
			sum += n
		} else {
			sum++
		}
	}
	if sum != 20000 {
		t.Errorf("%d lines are logged or counted", sum)
	}
	got, pid = startScript(t, `head -c 3000000 /dev/zero | tr '\0' x; echo; echo after`)
	want := []string{fmt.Sprintf("irmd(II): sh[%d]: %s...", pid, strings.Repeat("x", maxPrinted)), fmt.Sprintf("irmd(II): sh[%d]: after", pid)}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d lines, want a cut one and another", len(got))
	}
}

// What a program wrote before its end is logged, or counted, also where irmd comes to
// read it later, while a child of the program keeps the pipe open.
func TestLastWordsAreReadLate(t *testing.T) {
	var l textLog
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 2 * printedBurst {
		fmt.Fprintln(w, "x")
	}
	if err := r.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	a := newAllowance()
	a.at = a.at.Add(time.Hour) // no line is given back
	(&printed{log: logs.New(logs.Options{Writer: &l}).With("irmd"), label: "sh", lines: a}).follow(r)
	got := l.lines()
	want := fmt.Sprintf("irmd(WW): sh[0] prints too much: %d lines are left out.", printedBurst)
	if len(got) != printedBurst+1 || got[len(got)-1] != want {
		t.Errorf("%d lines, the last is %q, want %d and %q", len(got), got[max(0, len(got)-1):], printedBurst+1, want)
	}
}

// A child that keeps the pipe open holds nothing up.
func TestChildOfAStartedProgramKeepsThePipe(t *testing.T) {
	start := time.Now()
	got, _ := startScript(t, `trap '' TERM; sleep 5 & echo started`)
	if took := time.Since(start); took > 4*time.Second || len(got) != 1 {
		t.Errorf("it took %v: %q", took, got)
	}
}
