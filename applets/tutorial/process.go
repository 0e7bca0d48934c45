package tutorial

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one process of the tutorial: this executable again, under
// another name. What it prints is shown in its window.
type process struct {
	words string // the command, as typed
	cmd   *exec.Cmd
	out   *os.File // what it and its children print

	news chan struct{} // holds a token when there is more in lines
	gone chan struct{} // closed when it is reaped and nobody prints any more
	err  error         // how it ended; to be read once gone is closed

	mu       sync.Mutex // guards the fields below
	lines    []string   // printed, and not seen by await
	last     string     // the last line that was not empty
	stopping bool       // it may end, with any status
}

// start types a command in w.
func (t *tutorial) start(w window, words string) (*process, error) {
	t.screen.command(w, words)
	r, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	args := strings.Fields(words)
	cmd := exec.Command("/proc/self/exe", args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = t.env
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C is for the tutorial, which knows in what order to end
		Pdeathsig: syscall.SIGTERM, // should it be killed; run keeps the thread
	}
	err = cmd.Start()
	out.Close()
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("start %q: %w", words, err)
	}
	p := &process{
		words: words, cmd: cmd, out: r,
		news: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	t.started = append(t.started, p)
	go p.follow(func(line string) { t.screen.line(w, line) }, t.fail)
	return p, nil
}

// follow shows what p prints until p has ended. It calls fail if p ends and stop was
// not called. It is p's only goroutine, and stop waits for it.
func (p *process) follow(show func(string), fail context.CancelCauseFunc) {
	defer close(p.gone)
	r := bufio.NewReader(p.out)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			p.printed(strings.TrimSuffix(line, "\n"), show)
		}
		if err != nil { // the end of the output, or stop has waited long enough
			break
		}
	}
	p.out.Close()
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		return
	}
	p.err = fmt.Errorf("%q ended with %w", p.words, err)
	if p.last != "" {
		p.err = fmt.Errorf("%w: %s", p.err, p.last)
	}
	if !p.stopping {
		fail(p.err)
	}
}

// printed takes a line, and shows it before await can see it.
func (p *process) printed(line string, show func(string)) {
	show(line)
	p.mu.Lock()
	p.lines = append(p.lines, line)
	if line != "" {
		p.last = line
	}
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// pid returns the process id.
func (p *process) pid() int { return p.cmd.Process.Pid }

// await waits until p prints a line that contains text, and returns it. A line
// is seen by one await only, and so is all that was printed before it.
func (p *process) await(ctx context.Context, limit time.Duration, text string) (string, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		if line, ok := p.saw(text); ok {
			return line, nil
		}
		select {
		case <-p.news:
		case <-p.gone:
			if line, ok := p.saw(text); ok {
				return line, nil
			}
			return "", fmt.Errorf("%q ended and never printed %q", p.words, text)
		case <-timer.C:
			return "", fmt.Errorf("waited %v in vain for %q to print %q", limit, p.words, text)
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// saw takes lines until one contains text.
func (p *process) saw(text string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, line := range p.lines {
		if strings.Contains(line, text) {
			p.lines = p.lines[i+1:]
			return line, true
		}
	}
	return "", false
}

// wait waits until p has ended by itself, with status 0.
func (p *process) wait(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.gone:
		return p.err
	case <-timer.C:
		return fmt.Errorf("waited %v in vain for %q to end", limit, p.words)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends p, by SIGTERM if that is enough, and waits until it has gone. It is no
// error if p has ended already.
func (p *process) stop() error {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	select {
	case <-p.gone:
		return nil
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	patience := time.AfterFunc(stopTime, func() { _ = p.cmd.Process.Kill() })
	defer patience.Stop()
	// Its children print too. They end when it does.
	hopeless := time.AfterFunc(stopTime+time.Second, func() { p.out.Close() })
	defer hopeless.Stop()
	<-p.gone
	return p.err
}
