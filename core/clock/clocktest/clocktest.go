// Package clocktest is a clock for tests that a test moves itself.
package clocktest

import (
	"time"

	"o7s/core/clock"
)

// Sim is a clock that stands still until Step or Run moves it. It is for one
// goroutine: Step and Run make the calls that AfterFunc has arranged, in the order of
// their times. Calls of the same time are made in the order in which they were arranged.
type Sim struct {
	start  time.Time
	now    time.Duration // since start
	count  uint64
	events []entry  // a heap: the next one is first, those after i are at 4*i+1 to 4*i+4
	spare  []*event // of Call, to be used again
}

var _ clock.Clock = (*Sim)(nil)

// New returns a Sim that shows start.
func New(start time.Time) *Sim { return &Sim{start: start} }

// Now implements clock.Clock.
func (s *Sim) Now() time.Time { return s.start.Add(s.now) }

// AfterFunc implements clock.Clock.
func (s *Sim) AfterFunc(d time.Duration, f func()) clock.Timer {
	e := &event{sim: s, call: f, at: -1}
	e.Reset(d)
	return e
}

// Call is AfterFunc for a call that nobody cancels.
func (s *Sim) Call(d time.Duration, f func()) {
	e := &event{sim: s, at: -1, once: true}
	if n := len(s.spare); n > 0 {
		e, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	e.call = f
	e.Reset(d)
}

// Step moves to the next call and makes it. It reports false where there is none.
func (s *Sim) Step() bool {
	if len(s.events) == 0 {
		return false
	}
	s.now = s.events[0].when
	e := s.events[0].event
	s.remove(0)
	call := e.call
	if e.once {
		e.call = nil
		s.spare = append(s.spare, e)
	}
	call()
	return true
}

// Run makes all calls of the next d, and moves by d.
func (s *Sim) Run(d time.Duration) {
	end := s.now + d
	for len(s.events) > 0 && s.events[0].when <= end {
		s.Step()
	}
	s.now = end
}

// event is a call that is arranged.
type event struct {
	sim  *Sim
	call func()
	at   int  // in sim.events; -1: it is not there
	once bool // nobody has it but sim
}

// entry is an event in the heap. It holds what decides the place of the event, because
// reading that from the event itself would take longer.
type entry struct {
	when  time.Duration
	order uint64
	event *event
}

func (e *entry) before(o *entry) bool {
	return e.when < o.when || e.when == o.when && e.order < o.order
}

// Stop implements clock.Timer.
func (e *event) Stop() bool {
	if e.at < 0 {
		return false
	}
	e.sim.remove(e.at)
	return true
}

// Reset implements clock.Timer.
func (e *event) Reset(d time.Duration) bool {
	was := e.Stop()
	s := e.sim
	s.count++
	x := entry{s.now + max(d, 0), s.count, e}
	s.events = append(s.events, x)
	s.up(x, len(s.events)-1)
	return was
}

// remove takes the event at i out of the heap.
func (s *Sim) remove(i int) {
	s.events[i].event.at = -1
	n := len(s.events) - 1
	last := s.events[n]
	s.events[n] = entry{}
	s.events = s.events[:n]
	if i < n {
		s.down(last, i)
		s.up(last, last.event.at)
	}
}

// up gives x, which may be put at i, its place there or nearer to the first.
func (s *Sim) up(x entry, i int) {
	for i > 0 {
		parent := (i - 1) / 4
		if !x.before(&s.events[parent]) {
			break
		}
		s.put(s.events[parent], i)
		i = parent
	}
	s.put(x, i)
}

// down gives x, which may be put at i, its place there or farther from the first.
func (s *Sim) down(x entry, i int) {
	for {
		first := 4*i + 1
		if first >= len(s.events) {
			break
		}
		least := first
		for j := first + 1; j < min(first+4, len(s.events)); j++ {
			if s.events[j].before(&s.events[least]) {
				least = j
			}
		}
		if !s.events[least].before(&x) {
			break
		}
		s.put(s.events[least], i)
		i = least
	}
	s.put(x, i)
}

func (s *Sim) put(x entry, i int) {
	s.events[i] = x
	x.event.at = i
}
