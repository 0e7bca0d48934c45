package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"o7s/core/ipcp"
	"o7s/ipc/irmctl"
)

// patience bounds every wait for what must come.
const patience = 20 * time.Second

// started is irmd's word that it can be reached.
const started = "daemon started..."

var errPatience = errors.New("it took too long")

// process is one that a test has started: this binary under another name. What
// it and its children write is kept.
type process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	gate *gate         // of its stdout, and its children's
	done chan struct{} // closed when it has ended
	gone chan struct{} // closed when its children have, too

	mu     sync.Mutex // guards the fields below
	lines  []string
	more   chan struct{} // closed, and made anew, with each line
	err    error         // of Wait
	dumped bool          // it was told to quit, with its goroutines
}

func start(name, dir string, attr *syscall.SysProcAttr, args ...string) (*process, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = name
	// The race detector would sleep for a second at the end of each.
	cmd.Env = append(os.Environ(), "O7S_RUNTIME_DIR="+dir, "O7S_CONFIG_DIR="+filepath.Join(dir, "config"), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	cmd.SysProcAttr = attr
	// Not a pipe of exec's: its end is the children's end too.
	g, w, err := newGate()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	p := &process{name: name, cmd: cmd, gate: g, done: make(chan struct{}), gone: make(chan struct{}), more: make(chan struct{})}
	p.in, err = cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	w.Close()
	if err != nil {
		g.r.Close()
		return nil, err
	}
	go p.read()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

func (p *process) read() {
	defer close(p.gone)
	p.gate.lines(func(line string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lines = append(p.lines, line)
		close(p.more)
		p.more = make(chan struct{})
	})
}

// line waits for the nth line, from 1, that has text.
func (p *process) line(text string, n int) (string, error) { return p.await(text, n, false) }

// word is line for the first one of a process that says something only when it has
// come further: with each line it has the whole patience again.
func (p *process) word(text string) (string, error) { return p.await(text, 1, true) }

func (p *process) await(text string, n int, anew bool) (string, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		p.mu.Lock()
		found := 0
		for _, l := range p.lines {
			if strings.Contains(l, text) {
				if found++; found == n {
					p.mu.Unlock()
					return l, nil
				}
			}
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
			if anew {
				timer.Reset(patience)
			}
			continue
		case <-p.gone:
			p.mu.Lock()
			last := p.more == more
			p.mu.Unlock()
			if !last {
				continue
			}
			return "", fmt.Errorf("%s ended without a line %q", p.name, text)
		case <-timer.C:
			return "", fmt.Errorf("%s has no line %q: %w", p.name, text, errPatience)
		}
	}
}

// count returns how many lines have text.
func (p *process) count(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, l := range p.lines {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends p as a crash does and waits for its end, not for its children's.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// within waits until ch is closed.
func within(d time.Duration, ch <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ch:
		return nil
	case <-timer.C:
		return errPatience
	}
}

// stop ends p in order, unless it has ended, and checks that no process, no
// socket and no complaint is left.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.in.Close()
	if within(patience, p.done) != nil {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines
		<-p.done
		return fmt.Errorf("%s did not end after SIGTERM", p.name)
	}
	if within(patience, p.gone) != nil {
		return fmt.Errorf("%s ended, but not all that it started", p.name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	killed := p.dumped
	if e, ok := errors.AsType[*exec.ExitError](p.err); ok {
		killed = killed || e.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	}
	if p.err != nil && !killed {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	for _, l := range p.lines {
		if strings.Contains(l, "DATA RACE") || strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") {
			return fmt.Errorf("%s: %s", p.name, l)
		}
	}
	return nil
}

// system is an IRMd in a runtime directory of its own.
type system struct {
	*process
	dir string
}

// newDir makes a runtime directory with a path that is short enough.
func newDir() (string, error) {
	dir, err := os.MkdirTemp("", "o7s-")
	if err == nil && os.Geteuid() == 0 {
		err = os.Chmod(dir, 0o755)
	}
	return dir, err
}

// startIRMd starts one in dir and waits until it can be reached.
func startIRMd(dir string, args ...string) (*process, error) {
	p, err := start("irmd", dir, nil, append([]string{"--stdout"}, args...)...)
	if err != nil {
		return nil, err
	}
	if _, err := p.line(started, 1); err != nil {
		_ = p.stop()
		return nil, err
	}
	return p, nil
}

// startSystem starts an IRMd with a local layer.
func startSystem() (*system, error) {
	dir, err := newDir()
	if err != nil {
		return nil, err
	}
	p, err := startIRMd(dir)
	if err != nil {
		return nil, err
	}
	s := &system{p, dir}
	if err := s.bootstrap("local"); err != nil {
		_ = s.stop()
		return nil, err
	}
	return s, nil
}

// client returns a client of the IRMd; the caller closes it.
func client(ctx context.Context, dir string) (*irmctl.Client, error) {
	return irmctl.DialTo(ctx, dir)
}

func (s *system) bootstrap(typ string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client(ctx, s.dir)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: "ipcp", Type: typ, Draft: ipcp.Draft{Layer: "layer"}})
	return err
}

// stop ends the IRMd and removes the runtime directory.
func (s *system) stop() error {
	err := s.process.stop()
	if _, e := os.Lstat(filepath.Join(s.dir, irmctl.Socket)); e == nil && err == nil && s.process.err == nil {
		err = errors.New("irmd left its socket behind")
	}
	os.RemoveAll(s.dir)
	return err
}
