package irm

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"o7s/core"
)

// The paths of programs, of which some are bound to names. What starts under
// one may run as another: a script does.
var simPaths = []string{"/bin/a", "/bin/b", "/bin/prog"}

// bindingGroup is the last group of whoever binds the first program. Each binding has
// its own.
const bindingGroup = 1 << 20

// simInst is a process that the IRM has started. It is Instance.
type simInst struct {
	w       *sim
	pid     int
	program *Program // as it was bound
	died    func(error)
	known   bool     // the IRM knows its pid, and has not heard of its end
	proc    *simProc // once it uses flows
	dead    bool
	stop    sync.Once
	reaped  chan struct{}
}

type simStarter struct{ w *sim }

// Start implements Starter.
func (s simStarter) Start(p Program, runs func(), died func(error)) (Instance, error) {
	w := s.w
	w.pause(4)
	if w.one(8) {
		return nil, errSpawn
	}
	w.mu.Lock()
	w.nextPID++
	i := &simInst{w: w, pid: w.nextPID, program: w.programs[p.Groups[len(p.Groups)-1]-bindingGroup], died: died, reaped: make(chan struct{})}
	w.insts = append(w.insts, i)
	w.mu.Unlock()
	if w.one(6) {
		w.spawn(i.end) // its program can't be run
	} else {
		w.spawn(i.begin)
		w.spawn(func() {
			if !i.dead {
				runs()
			}
		})
	}
	w.pause(4)
	return i, nil
}

func (w *sim) inst(pid int) *simInst {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := slices.IndexFunc(w.insts, func(i *simInst) bool { return i.pid == pid })
	return w.insts[at]
}

// begin is the first that it does: most listen.
func (i *simInst) begin() {
	w := i.w
	if i.dead {
		return
	}
	path := i.program.Path
	if w.one(3) {
		path = "/elsewhere"
	}
	w.announce(Caller{PID: i.pid, UID: i.program.UID}, path, func(p *simProc) {
		if !w.one(4) {
			p.listen(pick(w, []string{"", i.program.Name}), 1+w.intn(3), nil)
		}
	})
}

// end ends it, as an exit and as a crash do.
func (i *simInst) end() {
	if i.dead {
		return
	}
	i.dead = true
	if i.proc != nil {
		i.proc.die()
	}
	i.w.spawn(func() {
		i.died(errors.New("signal: killed"))
		close(i.reaped)
	})
}

// PID implements Instance.
func (i *simInst) PID() int { return i.pid }

// Alive implements Instance. Here no number is given twice.
func (i *simInst) Alive() bool { return true }

// Stop implements Instance.
func (i *simInst) Stop() {
	i.stop.Do(func() { i.w.spawnStop(i.pid, i.end) })
	<-i.reaped
}

func (w *sim) bindProgram(c Caller, path, name string, auto bool) {
	w.thread(func() {
		p := &Program{Path: path, Name: name, Auto: auto, UID: c.UID}
		want := w.model.bindProgram(c, p)
		// A last group of its own tells one binding from the next one of the same program.
		c.Groups = append(slices.Clone(c.Groups), bindingGroup+len(w.programs))
		w.programs = append(w.programs, p)
		if err := w.m.BindProgram(c, *p); !errors.Is(err, want) {
			w.wrong("bind program %s to %q by uid %d, auto %v: %v, want %v", path, name, c.UID, auto, err, want)
		}
	})
}

func (w *sim) unbindProgram(c Caller, path, name string) {
	w.thread(func() {
		want := w.model.unbindProgram(c, path, name)
		if err := w.m.UnbindProgram(c, path, "", name); !errors.Is(err, want) {
			w.wrong("unbind program %s from %q by uid %d: %v, want %v", path, name, c.UID, err, want)
		}
	})
}

// covers reports whether p is an instance of g by itself.
func covers(g *Program, p *simProc) bool { return p.path == g.Path && p.c.UID == g.UID }

// bindProgram judges whether c may bind g and notes it.
func (s *simModel) bindProgram(c Caller, g *Program) error {
	s.catchUp()
	if !s.mayHold(c, g.Name) || g.Auto && c.UID != 1000 {
		return core.ErrPermission
	}
	for _, o := range s.programs {
		if o.Name == g.Name && o.Path == g.Path && o.UID == c.UID {
			if o.Auto != g.Auto {
				return core.ErrExists
			}
			return nil
		}
	}
	if !s.held(g.Name) {
		s.holder[g.Name] = c.UID
	}
	s.programs = append(s.programs, g)
	for _, p := range s.w.procs {
		if !p.gone && p.path == g.Path && p.c.UID == c.UID {
			s.why(p, g.Name).program = true
		}
	}
	return nil
}

// announced binds p, which is new, to the names of its programs.
func (s *simModel) announced(p *simProc) {
	for _, g := range s.programs {
		if covers(g, p) {
			s.why(p, g.Name).program = true
		}
		if i := p.inst; i != nil && i.known && i.program == g {
			s.why(p, g.Name).started = g
		}
	}
}

// unbindProgram judges whether c may, and notes it. Who runs as an instance of
// another program of the name stays bound.
func (s *simModel) unbindProgram(c Caller, path, name string) error {
	s.catchUp()
	err := error(core.ErrNotFound)
	for _, g := range slices.Clone(s.programs) {
		if g.Path != path || name != "" && g.Name != name {
			continue
		}
		if g.UID != c.UID && !isAdmin(c) {
			if err != nil {
				err = core.ErrPermission
			}
			continue
		}
		err = nil
		s.programs = slices.DeleteFunc(s.programs, func(o *Program) bool { return o == g })
		for p, y := range maps.Clone(s.bound[g.Name]) {
			y.program = slices.ContainsFunc(s.programs, func(o *Program) bool { return o.Name == g.Name && covers(o, p) })
			if y.started == g {
				y.started = nil
			}
			if !y.any() {
				s.drop(p, g.Name)
			}
		}
		if !s.held(g.Name) {
			delete(s.holder, g.Name)
		}
	}
	return err
}

// comes reports whether an instance for name is on its way.
func (w *sim) comes(name string) bool {
	return slices.ContainsFunc(w.insts, func(i *simInst) bool {
		return i.program.Name == name && !i.dead && slices.Contains(w.model.programs, i.program)
	})
}
