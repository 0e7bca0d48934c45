package irmd

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"o7s/core/irm"
	"o7s/core/logs"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// maxWhy bounds what a helper says of its failure, in bytes: it is a process of a user.
const maxWhy = 1 << 10

// starter starts programs as the users who bound them. It is irm.Starter.
type starter struct {
	dir     string // the runtime directory
	log     *logs.Logger
	helpers *helpers

	mu    sync.Mutex // guards lines
	lines map[int]*allowance
}

// linesOf returns what the programs of uid may print.
func (s *starter) linesOf(uid int) *allowance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = make(map[int]*allowance)
	}
	if s.lines[uid] == nil {
		s.lines[uid] = newAllowance()
	}
	return s.lines[uid]
}

// Start implements irm.Starter.
func (s *starter) Start(p irm.Program, runs func(), died func(error)) (irm.Instance, error) {
	// None of irmd's own descriptors: the program may be another user's. What it
	// prints comes by a pipe of its own.
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	h, err := s.helpers.start(account{p.UID, p.Groups}, environment(p.UID, s.dir), in, append([]string{"run", p.Path}, p.Args...)...)
	if err != nil {
		out.Close()
		return nil, err
	}
	r := &running{helper: h}
	label := filepath.Base(p.Path)
	print := &printed{log: s.log, label: label[:min(len(label), maxLabel)], pid: r.PID(), lines: s.linesOf(p.UID)}
	read := make(chan struct{})
	go func() {
		print.follow(out)
		close(read)
	}()
	go func() {
		why, err := h.await()
		switch {
		case err != nil:
			died(err)
		case why != "":
			died(errors.New(why[:min(len(why), maxWhy)]))
		default:
			r.runs.Store(true)
			runs()
			err := h.reap()
			if err == nil {
				err = errors.New("exit status 0")
			}
			_ = out.SetReadDeadline(time.Now().Add(lastWords))
			<-read
			died(err)
			return
		}
		_ = h.reap()
		_ = out.SetReadDeadline(time.Now())
	}()
	return r, nil
}

// environment returns the environment of a program of uid: what a login sets,
// and the runtime directory of this irmd.
func environment(uid int, dir string) []string {
	env := []string{"O7S_RUNTIME_DIR=" + dir}
	for _, k := range []string{"PATH", "LANG", "TZ", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		env = append(env, "HOME="+u.HomeDir, "USER="+u.Username, "LOGNAME="+u.Username)
	}
	return env
}

// running is a program that is started, or runs. It is irm.Instance.
type running struct {
	*helper
	runs atomic.Bool // the program: the helper has become it
}

// PID implements irm.Instance.
func (r *running) PID() int { return r.cmd.Process.Pid }

// Alive implements irm.Instance.
func (r *running) Alive() bool { return r.alive() }

// Stop implements irm.Instance.
func (r *running) Stop() {
	if r.runs.Load() {
		r.signal(syscall.SIGTERM)
	} else {
		r.signal(syscall.SIGKILL)
	}
	t := time.AfterFunc(stopTime, func() { r.signal(syscall.SIGKILL) })
	defer t.Stop()
	select {
	case <-r.done:
	case <-time.After(stopTime + killTime): // it waits for a file system that hangs
	}
}

// programOf returns the program of a request that came by l to bind or unbind it. Beside
// an error its path is as the request has it.
func (d *daemon) programOf(l *rpc.Link, r *irmctl.ProgramReq) (irm.Program, error) {
	p := irm.Program{Name: r.Name, Path: r.Path, IPCP: r.IPCP, Auto: r.Auto, Args: r.Args}
	if r.Path == "" {
		return p, nil
	}
	at, err := d.helpers.place(accountOf(l.Peer()), r.Path)
	if err != nil {
		return p, fmt.Errorf("find %s: %w", r.Path, err)
	}
	if at.canonical != "" {
		p.Path = at.canonical
	}
	return p, nil
}
