package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"o7s/core/hash"
)

// TestScripts plays the scenarios of testdata. Beside testscript's commands
// they have:
//
//	start NAME COMMAND...      start a process; $NAME_PID is its pid
//	ready NAME TEXT [COUNT]    wait until its output has TEXT, COUNT times
//	signal NAME SIGNAL         INT, HUP, TERM, KILL, STOP, CONT or QUIT
//	ended NAME STATUS          wait until it has ended: a number, or a signal's name
//	within DURATION NAME       the same, whatever its status, in that time; in ten
//	                           times that without -long: others use the machine
//	output NAME GOLDEN [A B]   compare its whole output so far, with A in place
//	                           of B, with a file
//	nobody                     wait until no process of this script is left
//	kill-ipcp NAME             kill the last IPCP that an irmd has created
//	lease FILE                 hold a lease on the file until the script's end: who
//	                           opens or executes it waits
//	tab SHELL FILE             complete the lines of a file in a real shell
//
// and three programs: "as UID COMMAND..." becomes COMMAND, run as that user; "old
// COMMAND..." becomes COMMAND as if the kernel were of the oldest version that is
// served; "at HOST COMMAND..." becomes COMMAND with a runtime directory of that host, and
// the configuration in $WORK/config/HOST.
//
// Two addresses of the loopback device, IP_A and IP_B, are the script's own, and
// the file $HOSTS gives each name that "known NAME HOST..." adds the address of its
// host, A or B.
//
// In a golden file, as in the output that is compared, the pid of a process
// that was started is its name in capitals, an IPCP's is IPCP, times are T and
// blank lines are left out.
//
// Each script has its own runtime directory. At its end all that it started
// must have ended, or end in order, and no process, socket or file be left.
func TestScripts(t *testing.T) {
	t.Parallel() // with TestNetwork
	testscript.Run(t, scripts("testdata"))
}

// scripts describes the scenarios of a folder.
func scripts(dir string) testscript.Params {
	return testscript.Params{
		Dir:   dir,
		Setup: setup,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start": start, "ready": ready, "signal": signal, "ended": ended,
			"within": within, "ipcplog": ipcpLog, "output": output, "nobody": nobody, "kill-ipcp": killIPCP,
			"tab": tab, "known": known, "lease": lease,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "long":
				return *long, nil
			case "root":
				return os.Geteuid() == 0, nil
			case "race":
				return raceDetector, nil
			case "seccomp":
				return seccomp(), nil
			case "cryptography": // Python's package
				return exec.Command("python3", "-c", "import cryptography").Run() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		RequireUniqueNames: true,
	}
}

// raceDetector is set where the tests run under it.
var raceDetector bool

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 60 * time.Second

// script is what one script has started.
type script struct {
	dir   string // the runtime directory
	procs map[string]*proc
	order []string
}

type scriptKey struct{}

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func setup(env *testscript.Env) error {
	// Not below $WORK: a socket's path is short.
	dir, err := os.MkdirTemp("", "o7s-")
	if err != nil {
		return err
	}
	s := &script{dir: dir, procs: make(map[string]*proc)}
	env.Values[scriptKey{}] = s
	env.Setenv("O7S_RUNTIME_DIR", dir)
	env.Setenv("O7S_CONFIG_DIR", filepath.Join(env.WorkDir, "config"))
	net := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))
	env.Setenv("IP_A", net+"1")
	env.Setenv("IP_B", net+"2")
	env.Setenv("HOSTS", filepath.Join(env.WorkDir, "hosts"))
	env.Setenv("NO_COLOR", "1")
	env.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else each race build takes a second to exit
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	env.Setenv("TESTDATA", filepath.Join(wd, "testdata"))
	if os.Geteuid() == 0 {
		// So that other users find the programs and the socket.
		bin, _, _ := strings.Cut(env.Getenv("PATH"), string(filepath.ListSeparator))
		for _, d := range []string{filepath.Dir(bin), dir} {
			if err := os.Chmod(d, 0o755); err != nil {
				return err
			}
		}
	}
	t := env.T().(interface {
		Helper()
		Logf(string, ...any)
		Errorf(string, ...any)
	})
	env.Defer(func() {
		// In the order that people would: the last one first, the irmd last.
		for _, name := range slices.Backward(s.order) {
			p := s.procs[name]
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			if !p.wait(patience) {
				_ = p.cmd.Process.Kill()
				t.Errorf("%s did not end after SIGTERM", name)
			}
		}
		if left := s.left(patience); left != "" {
			t.Errorf("left behind:\n%s", left)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		onHosts, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
		for _, f := range append(files, onHosts...) {
			if fi, err := os.Stat(f); err == nil && fi.IsDir() {
				continue // a host's
			}
			if filepath.Base(f) != "irmd.lock" && !(filepath.Base(f) == "irmd.sock" && s.killed()) {
				t.Errorf("left behind: %s", f)
			}
		}
		os.RemoveAll(dir)
	})
	return nil
}

