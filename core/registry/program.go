package registry

import (
	"fmt"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/view"
)

// Program is a program, or an IPCP, whose instances accept for a name as soon
// as they run: those of UID.
type Program struct {
	Name string
	Path string // of the program, the last symlink kept; empty for an IPCP
	IPCP string // the IPCP's name; empty for a program

	UID    int
	Groups []int // of who bound it, the main one first

	// Auto makes the IRM start an instance, with Args, where nobody accepts.
	Auto bool
	Args []string

	// Running counts the instances that the IRM has started.
	Running int
	// Failures counts those in a row that ended before they listened; until
	// NotBefore no other is started.
	Failures  int
	NotBefore time.Time
}

// What is the word for p: the program's path, or the IPCP.
func (p *Program) What() string {
	if p.IPCP != "" {
		return "IPCP " + p.IPCP
	}
	return "program " + p.Path
}

// covers reports whether q is an instance of p.
func (r *Registry) covers(p *Program, q *Process) bool {
	if p.IPCP != "" {
		i := r.ipcps[p.IPCP]
		return i != nil && i.PID == q.PID
	}
	return q.UID == p.UID && q.Path == p.Path
}

// BindProgram lets the instances of p accept for its name, from now on and
// those that run. It reports whether that was not so before; with other Auto
// or Args it is core.ErrExists.
func (r *Registry) BindProgram(p *Program) (bound bool, err error) {
	b := r.bindings[p.Name]
	if b == nil {
		b = &Binding{Name: p.Name, UID: p.UID}
		r.bindings[p.Name] = b
	} else if !b.Held() {
		b.UID = p.UID
	}
	for _, q := range b.programs {
		if q.Path != p.Path || q.IPCP != p.IPCP || q.UID != p.UID {
			continue
		}
		if q.Auto != p.Auto || !slices.Equal(q.Args, p.Args) {
			return false, fmt.Errorf("%w: %s is bound to %q with other arguments, or without auto; unbind it first", core.ErrExists, p.What(), p.Name)
		}
		return false, nil
	}
	b.programs = append(b.programs, p)
	r.programChanged("program.bound", p)
	for _, q := range r.procs {
		if !q.Gone && r.covers(p, q) {
			r.bindInstance(p.Name, q)
		}
	}
	return true, nil
}

// BindInstances binds q, which is new, to the names of the programs that it is
// an instance of.
func (r *Registry) BindInstances(q *Process) {
	for name, b := range r.bindings {
		if slices.ContainsFunc(b.programs, func(p *Program) bool { return r.covers(p, q) }) {
			r.bindInstance(name, q)
		}
	}
}

// BindInstance binds q, which the IRM has started for p, whatever path it
// says it has.
func (r *Registry) BindInstance(p *Program, q *Process) {
	if b := r.bindings[p.Name]; b != nil && slices.Contains(b.programs, p) && q.UID == p.UID {
		if !r.fault("an instance is not bound under another path") {
			r.tie(p.Name, q).started = p
		}
	}
}

func (r *Registry) bindInstance(name string, q *Process) {
	r.tie(name, q).program = true
}

// UnbindProgram takes back what BindProgram did, also for the instances that
// run.
func (r *Registry) UnbindProgram(p *Program) {
	b := r.bindings[p.Name]
	b.programs = slices.DeleteFunc(b.programs, func(q *Program) bool { return q == p })
	r.programChanged("program.unbound", p)
	for _, q := range slices.Clone(b.procs) {
		why := q.bound[p.Name]
		why.program = slices.ContainsFunc(b.programs, func(o *Program) bool { return r.covers(o, q) })
		if why.started == p {
			why.started = nil
		}
		if !why.any() {
			r.drop(p.Name, q)
		}
	}
	r.prune(b)
}

func (r *Registry) programChanged(event string, p *Program) {
	if r.Changed != nil {
		r.Changed(view.Event{Event: event, Name: p.Name, Program: p.Path, IPCP: p.IPCP})
	}
}

// ProgramChanged tells of an instance that the IRM has started or seen end.
func (r *Registry) ProgramChanged(event string, p *Program, pid int) {
	r.changed(view.Event{Event: event, Name: p.Name, Program: p.Path, PID: pid})
}

// Programs returns the programs bound to b's name, in the order bound.
func (b *Binding) Programs() []*Program {
	if b == nil {
		return nil
	}
	return b.programs
}

// Startable returns the program bound to b's name whose turn it is to be
// started at the time now, and moves it to the end of the row; nil where none
// is to be started.
func (b *Binding) Startable(now time.Time, most int) *Program {
	for i, p := range b.Programs() {
		if p.Auto && !now.Before(p.NotBefore) && p.Running < most {
			b.programs = append(slices.Delete(b.programs, i, i+1), p)
			return p
		}
	}
	return nil
}

// Held reports whether something is bound to b's name: then its UID holds it.
func (b *Binding) Held() bool { return b != nil && len(b.procs)+len(b.programs) > 0 }

// prune forgets b if nothing is left of it.
func (r *Registry) prune(b *Binding) {
	if len(b.procs)+len(b.programs)+len(b.waiting) == 0 && r.bindings[b.Name] == b {
		delete(r.bindings, b.Name)
	}
}
