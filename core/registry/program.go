package registry

import (
	"cmp"
	"fmt"
	"maps"
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
	Admin  bool  // an administrator has bound it
	Groups []int // of the user who bound it, the main one first

	// Auto makes the IRM start an instance, with Args, where nobody accepts.
	Auto bool
	Args []string
}

// BoundProgram is a Program that is bound to its name, and its instances.
type BoundProgram struct {
	Program

	// Running counts the instances that the IRM has started.
	Running int
	// Failures counts those in a row that ended before they listened; until
	// NotBefore no other is started.
	Failures  int
	NotBefore time.Time

	bound bool
}

// programKey is what programs are looked for by: the path, or the name of the IPCP.
type programKey struct{ path, ipcp string }

// By returns p as bound by a user.
func (p Program) By(uid int, groups []int, admin bool) Program {
	p.UID, p.Groups, p.Admin = uid, groups, admin
	return p
}

// Starts counts an instance that the IRM starts, Ends an instance that has ended.
func (p *BoundProgram) Starts() { p.Running++ }

// Ends implements the other half of Starts.
func (p *BoundProgram) Ends() { p.Running-- }

// Failed notes that one more instance ended before it listened: no other is started
// before the time until.
func (p *BoundProgram) Failed(until time.Time) {
	p.Failures++
	p.NotBefore = until
}

// Succeeded notes that an instance has listened.
func (p *BoundProgram) Succeeded() { p.Failures = 0 }

// Bound reports whether p is bound to its name.
func (p *BoundProgram) Bound() bool { return p.bound }

// ProgramsOf returns the programs at path, or of the IPCP of that name, that are
// bound to any name, in no order.
func (r *Registry) ProgramsOf(path, ipcp string) []*BoundProgram {
	return slices.Collect(maps.Keys(r.programs[programKey{path, ipcp}]))
}

// What is the word for p: the program's path, or the IPCP.
func (p Program) What() string {
	if p.IPCP != "" {
		return "IPCP " + p.IPCP
	}
	return "program " + p.Path
}

// Owner returns whose p is.
func (p Program) Owner() Owner { return Owner{p.UID, p.Admin} }

// size is what p takes, in bytes.
func (p *Program) size() int {
	n := len(p.Name) + len(p.Path)
	for _, a := range p.Args {
		n += len(a) + 16 // and its header
	}
	return n
}

// takeProgram counts p.
func (r *Registry) takeProgram(p *BoundProgram) error {
	if err := r.Take(p.Owner(), ProgramBytes, p.size()); err != nil {
		return err
	}
	err := r.Take(p.Owner(), Bindings, 1)
	if err != nil {
		r.Give(p.Owner(), ProgramBytes, p.size())
	}
	return err
}

// covers reports whether q is an instance of p.
func (r *Registry) covers(p *BoundProgram, q *Process) bool {
	if p.IPCP != "" {
		i := r.ipcps[p.IPCP]
		return i != nil && i.PID == q.PID
	}
	return q.UID == p.UID && q.Path == p.Path
}

// BindProgram lets the instances of program accept for its name, from now on and
// those that run. It reports whether that was not so before; with other Auto
// or Args it is core.ErrExists. An error beside true is of instances that run and
// can't be bound.
func (r *Registry) BindProgram(program Program) (bound bool, err error) {
	p := &BoundProgram{Program: program}
	b := r.bindings[p.Name]
	for _, q := range b.Programs() {
		if q.Path != p.Path || q.IPCP != p.IPCP || q.UID != p.UID {
			continue
		}
		if q.Auto != p.Auto || !slices.Equal(q.Args, p.Args) {
			return false, fmt.Errorf("%w: %s is bound to %q with other arguments, or without auto; unbind it first", core.ErrExists, p.What(), p.Name)
		}
		return false, nil
	}
	if err := r.takeProgram(p); err != nil {
		return false, err
	}
	if b == nil {
		b = &Binding{Name: p.Name}
		r.bindings[p.Name] = b
	}
	if !b.Held() {
		b.UID = p.UID
	}
	b.programs = append(b.programs, p)
	p.bound = true
	key := programKey{p.Path, p.IPCP}
	if r.programs[key] == nil {
		r.programs[key] = make(map[*BoundProgram]bool)
	}
	r.programs[key][p] = true
	r.programChanged("program.bound", p)
	for _, q := range r.procs {
		if !q.Gone && r.covers(p, q) {
			err = cmp.Or(err, r.bindInstance(p.Name, q))
		}
	}
	return true, err
}

// BindInstances binds q, which is new, to the names of the programs that it is
// an instance of. The error is of the first name that it can't be bound to.
func (r *Registry) BindInstances(q *Process) (err error) {
	all := r.ProgramsOf(q.Path, "")
	for name, i := range r.ipcps {
		if i.PID == q.PID {
			all = append(all, r.ProgramsOf("", name)...)
		}
	}
	for _, p := range all {
		if r.covers(p, q) {
			err = cmp.Or(err, r.bindInstance(p.Name, q))
		}
	}
	return err
}

// BindInstance binds q, which the IRM has started for p, whatever path it
// says it has.
func (r *Registry) BindInstance(p *BoundProgram, q *Process) error {
	if !p.bound || q.UID != p.UID || r.fault("an instance is not bound under another path") {
		return nil
	}
	why, err := r.tie(p.Name, q)
	if err == nil {
		why.started = p
	}
	return err
}

func (r *Registry) bindInstance(name string, q *Process) error {
	why, err := r.tie(name, q)
	if err == nil {
		why.program = true
	}
	return err
}

// UnbindProgram takes back what BindProgram did, also for the instances that
// run.
func (r *Registry) UnbindProgram(p *BoundProgram) {
	b := r.bindings[p.Name]
	b.programs = slices.DeleteFunc(b.programs, func(q *BoundProgram) bool { return q == p })
	p.bound = false
	key := programKey{p.Path, p.IPCP}
	if delete(r.programs[key], p); len(r.programs[key]) == 0 {
		delete(r.programs, key)
	}
	r.Give(p.Owner(), ProgramBytes, p.size())
	r.Give(p.Owner(), Bindings, 1)
	r.programChanged("program.unbound", p)
	for _, q := range slices.Clone(b.procs) {
		why := q.bound[p.Name]
		why.program = slices.ContainsFunc(b.programs, func(o *BoundProgram) bool { return r.covers(o, q) })
		if why.started == p {
			why.started = nil
		}
		if !why.any() {
			r.drop(p.Name, q)
		}
	}
	r.prune(b)
}

func (r *Registry) programChanged(event string, p *BoundProgram) {
	if r.Changed != nil {
		r.Changed(view.Event{Event: event, Name: p.Name, Program: p.Path, IPCP: p.IPCP})
	}
}

// ProgramChanged tells of an instance that the IRM has started or seen end.
func (r *Registry) ProgramChanged(event string, p *BoundProgram, pid int) {
	r.changed(view.Event{Event: event, Name: p.Name, Program: p.Path, PID: pid})
}

// Programs returns the programs bound to b's name, in the order bound.
func (b *Binding) Programs() []*BoundProgram {
	if b == nil {
		return nil
	}
	return b.programs
}

// Startable returns the program bound to b's name whose turn it is to be
// started at the time now, and moves it to the end of the row; nil where none
// is to be started.
func (b *Binding) Startable(now time.Time, most int) *BoundProgram {
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
