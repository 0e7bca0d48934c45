package irm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"o7s/core"
	"o7s/core/view"
)

// simModel is a second, simpler opinion on what the Manager decides.
type simModel struct {
	w *sim

	ids    map[core.FlowID]bool // in use
	counts map[string]int       // of events, less the lines that follow them
	dead   map[int]int          // pids, removed so often
	reused map[int]bool         // pids that were announced again
	fds    map[int]int          // that an IPCP has given last
	next   string               // how the next line of the IRMd ends; "": as it likes

	bound    map[string]map[*simProc]*simWhy
	programs []*Program     // that are bound
	holder   map[string]int // a uid, while something is bound
	late     []func() bool  // listeners that come some time: each says whether it is done
}

// simWhy is why a process is bound to a name.
type simWhy struct {
	hand      bool
	listeners int
	program   bool     // as an instance of one
	started   *Program // for which the IRM has started it
}

func (y *simWhy) any() bool { return y.hand || y.program || y.started != nil || y.listeners > 0 }

func newSimModel(w *sim) *simModel {
	return &simModel{
		w: w, ids: make(map[core.FlowID]bool), counts: make(map[string]int),
		dead: make(map[int]int), reused: make(map[int]bool), fds: make(map[int]int),
		bound: make(map[string]map[*simProc]*simWhy), holder: make(map[string]int),
	}
}

// late is how much later than its time an answer may come.
const late = 2 * simTick

// answered judges when an allocation is answered.
func (s *simModel) answered(a *simAlloc, err error) {
	if d := time.Since(a.deadline); d > late {
		s.w.fail("an allocation to %q is answered %v too late: %v", a.name, d, err)
	}
}

// event sees each change under the lock of the Manager, so in its order.
func (s *simModel) event(e view.Event) {
	if e.Flow == nil {
		switch e.Event {
		case "program.started":
			i := s.w.inst(e.PID)
			i.known = true
			s.catchUpLocked()
			if i.proc != nil && !i.proc.gone {
				s.announced(i.proc)
			}
		case "program.ended":
			s.w.inst(e.PID).known = false
		}
		if e.Event == "process.removed" {
			s.counts[fmt.Sprint("Dead process removed ", e.PID)]++
		}
		return
	}
	id := *e.Flow
	s.w.note(fmt.Sprintf("(%s %d)", e.Event, id))
	switch e.Event {
	case "flow.requested":
		for lower := range id {
			if !s.ids[lower] {
				s.w.fail("flow %d is made, but %d is free", id, lower)
			}
		}
		if s.ids[id] {
			s.w.fail("flow %d is made, which is in use", id)
		}
		s.ids[id] = true
	case "flow.deallocated":
		if !s.ids[id] {
			s.w.fail("flow %d ends twice", id)
		}
		delete(s.ids, id)
	}
	s.counts[fmt.Sprint(e.Event, id)]++
}

// line judges a line of the log: it tells what has happened, and once.
func (s *simModel) line(pid int, line string) {
	if pid != irmdPID {
		var hash string
		var fd int
		if scan(line, "Allocating flow to %s on fd %d.", &hash, &fd) {
			s.w.mu.Lock()
			s.fds[pid] = fd
			s.w.mu.Unlock()
		}
		return
	}
	var id, by int
	s.w.mu.Lock()
	next := s.next
	s.next = ""
	s.w.mu.Unlock()
	if !strings.HasSuffix(line, next) {
		s.w.wrong("the log tells %q, want \"... %s\"", line, next)
	}
	what := ""
	switch {
	case scan(line, "Flow on flow_id %d allocated.", &id):
		what = fmt.Sprint("flow.allocated", id)
	case scan(line, "Partial deallocation of flow_id %d by process %d.", &id, &by):
		what = fmt.Sprint("flow.deallocating", id)
	case scan(line, "Completed deallocation of flow_id %d by process %d.", &id, &by):
		what = fmt.Sprint("flow.deallocated", id)
	case scan(line, "Dead process removed: %d.", &id):
		what = fmt.Sprint("Dead process removed ", id)
		s.w.mu.Lock()
		s.dead[id]++
		s.w.mu.Unlock()
	case strings.HasPrefix(line, "Deallocating flow"):
		scan(line, "Deallocating flow %d for process %d.", &id, &by)
		s.w.mu.Lock()
		s.next = fmt.Sprintf(" deallocation of flow_id %d by process %d.", id, by)
		s.w.mu.Unlock()
	}
	s.w.mu.Lock()
	removed := by != 0 && s.dead[by] > 0 && !s.reused[by]
	s.w.mu.Unlock()
	if removed {
		s.w.wrong("the log tells of process %d after its removal: %s", by, line)
	}
	if what == "" {
		return
	}
	s.w.m.mu.Lock()
	s.counts[what]--
	n := s.counts[what]
	s.w.m.mu.Unlock()
	if n < 0 {
		s.w.wrong("the log tells what has not happened: %s", line)
	}
}