// killed reports whether the script has killed an irmd: then its socket stays,
// and is stale.
func (s *script) killed() bool {
	return slices.ContainsFunc(s.order, func(n string) bool { return s.procs[n].killed && strings.HasPrefix(n, "irmd") })
}

// left waits until no process of this runtime directory is left and returns
// those that do not go.
func (s *script) left(patience time.Duration) string {
	deadline := time.Now().Add(patience)
	for {
		var left []string
		want := []byte("O7S_RUNTIME_DIR=" + s.dir)
		envs, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, e := range envs {
			if b, err := os.ReadFile(e); err == nil && bytes.Contains(b, want) {
				cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(e), "cmdline"))
				left = append(left, filepath.Base(filepath.Dir(e))+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n")
		}
		time.Sleep(5 * time.Millisecond) // the kernel tells nobody of a grandchild's end
	}
}

// proc is a process that a script has started.
type proc struct {
	cmd    *exec.Cmd
	done   chan struct{}
	killed bool

	mu   sync.Mutex
	more *sync.Cond
	out  bytes.Buffer
}

// Write takes what the process writes: exec copies a pipe to it, so that what
// irmd and its IPCPs write stays in order.
func (p *proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more.Broadcast()
	return p.out.Write(b)
}

func (p *proc) wait(d time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(d):
		return false
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME COMMAND...")
	}
	s, name := of(ts), args[0]
	if s.procs[name] != nil {
		ts.Fatalf("%s is started already", name)
	}
	p := &proc{done: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	path, err := lookPath(ts.Getenv("PATH"), args[1])
	ts.Check(err)
	p.cmd = exec.Command(path, args[2:]...)
	p.cmd.Args[0] = args[1]
	p.cmd.Dir = ts.Getenv("WORK")
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "O7S_RUNTIME_DIR", "SUDO_UID", "NO_COLOR", "GORACE", "PYTHONDONTWRITEBYTECODE", "NETNS_A", "NETNS_B", "NETNS_C", "NETNS_D", "O7S_CONFIG_DIR", "KEYS"} {
		p.cmd.Env = append(p.cmd.Env, k+"="+ts.Getenv(k))
	}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	// The IPCPs of a killed irmd may hold its stdout a moment longer.
	p.cmd.WaitDelay = patience
	ts.Check(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
		p.mu.Lock()
		p.more.Broadcast()
		p.mu.Unlock()
	}()
	s.procs[name] = p
	s.order = append(s.order, name)
	ts.Setenv(name+"_PID", strconv.Itoa(p.cmd.Process.Pid))
}

