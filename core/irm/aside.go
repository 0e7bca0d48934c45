package irm

import (
	"runtime"
	"sync"
)

const (
	maxAside    = 4096 // jobs that wait
	maxAsideOne = 1024 // of one source
)

// aside does work that takes long, handshakes, in goroutines of its own, so that
// whoever reads a link goes on. Sources take turns: one that sends thousands of
// requests delays its own.
type aside struct {
	mu      sync.Mutex // guards the fields below
	waiting map[string][]func()
	turns   []string // the sources that have jobs waiting
	n       int      // jobs waiting
	running int
	closed  bool
	wg      sync.WaitGroup
}

// workers returns how many jobs are done at a time. One processor is left to those
// who read links.
func workers() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// do does job for the source from, some time soon. It reports false, and does
// nothing, if too many jobs wait or if the IRM stops.
func (a *aside) do(from string, job func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	jobs := a.waiting[from]
	if a.closed || a.n >= maxAside || len(jobs) >= maxAsideOne {
		return false
	}
	if a.waiting == nil {
		a.waiting = make(map[string][]func())
	}
	if len(jobs) == 0 {
		a.turns = append(a.turns, from)
	}
	a.waiting[from] = append(jobs, job)
	a.n++
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
		if len(a.turns) == 0 {
			a.running--
			a.mu.Unlock()
			return
		}
		from := a.turns[0]
		a.turns = a.turns[1:]
		jobs := a.waiting[from]
		if len(jobs) > 1 {
			a.waiting[from] = jobs[1:]
			a.turns = append(a.turns, from)
		} else {
			delete(a.waiting, from)
		}
		a.n--
		a.mu.Unlock()
		jobs[0]()
		runtime.Gosched()
	}
}

// close waits for the jobs that are being done. Those that wait are not done.
func (a *aside) close() {
	a.mu.Lock()
	a.closed = true
	a.waiting, a.turns, a.n = nil, nil, 0
	a.mu.Unlock()
	a.wg.Wait()
}
