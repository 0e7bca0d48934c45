package irm

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/registry"
)

// Starter starts programs.
type Starter interface {
	// Start starts an instance of p as the user who bound it. died is called
	// once, when it has ended and is reaped, not before Start has returned.
	Start(p *registry.Program, died func(error)) (Instance, error)
}

// Instance is a process that a Starter has started.
type Instance interface {
	PID() int
	// Stop ends it, and those that it has started in its group, and returns
	// when it is reaped.
	Stop()
}

// instance is a process that this IRM has started.
type instance struct {
	program *registry.Program
	run     Instance
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

// BindProgram lets the instances of p, of c's uid, accept for its name, those
// that run included. With Auto, one is started at once when nobody accepts.
func (m *Manager) BindProgram(c Caller, p *registry.Program) error {
	if err := core.CheckName(p.Name); err != nil {
		return err
	}
	if p.IPCP == "" && !filepath.IsAbs(p.Path) {
		return fmt.Errorf("%w: %q is no absolute path of a program", core.ErrUsage, p.Path)
	}
	size := 0
	for _, a := range p.Args {
		size += len(a)
	}
	if len(p.Args) > maxArgs || size > maxArgBytes || len(p.Path) > maxArgBytes {
		return fmt.Errorf("%w: a program has at most %d arguments of %d bytes in all", core.ErrUsage, maxArgs, maxArgBytes)
	}
	p.UID, p.Groups = c.UID, c.Groups
	m.mu.Lock()
	err := m.mayHoldLocked(c, p.Name)
	switch i := m.reg.IPCP(p.IPCP); {
	case err != nil || p.IPCP == "":
	case i == nil:
		err = fmt.Errorf("%w: no IPCP is called %q: \"irm ipcp list\" shows them", core.ErrNotFound, p.IPCP)
	default:
		err = m.mayAdmin(c)
	}
	if err == nil && p.Auto && m.cfg.Starter == nil {
		err = fmt.Errorf("%w: this IRM starts no programs", core.ErrNotSupported)
	}
	if err == nil && p.Auto && m.cfg.UID != 0 && c.UID != m.cfg.UID {
		err = fmt.Errorf("%w: an IRMd of uid %d starts no programs of uid %d", core.ErrPermission, m.cfg.UID, c.UID)
	}
	bound := false
	if err == nil {
		bound, err = m.reg.BindProgram(p)
	}
	m.mu.Unlock()
	if err == nil && bound {
		m.log.Infof("Bound %s to name %s.", p.What(), p.Name)
		m.match(p.Name)
		m.wake(p.Name)
	}
	return err
}

// UnbindProgram takes back what BindProgram did with the program at path, or
// with the IPCP called ipcp; for all names where name is "". The instances that
// run go on.
func (m *Manager) UnbindProgram(c Caller, path, ipcp, name string) error {
	what := (&registry.Program{Path: path, IPCP: ipcp}).What()
	m.mu.Lock()
	var found []*registry.Program
	others := -1 // the uid of somebody else who has bound it
	for n, b := range m.reg.Bindings() {
		for _, p := range b.Programs() {
			if p.Path != path || p.IPCP != ipcp || name != "" && n != name {
				continue
			}
			if p.UID == c.UID || m.mayAdmin(c) == nil {
				found = append(found, p)
			} else {
				others = p.UID
			}
		}
	}
	slices.SortFunc(found, func(a, b *registry.Program) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	for _, p := range found {
		m.reg.UnbindProgram(p)
	}
	m.mu.Unlock()
	switch {
	case len(found) == 0 && others >= 0:
		return fmt.Errorf("%w for uid %d: uid %d has bound %s, so that uid or an administrator may do this", core.ErrPermission, c.UID, others, what)
	case len(found) == 0 && name != "":
		return fmt.Errorf("%w: %s is not bound to %q: \"irm name show %s\" tells what is", core.ErrNotFound, what, name, logs.Word(name))
	case len(found) == 0:
		return fmt.Errorf("%w: %s is bound to no name: \"irm status\" shows what is", core.ErrNotFound, what)
	}
	for _, p := range found {
		m.log.Infof("Unbound %s from name %s.", p.What(), p.Name)
		m.strand(p.Name)
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
	m.reg.BindInstances(p)
	if i := m.instances[p.PID]; i != nil && i.program.UID == p.UID {
		p.Auto = true
		i.proc = p
		m.reg.BindInstance(i.program, p)
	}
}

// mayServeLocked returns why no flow to name can be served, not even later.
func (m *Manager) mayServeLocked(name string) error {
	b := m.reg.Binding(name)
	if len(b.Processes()) > 0 || m.startingLocked(name) > 0 {
		return nil
	}
	for _, p := range b.Programs() {
		switch {
		case p.Auto && time.Now().Before(p.NotBefore):
			return fmt.Errorf("%w: %s, which is bound to %q, ended before it listened and is not started again for %v; IRMd's log tells how it ended", core.ErrNotAllocated, p.What(), name, time.Until(p.NotBefore).Round(time.Second))
		case p.Auto:
			return nil
		}
	}
	return noProcess(name)
}

// startingLocked counts the instances for name that run and don't listen yet.
// One whose program is bound no more does not come for name.
func (m *Manager) startingLocked(name string) int {
	n, programs := 0, m.reg.Binding(name).Programs()
	for _, i := range m.instances {
		if slices.Contains(programs, i.program) && (i.proc == nil || !i.proc.Listened) {
			n++
		}
	}
	return n
}

// wake starts an instance where flows wait for name and nobody accepts. One at
// a time: it may take all that wait.
func (m *Manager) wake(name string) {
	m.mu.Lock()
	b := m.reg.Binding(name)
	var p *registry.Program
	if b.Waiting() > 0 && !m.stopping && m.startingLocked(name) == 0 {
		p = b.Startable(time.Now(), maxInstances)
	}
	if p == nil {
		m.mu.Unlock()
		return
	}
	p.Running++
	i := &instance{program: p}
	m.starts++
	key := -m.starts // until it has a pid
	m.instances[key] = i
	m.mu.Unlock()

	started := make(chan struct{})
	run, err := m.cfg.Starter.Start(p, func(err error) {
		<-started
		m.instanceDied(i, err)
	})
	m.mu.Lock()
	delete(m.instances, key)
	if err == nil {
		i.run = run
		m.instances[run.PID()] = i
		// It may have been faster.
		if q := m.reg.Process(run.PID()); q != nil && !q.Gone && q.UID == p.UID {
			m.announcedLocked(q)
		}
		m.reg.ProgramChanged("program.started", p, run.PID())
	} else {
		p.Running--
		p.Failures++
		p.NotBefore = time.Now().Add(pause(p.Failures))
	}
	stopping := m.stopping
	m.mu.Unlock()
	close(started)
	if err != nil {
		m.log.Errorf("Failed to start %s for %s: %v: not tried again for %v.", p.What(), name, err, pause(p.Failures))
		m.strand(name)
		return
	}
	m.log.Infof("Started %s for %s as process %d.", p.What(), name, run.PID())
	m.match(name)
	if stopping { // Stop has not seen this one
		run.Stop()
	}
}

func pause(failures int) time.Duration {
	return min(firstPause<<min(failures-1, 10), maxPause)
}

// instanceDied is the Starter's word that an instance has ended. One that has
// never listened counts as a failure: it is not started again at once.
func (m *Manager) instanceDied(i *instance, err error) {
	p := i.program
	m.mu.Lock()
	delete(m.instances, i.run.PID())
	p.Running--
	failed := i.proc == nil || !i.proc.Listened
	if failed {
		p.Failures++
		p.NotBefore = time.Now().Add(pause(p.Failures))
	} else {
		p.Failures = 0
	}
	failures, stopping := p.Failures, m.stopping
	m.reg.ProgramChanged("program.ended", p, i.run.PID())
	m.mu.Unlock()
	switch {
	case stopping:
		return
	case failed:
		m.log.Errorf("Process %d of %s ended before it listened (%v): not started again for %v.", i.run.PID(), p.What(), err, pause(failures))
	default:
		m.log.Infof("Process %d of %s ended (%v).", i.run.PID(), p.What(), err)
	}
	m.strand(p.Name)
}
