package tutorial

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// The tutorial is what it says: each window shows, line by line, what the
// document of the same name shows, and nothing is left of it.
func TestTutorial(t *testing.T) {
	t.Parallel()
	r := start(t, nil, "--fast")
	status := r.status()
	out := r.stdout()
	if status != 0 || r.errs.Len() > 0 {
		t.Fatalf("status %d, stderr: %s, stdout:\n%s", status, &r.errs, out)
	}
	r.nothingLeft()

	roles := findRoles(out)
	irmd := compare(t, "irmd", normalize(margin(out, "irmd   |"), roles))
	server := compare(t, "oping-server", normalize(margin(out, "server |"), roles))
	client := compare(t, "oping-client", normalize(margin(out, "client |"), roles))
	// What comes after the document: how everything ends.
	const end = `==IRMD== irmd(DB): Dead process removed: SERVER.
==IRMD== irmd(II): IRMd shutting down...
==IRMD== irmd(II): Bye.`
	if got := strings.Join(irmd, "\n"); got != end {
		t.Errorf("the irmd's end:\n%s\nwant:\n%s", got, end)
	}
	if len(server)+len(client) > 0 {
		t.Errorf("more than the document has:\n%q\n%q", server, client)
	}

	wantCommands := []string{
		"irmd --stdout",
		"irm ipcp bootstrap type local name local-ipcp layer local-layer",
		"oping --listen --idle 2s",
		"irm bind process SERVER name oping-server",
		"irm name register oping-server layer local-layer",
		"oping --server-name oping-server --count 5 --interval 100ms",
	}
	var commands []string
	for _, m := range regexp.MustCompile(`(?m)^[a-z]+ +\| \$ (.*)$`).FindAllStringSubmatch(out, -1) {
		commands = append(commands, m[1])
	}
	commands = normalize(commands, roles)
	if fmt.Sprint(commands) != fmt.Sprint(wantCommands) {
		t.Errorf("commands:\n%q\nwant:\n%q", commands, wantCommands)
	}
	if strings.ContainsRune(out, '\x1b') || strings.Contains(out, "\n\n\n") {
		t.Errorf("colours, or two empty lines, in a pipe:\n%q", out)
	}
}

// Tutorial 02 is what it says, too: its log is compared where its commands are
// scripted.
func TestTutorial2(t *testing.T) {
	t.Parallel()
	r := start(t, nil, "--fast", "2")
	status := r.status()
	out := r.stdout()
	if status != 0 || r.errs.Len() > 0 {
		t.Fatalf("status %d, stderr: %s, stdout:\n%s", status, &r.errs, out)
	}
	r.nothingLeft()
	for _, want := range []string{
		"Enrolled with unicast-layer.", "Type dt neighbor ", "Adding entry (publish).", "5 packets transmitted, 5 received",
		"neighbour", "torn down.", "Destroyed IPCP", "irm ipcp destroy name uni-2",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not there; it printed:\n%s", want, out)
		}
	}
}

// margin returns the lines of one window, without the commands.
func margin(out, margin string) (lines []string) {
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, margin); ok && !strings.HasPrefix(text, " $ ") {
			lines = append(lines, strings.TrimPrefix(strings.TrimSuffix(text, "\n"), " "))
		}
	}
	return lines
}

// findRoles returns the role of each pid in the irmd's log.
func findRoles(out string) map[string]string {
	roles := make(map[string]string)
	for role, where := range map[string]string{
		"IRMD":   `==0*(\d+)== irmd\(II\): Ouroboros`,
		"IPCP":   `Created IPCP (\d+)\.`,
		"SERVER": `New instance \((\d+)\)`,
		"CLIENT": `Allocating flow for (\d+) to`,
	} {
		if m := regexp.MustCompile(where).FindStringSubmatch(out); m != nil {
			roles[m[1]] = role
		}
	}
	return roles
}

var (
	pids  = regexp.MustCompile(`(==0*|IPCP |process |instance \(|flow for |removed: )(\d+)`)
	times = regexp.MustCompile(`\d+\.\d{3}`)
)

// normalize writes roles for pids and T for times, and drops empty lines.
func normalize(lines []string, roles map[string]string) (norm []string) {
	for _, line := range lines {
		if line == "" {
			continue
		}
		line = pids.ReplaceAllStringFunc(line, func(s string) string {
			m := pids.FindStringSubmatch(s)
			role, ok := roles[m[2]]
			if !ok {
				return s
			}
			return strings.TrimRight(m[1], "0") + role
		})
		norm = append(norm, times.ReplaceAllString(line, "T"))
	}
	return norm
}

