package irm

import (
	"fmt"
	"runtime"
	"sync"
)

const (
	maxAside    = 4096 // jobs that wait for this system, and as many for others
	maxAsideOne = 1024 // of one source
	keptAside   = 1024 // of maxAside, for the first job of a source
)

// aside does work that takes long, handshakes, in goroutines of its own, so that
// the reader of a link goes on. This system's users and other systems take turns,
// and the sources of each do: a source with thousands of requests delays its own,
// and several such sources leave room for others. Strangers leave room for this system.
type aside struct {
	mu      sync.Mutex // guards the fields below
	sides   [2]side
	turn    int // whose job is next, where both have one
	running int
	closed  bool
	wg      sync.WaitGroup
}

// side is one half of an aside.
type side struct {
	waiting map[source][]func()
	turns   []source // those that have jobs waiting
	n       int      // jobs waiting
}

// source is where jobs come from: a user of this system, or another system.
type source struct {
	far bool
	who string
}

func user(uid int) source { return source{who: fmt.Sprint(uid)} }

// system is the source of what comes from another system.
func system(of string) source { return source{far: true, who: of} }

// workers returns how many jobs are done at a time. One processor is left to the
// readers of links.
func workers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// do does job for the source from, some time soon. It reports false, and does
// nothing, if too many jobs wait or if the IRM stops.
func (a *aside) do(from source, job func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.sides[0]
	if from.far {
		s = &a.sides[1]
	}
	jobs, room := s.waiting[from], maxAside
	if len(jobs) > 0 {
		room -= keptAside
	}
	if a.closed || s.n >= room || len(jobs) >= maxAsideOne {
		return false
	}
	if s.waiting == nil {
		s.waiting = make(map[source][]func())
	}
	if len(jobs) == 0 {
		s.turns = append(s.turns, from)
	}
	s.waiting[from] = append(jobs, job)
	s.n++
	if a.running < workers() {
		a.running++
		a.wg.Go(a.run)
	}
	return true
}

// run does jobs until none waits.
func (a *aside) run() {
	for {
		a.mu.Lock()
		job := a.sides[a.turn].next()
		a.turn = 1 - a.turn
		if job == nil {
			job = a.sides[a.turn].next()
		}
		if job == nil {
			a.running--
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		job()
		runtime.Gosched()
	}
}

// next takes the job whose turn it is; nil if there is none.
func (s *side) next() func() {
	if len(s.turns) == 0 {
		return nil
	}
	from := s.turns[0]
	s.turns = s.turns[1:]
	jobs := s.waiting[from]
	if len(jobs) > 1 {
		s.waiting[from] = jobs[1:]
		s.turns = append(s.turns, from)
	} else {
		delete(s.waiting, from)
	}
	s.n--
	return jobs[0]
}

// close waits for the jobs that are being done. Those that wait are not done.
func (a *aside) close() {
	a.mu.Lock()
	a.closed = true
	a.sides = [2]side{}
	a.mu.Unlock()
	a.wg.Wait()
}
