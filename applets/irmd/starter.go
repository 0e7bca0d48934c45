package irmd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"o7s/core/irm"
	"o7s/core/logs"
	"o7s/core/registry"
	"o7s/ipc/irmctl"
)

// starter starts programs as the users who bound them. It is irm.Starter.
type starter struct {
	dir   string // the runtime directory
	log   *logs.Logger
	calls chan func()
}

// newStarter returns a starter. One thread starts all programs and lives as long
// as irmd: when that thread ends, also because irmd was killed, the kernel
// sends SIGTERM to the programs.
func newStarter(dir string, log *logs.Logger) *starter {
	s := &starter{dir: dir, log: log, calls: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range s.calls {
			f()
		}
	}()
	return s
}

// Start implements irm.Starter.
func (s *starter) Start(p *registry.Program, died func(error)) (irm.Instance, error) {
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir = "/"
	cmd.Env = environment(p.UID, s.dir)
	// A group of its own: Ctrl-C is for the irmd.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() == 0 {
		cred, err := credential(p)
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr.Credential = cred
	}
	// None of irmd's own descriptors: the program may be another user's. What it
	// prints comes by a pipe of its own.
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = errors.New("not started")
	done := make(chan struct{})
	s.calls <- func() {
		err = cmd.Start()
		close(done)
	}
	<-done
	in.Close()
	if err != nil {
		out.Close()
		return nil, err
	}
	r := &running{cmd: cmd, done: make(chan struct{})}
	label := filepath.Base(p.Path)
	print := &printed{log: s.log, label: label[:min(len(label), maxLabel)], pid: cmd.Process.Pid}
	read := make(chan struct{})
	go func() {
		print.follow(out)
		close(read)
	}()
	go func() {
		err := cmd.Wait()
		if err == nil {
			err = errors.New("exit status 0")
		}
		// The program's own children are of no use without it.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = out.SetReadDeadline(time.Now().Add(lastWords))
		<-read
		died(err)
		close(r.done)
	}()
	return r, nil
}

// credential returns the uid and groups to run p with: those of the process that
// bound it, as the kernel told them.
func credential(p *registry.Program) (*syscall.Credential, error) {
	if len(p.Groups) == 0 || p.UID < 0 {
		return nil, fmt.Errorf("the groups of uid %d are not known", p.UID)
	}
	c := &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.Groups[0])}
	for _, g := range p.Groups[1:] {
		c.Groups = append(c.Groups, uint32(g))
	}
	// Root of a user namespace may not set groups, and need not where they
	// are its own.
	own, err := os.Getgroups()
	c.NoSetGroups = err == nil && slices.Equal(own, p.Groups[1:])
	return c, nil
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

// running is a program that runs. It is irm.Instance.
type running struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it is reaped
}

// PID implements irm.Instance.
func (r *running) PID() int { return r.cmd.Process.Pid }

// Stop implements irm.Instance.
func (r *running) Stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	t := time.AfterFunc(stopTime, func() { _ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) })
	defer t.Stop()
	<-r.done
}

// programOf returns the program of a request to bind.
func programOf(r *irmctl.ProgramReq) *registry.Program {
	return &registry.Program{Name: r.Name, Path: canonical(r.Path), IPCP: r.IPCP, Auto: r.Auto, Args: r.Args}
}