func lookPath(path, file string) (string, error) {
	if strings.Contains(file, "/") {
		return file, nil
	}
	for _, dir := range filepath.SplitList(path) {
		p := filepath.Join(dir, file)
		if fi, err := os.Stat(p); err == nil && fi.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", errors.New(file + ": not in PATH")
}

func named(ts *testscript.TestScript, name string) *proc {
	p := of(ts).procs[name]
	if p == nil {
		ts.Fatalf("%s was not started", name)
	}
	return p
}

func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: ready NAME TEXT [COUNT]")
	}
	p, count := named(ts, args[0]), 1
	if len(args) == 3 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		count = n
	}
	timeout := time.AfterFunc(patience, p.more.Broadcast)
	defer timeout.Stop()
	deadline := time.Now().Add(patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	for strings.Count(p.out.String(), args[1]) < count {
		if time.Now().After(deadline) || !p.running() {
			ts.Fatalf("%s never wrote %q %d times; it wrote:\n%s", args[0], args[1], count, p.out.String())
		}
		p.more.Wait()
	}
}

func (p *proc) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

var signals = map[string]syscall.Signal{
	"INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
	"QUIT": syscall.SIGQUIT,
}

func signal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME INT|HUP|TERM|KILL|STOP|CONT|QUIT")
	}
	p := named(ts, args[0])
	p.killed = p.killed || args[1] == "KILL"
	ts.Check(p.cmd.Process.Signal(signals[args[1]]))
}

func lease(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lease FILE")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	ts.Defer(func() { f.Close() })
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	ts.Check(err)
}

func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME STATUS")
	}
	p := named(ts, args[0])
	if !p.wait(patience) {
		ts.Fatalf("%s has not ended", args[0])
	}
	ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	got := strconv.Itoa(ws.ExitStatus())
	if ws.Signaled() {
		got = strings.ToUpper(ws.Signal().String())
		for n, sig := range signals {
			if sig == ws.Signal() {
				got = n
			}
		}
	}
	if got != args[1] {
		ts.Fatalf("%s ended with %s, want %s; it wrote:\n%s", args[0], got, args[1], p.out.String())
	}
}

func within(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: within DURATION NAME")
	}
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	if !*long {
		d *= 10
	}
	if !named(ts, args[1]).wait(d) {
		ts.Fatalf("%s has not ended within %v", args[1], d)
	}
}

func killIPCP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kill-ipcp NAME")
	}
	p := named(ts, args[0])
	p.mu.Lock()
	created := createdIPCP.FindAllStringSubmatch(p.out.String(), -1)
	p.mu.Unlock()
	if len(created) == 0 {
		ts.Fatalf("%s has created no IPCP", args[0])
	}
	pid, err := strconv.Atoi(created[len(created)-1][1])
	ts.Check(err)
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
}

// known adds names to the hosts file of the layers over UDP.
func known(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args)%2 != 0 {
		ts.Fatalf("usage: known NAME HOST...")
	}
	f, err := os.OpenFile(ts.Getenv("HOSTS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	ts.Check(err)
	defer f.Close()
	for ; len(args) > 0; args = args[2:] {
		_, err := fmt.Fprintln(f, ts.Getenv("IP_"+args[1]), hash.MD5.Sum(args[0]).Full())
		ts.Check(err)
	}
}

func nobody(ts *testscript.TestScript, neg bool, args []string) {
	if left := of(ts).left(patience); left != "" {
		ts.Fatalf("left:\n%s", left)
	}
}

func output(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 4 {
		ts.Fatalf("usage: output NAME GOLDEN [A B]")
	}
	p := named(ts, args[0])
	p.mu.Lock()
	got := of(ts).normalise(p.out.String())
	p.mu.Unlock()
	if len(args) == 4 {
		got = strings.ReplaceAll(got, args[3], args[2])
	}
	file := ts.MkAbs(args[1])
	want := ts.ReadFile(args[1])
	if got == want {
		return
	}
	if *update && !strings.HasSuffix(args[1], ".golden") {
		ts.Check(os.WriteFile(file, []byte(got), 0o666))
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			ts.Fatalf("%s differs from %s at line %d; it is:\n%s", args[0], args[1], i+1, got)
		}
	}
}