func scan(line, format string, to ...any) bool {
	n, err := fmt.Sscanf(line, format, to...)
	return err == nil && n == len(to)
}

// isAdmin is the rule for administrators.
func isAdmin(c Caller) bool {
	return c.UID == 0 || c.UID == 1000 || c.UID == 1001 || slices.Contains(c.Groups, 50)
}

// mayHold is the rule for names: one's own, or nobody's.
func (s *simModel) mayHold(c Caller, name string) bool {
	return isAdmin(c) || !s.held(name) || s.holder[name] == c.UID
}

func (s *simModel) held(name string) bool {
	return len(s.bound[name]) > 0 || slices.ContainsFunc(s.programs, func(p *Program) bool { return p.Name == name })
}

// catchUp takes in the listeners that have come since. It is called before
// anything else is decided.
func (s *simModel) catchUp() {
	s.w.m.mu.Lock()
	defer s.w.m.mu.Unlock()
	s.catchUpLocked()
}

func (s *simModel) catchUpLocked() {
	s.late = slices.DeleteFunc(s.late, func(done func() bool) bool { return done() })
}

func (s *simModel) why(p *simProc, name string) *simWhy {
	if !s.held(name) {
		s.holder[name] = p.c.UID
	}
	if s.bound[name] == nil {
		s.bound[name] = make(map[*simProc]*simWhy)
	}
	y := s.bound[name][p]
	if y == nil {
		y = &simWhy{}
		s.bound[name][p] = y
	}
	return y
}

func (s *simModel) drop(p *simProc, name string) {
	delete(s.bound[name], p)
	if len(s.bound[name]) == 0 {
		delete(s.bound, name)
	}
	if !s.held(name) {
		delete(s.holder, name)
	}
}

func (s *simModel) listen(p *simProc, name string) (ok bool) {
	s.catchUp()
	if name == "" {
		return true
	}
	if !s.mayHold(p.c, name) {
		return false
	}
	if p.gone { // by exec: there is nothing to bind
		return true
	}
	s.why(p, name).listeners++
	return true
}

func (s *simModel) unlisten(p *simProc, name string) {
	s.catchUp()
	if y := s.bound[name][p]; y != nil {
		y.listeners--
		if !y.any() {
			s.drop(p, name)
		}
	}
}

// bind judges whether c may bind p to name and notes it.
func (s *simModel) bind(c Caller, p *simProc, name string) (ok bool) {
	s.catchUp()
	if !isAdmin(c) && p.c.UID != c.UID || !s.mayHold(c, name) {
		return false
	}
	s.why(p, name).hand = true
	return true
}

// unbind judges whether c may, and whether there is anything to unbind.
func (s *simModel) unbind(c Caller, p *simProc, name string) (may, found bool) {
	s.catchUp()
	if p.c.UID != c.UID && !isAdmin(c) {
		return false, false
	}
	for n, who := range maps.Clone(s.bound) {
		if y := who[p]; y != nil && y.hand && (name == "" || n == name) {
			found = true
			y.hand = false
			if !y.any() {
				s.drop(p, n)
			}
		}
	}
	return true, found || name == ""
}

// gone says that the IRM hears now that p has gone.
func (s *simModel) gone(p *simProc) {
	s.catchUp()
	if p.gone {
		return
	}
	p.gone = true
	for n, who := range maps.Clone(s.bound) {
		if who[p] != nil {
			s.drop(p, n)
		}
	}
	for _, l := range p.listeners {
		l.ended = true
	}
}
