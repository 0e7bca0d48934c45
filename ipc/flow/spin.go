package flow

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Waking a process that sleeps costs some 5 us on the same core and 20 to 50 us
// on another one, so a short wait is best spent awake. How to wait was measured
// against its alternatives:
//   - looking all the time keeps a peer on the same core from running, and even
//     a first look of 0.5 us is a fifth of its round trip: hence shared;
//   - sched_yield alone gives the whole slice, milliseconds, to any third
//     process that only computes: hence the guard;
//   - less than 20 us is shorter than the peer's own waking, so both would
//     fall asleep again and again.
const (
	spinLooks = 1200       // about 0.5 us
	spinTime  = 20_000     // ns
	slowYield = 200_000    // ns: the core is wanted by others
	hogYield  = 2_000_000  // ns: so it is, though the peer ran as well; a slice has some 3 ms
	noSpin    = 50_000_000 // ns without spinning after that
	nearMiss  = 120_000    // ns: a sleep that a spin nearly spared
	maxSkip   = 64         // waits without a spin after spins that failed

	fewLooks  = 100 // where the peer shares the core
	sureAfter = 8   // waits in a row that ended when the core was given away
	sureFor   = 64  // waits with few looks after them
)

var (
	spinners   atomic.Int32 // in this process now, for peers elsewhere
	yielders   atomic.Int32 // in this process now, for peers in it
	noSpinTill atomic.Int64 // ns since epoch
	procs      = runtime.GOMAXPROCS(0)
)

// spinner is the memory of one direction: whether spinning pays here. The
// holder of half.mu uses it.
type spinner struct {
	fails, skip int
	quick       bool // the last wait took less than quickLooks

	// How many waits more the peer is taken to share the core; less than 0:
	// how many in a row have spoken for it.
	shared int
}

// wait looks at word until it is no longer old, for at most 20 us. It reports
// whether that came true, and if not, when it began, 0 if it did not try.
// local says that the peer is a goroutine of this process.
func (s *spinner) wait(word *atomic.Uint64, old uint64, local bool) (int64, bool) {
	if !local || procs > 1 {
		for i := range s.looks() {
			if word.Load() != old {
				s.fails, s.shared = 0, 0
				s.quick = i < quickLooks
				return 0, true
			}
		}
	}
	s.quick = false
	start := now()
	if s.skip > 0 {
		s.skip--
		return start, false
	}
	if start < noSpinTill.Load() {
		return start, false
	}
	// A spinner holds its P. Between goroutines both ends may be in here at
	// once, but they hand the P to each other.
	n, most := &spinners, max(1, procs/2)
	if local {
		n, most = &yielders, max(2, procs)
	}
	if n.Add(1) > int32(most) {
		n.Add(-1)
		return start, false
	}
	ok := s.loop(word, old, start, local)
	n.Add(-1)
	if ok {
		s.fails = 0
		return 0, true
	}
	if s.fails < 6 {
		s.fails++
	}
	s.skip = min(1<<s.fails, maxSkip) - 1
	return start, false
}

func (s *spinner) loop(word *atomic.Uint64, old uint64, start int64, local bool) bool {
	for last := start; ; {
		giveAway(local)
		if word.Load() != old {
			s.gaveAway(now()-last, local)
			return true
		}
		s.shared = 0
		for range spinLooks {
			if word.Load() != old {
				return true
			}
		}
		t := now()
		if t-last > slowYield {
			if !local {
				noSpinTill.Store(t + noSpin)
			}
			return false
		}
		if t-start > spinTime {
			return false
		}
		last = t
	}
}

// giveAway lets others have the core.
func giveAway(local bool) {
	if local || procs == 1 {
		runtime.Gosched() // the peer, or others here, may need this P
	}
	if !local {
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// yield gives the core away once, unless others have lately kept it for long.
func yield(local bool) {
	if start := now(); start >= noSpinTill.Load() {
		giveAway(local)
		hogged(now()-start, local)
	}
}

// hogged is told how long the core was given away, in ns. If that was a
// program's slice, one computes here, and nobody in this process spins for a
// while: a sleeper, other than who yields, is let run before it when it is woken.
func hogged(took int64, local bool) bool {
	if took <= hogYield || local {
		return false
	}
	noSpinTill.Store(now() + noSpin)
	return true
}

// looks returns how many looks come before the core is given away.
func (s *spinner) looks() int {
	if s.shared > 0 {
		return fewLooks
	}
	return spinLooks
}

// gaveAway is told that a wait was over when the core had been given away, for
// took ns. After some such waits in a row the peer is taken to run only then, and
// to be delayed by looking first; now and then that is tried again.
func (s *spinner) gaveAway(took int64, local bool) {
	s.shared--
	switch {
	case hogged(took, local):
		s.shared = 0
	case s.shared <= -sureAfter:
		s.shared = sureFor
	}
}

// slept is told when a sleep ends whose spin began at start. A short one means
// that both sides are busy and only just missed each other: spin again.
func (s *spinner) slept(start int64) {
	if s.skip > 0 && now()-start < nearMiss {
		s.fails, s.skip = 0, 0
	}
}
