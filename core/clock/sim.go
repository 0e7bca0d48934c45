package clock

import (
	"container/heap"
	"time"
)

// Sim is a Clock that stands still until Step or Run moves it. It is for one
// goroutine: what AfterFunc has arranged is called by Step and Run, in the order of
// its time and, at the same time, in that of the calls.
type Sim struct {
	now    time.Time
	count  uint64
	events events
}

var _ Clock = (*Sim)(nil)

// NewSim returns a Sim that shows start.
func NewSim(start time.Time) *Sim { return &Sim{now: start} }

// Now implements Clock.
func (s *Sim) Now() time.Time { return s.now }

// AfterFunc implements Clock.
func (s *Sim) AfterFunc(d time.Duration, f func()) Timer {
	e := &event{sim: s, call: f, at: -1}
	e.Reset(d)
	return e
}

// Step moves to the next call and makes it. It reports false where there is none.
func (s *Sim) Step() bool {
	if len(s.events) == 0 {
		return false
	}
	e := heap.Pop(&s.events).(*event)
	s.now = e.when
	e.call()
	return true
}

// Run makes all calls of the next d, and moves by d.
func (s *Sim) Run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.events) > 0 && !s.events[0].when.After(end) {
		s.Step()
	}
	s.now = end
}

// event is a call that is arranged.
type event struct {
	sim   *Sim
	when  time.Time
	order uint64
	call  func()
	at    int // in sim.events; -1: it is not there
}

// Stop implements Timer.
func (e *event) Stop() bool {
	if e.at < 0 {
		return false
	}
	heap.Remove(&e.sim.events, e.at)
	return true
}

// Reset implements Timer.
func (e *event) Reset(d time.Duration) bool {
	was := e.Stop()
	e.sim.count++
	e.when, e.order = e.sim.now.Add(max(d, 0)), e.sim.count
	heap.Push(&e.sim.events, e)
	return was
}

type events []*event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	if !h[i].when.Equal(h[j].when) {
		return h[i].when.Before(h[j].when)
	}
	return h[i].order < h[j].order
}
func (h events) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *events) Push(x any) {
	e := x.(*event)
	e.at = len(*h)
	*h = append(*h, e)
}
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.at = -1
	return e
}
