package stage

import (
	"context"
	"sync"
	"time"

	"o7s/core"
	"o7s/ipc/flow"
)

// users counts the stages of this process. It has the goroutine that tends the idle
// ones: those that no goroutine of the program uses now. The first idle stage starts
// that goroutine, and it ends with the last stage.
var users group

type group struct {
	mu    sync.Mutex // guards the fields below; comes after Stage.mu
	count int
	set   *flow.Set
	ended chan struct{} // closed when its goroutine has ended
}

func (g *group) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
}

func (g *group) leave() {
	g.mu.Lock()
	set, ended := g.set, g.ended
	if g.count--; g.count > 0 || set == nil {
		g.mu.Unlock()
		return
	}
	g.set, g.ended = nil, nil
	g.mu.Unlock()
	set.Close()
	<-ended
}

// add makes the goroutine tend s, and reports whether it does.
func (g *group) add(s *Stage) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.set == nil {
		set, err := flow.NewSet()
		if err != nil {
			return false // the timer tries again
		}
		g.set, g.ended = set, make(chan struct{})
		go tend(set, g.ended)
	}
	return g.set.Add(s.end, s) == nil
}

// remove ends what add began.
func (g *group) remove(s *Stage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.set != nil {
		g.set.Remove(s.end)
	}
}

// tend takes packets off the rings of the stages in set, and sends what is due then.
func tend(set *flow.Set, ended chan struct{}) {
	defer close(ended)
	for {
		v, err := set.Wait(context.Background())
		if err != nil {
			return
		}
		v.(*Stage).tend()
	}
}

func (s *Stage) tend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.idle {
		return
	}
	s.pump(mostTaken)
	if s.inErr != nil {
		s.leaveIdle() // the ring has ended, so the set would return s again and again
	}
	s.tell()
}

// used notes that the program reads or writes. s.mu is held.
func (s *Stage) used() {
	s.active = true
	if s.idle {
		s.leaveIdle()
		s.arm(time.Now(), time.Time{})
	}
}

// leaveIdle takes s from the shared goroutine: another one tends s from now on. s.mu is
// held.
func (s *Stage) leaveIdle() {
	if s.idle {
		s.idle = false
		users.remove(s)
	}
}

// Join adds s to set, which returns value for it, as flow.Set.Add does.
func (s *Stage) Join(set *flow.Set, value any) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return core.ErrClosed
	}
	s.joining++ // so that the timer does not give it to the shared goroutine
	s.leaveIdle()
	s.mu.Unlock()
	err := set.AddStage(s.end, value, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joining--
	s.arm(time.Now(), time.Time{}) // the set may have refused it, or gone already
	return err
}
