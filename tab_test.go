package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// shells are how the shells of this test start, and what they read first.
var shells = map[string]struct {
	args []string
	init string
}{
	"bash": {[]string{"--norc", "--noprofile", "-i"}, "source <(o7s completion bash)"},
	"zsh":  {[]string{"-f", "-i"}, "autoload -U compinit; compinit -u -D; source <(o7s completion zsh)"},
	"fish": {[]string{"--no-config", "-i", "-C", "function fish_prompt; echo -n 'ready> '; end"}, "o7s completion fish | source"},
}

// tab is "tab SHELL FILE": in a real shell on a terminal it types what is left
// of -> in each line of FILE, then Tab, and compares the words that the shell
// would run with those on the right, each in <>. A system without the shell, or
// without terminals, is passed over.
func tab(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || shells[args[0]].init == "" {
		ts.Fatalf("usage: tab bash|zsh|fish FILE")
	}
	shell := shells[args[0]]
	path, err := lookPath(ts.Getenv("PATH"), args[0])
	if err != nil {
		ts.Logf("no completion tried: %v", err)
		return
	}
	tty, slave, err := openTerminal()
	if err != nil {
		ts.Logf("no completion tried: no terminal: %v", err)
		return
	}
	defer tty.Close()
	cmd := exec.Command(path, shell.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	work := ts.Getenv("WORK")
	cmd.Dir = work
	cmd.Env = []string{"PS1=ready> ", "TERM=xterm", "HOME=" + work, "XDG_RUNTIME_DIR=" + work, "LC_ALL=C"}
	for _, k := range []string{"PATH", "O7S_RUNTIME_DIR", "GORACE"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	err = cmd.Start()
	slave.Close()
	ts.Check(err)
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()

	var seen string // since the last wait
	wait := func(text string) (before string) {
		ts.Check(tty.SetDeadline(time.Now().Add(patience)))
		b := make([]byte, 4096)
		for !strings.Contains(seen, text) {
			n, err := tty.Read(b)
			seen += string(b[:n])
			if err != nil {
				ts.Fatalf("%s: waiting for %q: %v; it wrote:\n%q", args[0], text, err, seen)
			}
		}
		before, seen, _ = strings.Cut(seen, text)
		return before
	}
	typ := func(keys string) {
		_, err := tty.WriteString(keys)
		ts.Check(err)
	}
	wait("ready> ")
	typ(shell.init + "; printf '<%s>' loaded\r")
	wait("<loaded>")
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		typed, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
		if !ok {
			ts.Fatalf("no -> in %q", line)
		}
		// A shell reads keys as such from its prompt on.
		wait("ready> ")
		// To the line's beginning, and to its end.
		typ(typed + "\t\x01printf '<%s>' \x05 end\r")
		first := "<" + strings.Fields(typed)[0] + ">"
		wait(first)
		if got := first + wait("<end>"); got != os.Expand(want, ts.Getenv) {
			ts.Fatalf("%s: %s and Tab is %s, want %s", args[0], typed, got, want)
		}
	}
}

// openTerminal returns both ends of a new terminal.
func openTerminal() (tty, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "terminal"), slave, nil
}
