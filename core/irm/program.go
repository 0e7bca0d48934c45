package irm

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/registry"
)

// Starter starts programs.
type Starter interface {
	// Start starts an instance of p as the user who bound it. It does not wait
	// for the file of the program, which may never answer. runs is called once
	// the program runs. died is called once, last: the instance has ended, or, if
	// runs was not called, its program could not be run. Neither is called before
	// Start has returned.
	Start(p Program, runs func(), died func(error)) (Instance, error)
}

// Instance is a process that a Starter has started.
type Instance interface {
	PID() int
	// Alive reports whether it has the number PID still. Once it has ended,
	// another process may get that number.
	Alive() bool
	// Stop ends it, and those that it has started in its group, and returns
	// when it is reaped, or can't be.
	Stop()
}

// instance is a process that this IRM has started.
type instance struct {
	program *registry.BoundProgram
	run     Instance
	runs    bool              // the program, not only what starts it
	proc    *registry.Process // once it uses flows
}

// The bounds on programs.
const (
	maxArgs      = 64
	maxArgBytes  = 4096
	maxInstances = 64 // of one program, started by the IRM

	firstPause = time.Second // after an instance that ended before it listened
	maxPause   = time.Minute
)

// BindProgram lets the instances of p, of c's uid, accept flows for p.Name, those that
// run included. With Auto, the IRM starts one where flows wait and no process accepts.
func (m *Manager) BindProgram(c Caller, p Program) error {
	if err := checkProgram(p); err != nil {
		return err
	}
	p = p.By(c.UID, c.Groups, m.Administers(c))
	var err error
	m.decide(func() { err = m.bindProgramLocked(c, p) })
	return err
}

func checkProgram(p Program) error {
	if err := core.CheckName(p.Name); err != nil {
		return err
	}
	if p.IPCP == "" && !filepath.IsAbs(p.Path) {
		return fmt.Errorf("%w: %q is no absolute path of a program", core.ErrUsage, p.Path)
	}
	if len(p.Path) > maxArgBytes {
		return fmt.Errorf("%w: the path of a program has at most %d bytes, and this one %d", core.ErrUsage, maxArgBytes, len(p.Path))
	}
	size := 0
	for _, a := range p.Args {
		size += len(a)
	}
	if len(p.Args) > maxArgs || size > maxArgBytes {
		return fmt.Errorf("%w: a program has at most %d arguments of %d bytes in all", core.ErrUsage, maxArgs, maxArgBytes)
	}
	return nil
}

func (m *Manager) bindProgramLocked(c Caller, p Program) error {
	if err := m.mayHoldLocked(c, p.Name); err != nil {
		return err
	}
	if p.IPCP != "" {
		if m.reg.IPCP(p.IPCP) == nil {
			return errNoIPCP(p.IPCP)
		}
		if err := m.mayAdmin(c); err != nil {
			return err
		}
	}
	if p.Auto && m.cfg.Starter == nil {
		return fmt.Errorf("%w: this IRM starts no programs", core.ErrNotSupported)
	}
	if p.Auto && m.cfg.UID != 0 && c.UID != m.cfg.UID {
		return fmt.Errorf("%w: an IRMd of uid %d starts no programs of uid %d", core.ErrPermission, m.cfg.UID, c.UID)
	}
	bound, err := m.reg.BindProgram(p)
	if bound {
		what := p.What()
		if i := m.reg.IPCP(p.IPCP); i != nil {
			what = fmt.Sprintf("process %d", i.PID)
		}
		m.infoLocked("Bound %s to name %s.", what, p.Name)
		m.matchLocked(p.Name)
		m.wakeLocked(p.Name)
	}
	return err
}

// UnbindProgram takes back what BindProgram did with the program at path, or
// with the IPCP called ipcp; for all names where name is "". The instances that
// run go on.
func (m *Manager) UnbindProgram(c Caller, path, ipcp, name string) (err error) {
	m.decide(func() { err = m.unbindProgramLocked(c, path, ipcp, name) })
	return err
}

