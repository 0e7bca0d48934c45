package clock

import (
	"fmt"
	"testing"
	"time"
)

func TestSim(t *testing.T) {
	start := time.Unix(1000, 0)
	s := NewSim(start)
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