// ipcpLog compares what the N-th IPCP of an irmd has logged. Where processes speak
// to each other the order of the lines of each is fixed, that of all is not.
func ipcpLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: ipcplog NAME N GOLDEN")
	}
	p := named(ts, args[0])
	p.mu.Lock()
	out := p.out.String()
	p.mu.Unlock()
	n, _ := strconv.Atoi(args[1])
	made := createdIPCP.FindAllStringSubmatch(out, -1)
	if n < 1 || n > len(made) {
		ts.Fatalf("%s has created %d IPCPs", args[0], len(made))
	}
	var log strings.Builder
	for line := range strings.Lines(out) {
		if m := logLine.FindStringSubmatch(line); m != nil && m[1] == made[n-1][1] {
			log.WriteString(m[2])
		}
	}
	got := memberNumbers.Replace(log.String())
	if *update {
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(got), 0o666))
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(ts.ReadFile(args[2]), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			ts.Fatalf("the log of IPCP %d differs from %s at line %d; it is:\n%s", n, args[2], i+1, got)
		}
	}
}

// logLine is a line of a log, whose pid has zeros in front.
var logLine = regexp.MustCompile(`(?s)^==0*(\d+)== (.*)$`)

// replacers is what no two runs share in the log of a member.
type replacers []struct {
	re *regexp.Regexp
	by string
}

var memberNumbers = replacers{
	{regexp.MustCompile(`got address \d+`), "got address N"},
	{regexp.MustCompile(`\b[0-9a-f]{2}(\.[0-9a-f]{2}){3}\b`), "A"},
	{regexp.MustCompile(`\[[0-9a-f]{8}\]`), "[ID]"},
	{regexp.MustCompile(`  ID: [0-9a-f]{8} `), "  ID: HASH "},
	{regexp.MustCompile(`\(\d+ bytes\)`), "(N bytes)"},
	{regexp.MustCompile(`\b\d{12,}\b`), "N"},
	// The answer may come before the line that says that it is asked for.
	{regexp.MustCompile(`((?:(?:flow-allocator|ipcpd-unicast)\(DB\): (?:IPCP received|Flow to)[^\n]*\n)+)(ipcpd/ipcp\(II\): Finished allocating[^\n]*\n)`), "$2$1"},
	{regexp.MustCompile(`until [-0-9: ]+ \(UTC\)`), "until T (UTC)"},
}

// Replace returns text without what no two runs share.
func (r replacers) Replace(text string) string {
	for _, x := range r {
		text = x.re.ReplaceAllString(text, x.by)
	}
	return text
}

var (
	createdIPCP = regexp.MustCompile(`(?m)^==\d+== irmd\(II\): Created IPCP (\d+)\.$`)
	// Where a log names a process. Elsewhere the same digits are an id, or a
	// part of a time.
	aPID  = regexp.MustCompile(`(==0*|\bIPCP |\bprocess |\bfor |instance \(|removed: )(\d+)\b`)
	times = regexp.MustCompile(`(time[=:] ?)[0-9.]+ ms`)
	rtt   = regexp.MustCompile(`(?m)^(rtt min/avg/max/mdev = )[0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+ ms$`)
	blank = regexp.MustCompile(`(?m)^\n`)
)

// normalise takes out of a log or an output what no two runs share.
func (s *script) normalise(out string) string {
	roles := make(map[string]string)
	for name, p := range s.procs {
		roles[strconv.Itoa(p.cmd.Process.Pid)] = strings.ToUpper(strings.TrimRight(name, "0123456789"))
	}
	for _, m := range createdIPCP.FindAllStringSubmatch(out, -1) {
		roles[m[1]] = "IPCP"
	}
	out = aPID.ReplaceAllStringFunc(out, func(s string) string {
		m := aPID.FindStringSubmatch(s)
		if r, ok := roles[m[2]]; ok {
			return strings.TrimRight(m[1], "0") + r
		}
		return s
	})
	out = times.ReplaceAllString(out, "${1}T ms")
	out = rtt.ReplaceAllString(out, "${1}T/T/T/T ms")
	return blank.ReplaceAllString(out, "")
}