func (m *Manager) unbindProgramLocked(c Caller, path, ipcp, name string) error {
	what := Program{Path: path, IPCP: ipcp}.What()
	var found []*registry.BoundProgram
	others := -1 // the uid of another user who has bound it; -1: none
	admin := m.Administers(c)
	for _, p := range m.reg.ProgramsOf(path, ipcp) {
		if name != "" && p.Name != name {
			continue
		}
		switch {
		case p.UID == c.UID || admin || m.fault("anybody unbinds anybody's programs"):
			found = append(found, p)
		default:
			others = p.UID
		}
	}
	switch {
	case len(found) == 0 && others >= 0:
		return fmt.Errorf("%w for uid %d: uid %d has bound %s, so that uid or an administrator may do this", core.ErrPermission, c.UID, others, what)
	case len(found) == 0 && name != "":
		return fmt.Errorf("%w: %s is not bound to %q: \"irm name show %s\" tells what is", core.ErrNotFound, what, name, logs.Word(name))
	case len(found) == 0:
		return fmt.Errorf("%w: %s is bound to no name: \"irm status\" shows what is", core.ErrNotFound, what)
	}
	slices.SortFunc(found, func(a, b *registry.BoundProgram) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range found {
		m.reg.UnbindProgram(p)
	}
	for _, p := range found {
		m.infoLocked("Unbound %s from name %s.", p.What(), p.Name)
		m.refuseWaitingLocked(p.Name)
	}
	return nil
}

// mayHoldLocked returns core.ErrPermission where another uid than c's holds the
// name and c is no administrator.
func (m *Manager) mayHoldLocked(c Caller, name string) error {
	if b := m.reg.Binding(name); b.Held() && b.UID != c.UID && m.mayAdmin(c) != nil {
		return fmt.Errorf("%w for uid %d: uid %d holds the name %q, so that uid or an administrator may do this", core.ErrPermission, c.UID, b.UID, name)
	}
	return nil
}

// announcedLocked binds the new process p to the names of its program.
func (m *Manager) announcedLocked(p *registry.Process) {
	err := m.reg.BindInstances(p)
	defer func() {
		if err != nil {
			m.errorLocked("Process %d is not bound to all names of its program: %v.", p.PID, err)
		}
	}()
	if p.PID <= 0 {
		return // it is in another PID namespace, so it is no child of irmd's
	}
	if i := m.instances[p.PID]; i != nil && i.program.UID == p.UID && i.run.Alive() {
		m.runsLocked(i) // what announces itself runs
		p.Start()
		i.proc = p
		err = cmp.Or(err, m.reg.BindInstance(i.program, p))
	}
}

// mayServeLocked returns why no flow to name can be served, not even later.
func (m *Manager) mayServeLocked(name string) error {
	b := m.reg.Binding(name)
	if len(b.Processes()) > 0 || m.startingLocked(name) > 0 {
		return nil
	}
	var paused *registry.BoundProgram // the first one
	for _, p := range b.Programs() {
		switch {
		case !p.Auto:
		case !time.Now().Before(p.NotBefore):
			return nil
		case paused == nil:
			paused = p
		}
	}
	if paused != nil {
		pause := max(time.Until(paused.NotBefore).Round(time.Second), time.Second)
		return fmt.Errorf("%w: %s, which is bound to %q, ended before it listened and is not started again for %v; the log of the IRMd tells how it ended", core.ErrNotAllocated, paused.What(), name, pause)
	}
	for _, p := range b.Programs() {
		if p.IPCP != "" {
			return fmt.Errorf("%w: no process accepts for %q: IPCP %q, which is bound to it, does not run or is in no layer yet; \"irm ipcp list\" shows that", core.ErrNotAllocated, name, p.IPCP)
		}
	}
	if i := m.reg.IPCP(name); i != nil && i.Type.Does.Can(ipcp.Connects) {
		return fmt.Errorf("%w: no process is bound to %q; bind the IPCP: irm bind ipcp %[3]s name %[3]s", core.ErrNotAllocated, name, logs.Word(name))
	}
	return noProcess(name)
}

// startingLocked counts the instances for name that start, or run and don't listen yet.
// An instance whose program is no longer bound does not come for name.
func (m *Manager) startingLocked(name string) int {
	n := 0
	for _, i := range m.instances {
		if i.program.Name == name && i.program.Bound() && (i.proc == nil || !i.proc.Listened) {
			n++
		}
	}
	return n
}

// wakeLocked starts an instance where flows wait for name and nobody accepts. One
// at a time: it may take all that wait.
func (m *Manager) wakeLocked(name string) {
	b := m.reg.Binding(name)
	if b.Waiting() == 0 || m.stopping || m.startingLocked(name) > 0 {
		return
	}
	p := b.Startable(time.Now(), maxInstances)
	if p == nil {
		return
	}
	p.Starts()
	i := &instance{program: p}
	if err := m.reg.Take(p.Owner(), registry.Started, 1); err != nil {
		m.notStartedLocked(i, err)
		return
	}
	m.starts++
	key := -m.starts // until it has a pid
	m.instances[key] = i
	m.laterLocked(func() { m.start(i, key) })
}

// start starts the process of i, which the table knows by key.
func (m *Manager) start(i *instance, key int) {
	begun := make(chan struct{})
	run, err := m.cfg.Starter.Start(i.program.Program, func() {
		<-begun
		m.decide(func() { m.runsLocked(i) })
	}, func(err error) {
		<-begun
		m.decide(func() { m.endedLocked(i, err) })
	})
	var stopping bool
	m.decide(func() {
		delete(m.instances, key)
		if stopping = m.stopping; err != nil {
			m.reg.Give(i.program.Owner(), registry.Started, 1)
			m.notStartedLocked(i, err)
			return
		}
		i.run = run
		m.instances[run.PID()] = i
		// It may have been faster.
		if q := m.reg.Process(run.PID()); q != nil && !q.Gone {
			m.announcedLocked(q)
			m.matchLocked(i.program.Name)
		}
	})
	close(begun)
	if err == nil && stopping { // Stop has not seen this one
		run.Stop()
	}
}

// runsLocked notes that the program of i runs.
func (m *Manager) runsLocked(i *instance) {
	if i.runs || m.stopping {
		return
	}
	i.runs = true
	p, pid := i.program, i.run.PID()
	m.reg.ProgramChanged("program.started", p, pid)
	m.infoLocked("Started %s for %s as process %d.", p.What(), p.Name, pid)
}

// notStartedLocked notes that no program runs for i, and why.
func (m *Manager) notStartedLocked(i *instance, err error) {
	p := i.program
	p.Ends()
	wait := failed(p)
	if m.stopping {
		return
	}
	m.errorLocked("Failed to start %s for %s: %v: not tried again for %v.", p.What(), p.Name, err, wait)
	m.refuseWaitingLocked(p.Name)
}

// failed notes that an instance of p has failed, and returns how long no other one
// is started.
func failed(p *registry.BoundProgram) time.Duration {
	wait := min(firstPause<<min(p.Failures, 10), maxPause)
	p.Failed(time.Now().Add(wait))
	return wait
}

// endedLocked goes on when the Starter has seen an instance end. An instance that has
// never listened counts as a failure: it is not started again at once.
func (m *Manager) endedLocked(i *instance, err error) {
	p, pid := i.program, i.run.PID()
	if m.instances[pid] == i { // else another process has the number already
		delete(m.instances, pid)
	}
	m.reg.Give(p.Owner(), registry.Started, 1)
	if !i.runs {
		m.notStartedLocked(i, err)
		return
	}
	if !m.fault("an instance is counted when it has ended") {
		p.Ends()
	}
	listened := i.proc != nil && i.proc.Listened
	var wait time.Duration
	if listened {
		p.Succeeded()
	} else {
		wait = failed(p)
	}
	m.reg.ProgramChanged("program.ended", p, pid)
	switch {
	case m.stopping:
		return
	case listened:
		m.infoLocked("Process %d of %s ended (%v).", pid, p.What(), err)
	default:
		m.errorLocked("Process %d of %s ended before it listened (%v): not started again for %v.", pid, p.What(), err, wait)
	}
	m.refuseWaitingLocked(p.Name)
}