// compare compares lines with a golden file and returns those that come after
// it.
func compare(t *testing.T, name string, lines []string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", name+".golden"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i, w := range want {
		if i >= len(lines) {
			t.Fatalf("%s: ends before line %d, %q; it is:\n%s", name, i+1, w, strings.Join(lines, "\n"))
		}
		if lines[i] != w {
			t.Fatalf("%s: line %d is %q, want %q", name, i+1, lines[i], w)
		}
	}
	return lines[len(want):]
}

// A tutorial that is interrupted, at any step, leaves nothing behind.
func TestInterrupted(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		after  string
		signal syscall.Signal
		step   string
	}{
		{"at the start", nil, "Step 1", syscall.SIGINT, "step "}, // 1, or what comes at once after it,
		{"while pings are sent", nil, "seq=0", syscall.SIGINT, "step 5"},
		{"while the server waits", []string{"--fast"}, "Step 6", syscall.SIGTERM, "step 6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, nil, tt.args...)
			r.until(tt.after)
			r.signal(tt.signal)
			if status := r.status(); status != 1 || !strings.HasPrefix(r.errs.String(), "tutorial: "+tt.step) {
				t.Errorf("status %d, stderr: %s", status, &r.errs)
			}
			r.nothingLeft()
		})
	}
}

// A tutorial that is killed can do nothing any more; its processes end all
// the same.
func TestKilled(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.until("seq=0")
	if n := len(r.processes()); n != 5 {
		t.Errorf("%d processes run, want the tutorial, irmd, its IPCP and two opings: %v", n, r.processes())
	}
	r.signal(syscall.SIGKILL)
	r.status()
	r.poll("all have ended", func() bool { return len(r.processes()) == 0 })
}

// A reader that has seen enough, as head(1), is no way to leave things behind.
func TestReaderGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"tutorial"}
	r := &testRun{t: t, dir: dir, cmd: cmd}
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, quickExit)
	cmd.Stderr = &r.errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Error(err)
	}
	out.Close()
	_ = cmd.Wait() // its status is in ProcessState
	if status := cmd.ProcessState.ExitCode(); status != 141 || r.errs.String() != "" {
		t.Errorf("status %d, stderr: %s", status, &r.errs)
	}
	r.nothingLeft()
}

// A directory that can't be filled is not left behind.
func TestBrokenDirectory(t *testing.T) {
	was := programs
	defer func() { programs = was }()
	programs = []string{"irmd", "no/such/directory"}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	if dir, err := new(tutorial).makeDir(); err == nil || !strings.Contains(err.Error(), "make the commands: ") {
		t.Errorf("makeDir: %q, %v", dir, err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A step that fails says what was tried and why, and leaves nothing.
func TestBrokenStep(t *testing.T) {
	tests := []struct {
		name, env string
		want      []string // in stderr
	}{
		{"no temporary directory", "TMPDIR=/nonexistent", []string{"make a runtime directory", "/nonexistent", "TMPDIR"}},
		{"no irmd", withoutEnv + "=irmd", []string{"step 1, Start the IRMd", `"irmd --stdout" ended with exit status 2`, "unknown applet"}},
		{"no IPCP", withoutEnv + "=ipcpd-local", []string{"step 2, Create a local layer", `"irm ipcp bootstrap`, "exit status 1: irm: "}},
		{"no oping", withoutEnv + "=oping", []string{"step 3, Start a ping server", `"oping --listen" ended with`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, []string{tt.env})
			if status := r.status(); status != 1 {
				t.Errorf("status %d", status)
			}
			for _, want := range tt.want {
				if !strings.Contains(r.errs.String(), want) {
					t.Errorf("stderr does not have %q: %s", want, &r.errs)
				}
			}
			r.nothingLeft()
		})
	}
}

func TestUsage(t *testing.T) {
	for arg, want := range map[string]int{"--help": 0, "--version": 0, "--slow": 2, "now": 2, "3": 2} {
		if status := start(t, nil, arg).status(); status != want {
			t.Errorf("tutorial %s: status %d, want %d", arg, status, want)
		}
	}
}
