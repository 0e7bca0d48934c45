package clocktest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"o7s/core/clock"
)

func TestSim(t *testing.T) {
	start := time.Unix(1000, 0)
	s := New(start)
	got := ""
	say := func(what string) func() {
		return func() { got += fmt.Sprint(what, int(s.Now().Sub(start)/time.Second), " ") }
	}
	s.AfterFunc(3*time.Second, say("c"))
	s.AfterFunc(time.Second, say("a"))
	b := s.AfterFunc(time.Second, say("b"))
	gone := s.AfterFunc(2*time.Second, say("x"))
	s.AfterFunc(2*time.Second, func() { s.AfterFunc(time.Second, say("e")); b.Reset(5 * time.Second) })
	if !gone.Stop() || gone.Stop() {
		t.Error("Stop is wrong about what was still to come")
	}
	s.Run(3 * time.Second)
	if got != "a1 b1 c3 e3 " || s.Now() != start.Add(3*time.Second) {
		t.Errorf("called %q, and it is %v", got, s.Now())
	}
	if !s.Step() || got != "a1 b1 c3 e3 b7 " || s.Step() {
		t.Errorf("then %q", got)
	}
	if b.Reset(-time.Second) || !s.Step() || s.Now() != start.Add(7*time.Second) {
		t.Errorf("a time that has passed is %v", s.Now())
	}
}

// Whatever is arranged, moved and cancelled, the calls come in the order of their
// times.
func TestSimOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := New(time.Unix(1000, 0))
	var last time.Time
	calls, gone := 0, 0
	call := func() {
		if s.Now().Before(last) {
			t.Fatalf("a call at %v comes after one at %v", s.Now(), last)
		}
		last = s.Now()
		calls++
	}
	var timers []clock.Timer
	for range 5000 {
		d := time.Duration(rnd.IntN(100)) * time.Millisecond
		switch rnd.IntN(5) {
		case 0:
			s.Call(d, call)
		case 1, 2:
			timers = append(timers, s.AfterFunc(d, call))
		case 3:
			if len(timers) > 0 && timers[rnd.IntN(len(timers))].Stop() {
				gone++
			}
		case 4:
			if len(timers) > 0 && timers[rnd.IntN(len(timers))].Reset(d) {
				gone++
			}
		}
		if rnd.IntN(4) == 0 {
			s.Step()
		}
	}
	s.Run(time.Hour)
	if s.Step() || int(s.count) != calls+gone {
		t.Errorf("%d calls were arranged, %d were made and %d cancelled", s.count, calls, gone)
	}
}
