package flow

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// To wake a process that sleeps takes some 5 us on the same core and 20 to 50 us on
// another one. So an end spins first: it checks a word of the memory again and
// again, and yields its core between. The alternatives were measured:
//   - Checks without a yield keep a peer on the same core from running. Even the
//     first 0.5 us of checks are a fifth of its round trip, so there are fewer of
//     them if the peer seems to share the core.
//   - sched_yield gives a whole slice, milliseconds, to any third process that only
//     computes. So spinning stops for a while after a yield that took long.
//   - Less than 20 us is shorter than the peer's own wake-up: then both would fall
//     asleep again and again.
const (
	spinChecks = 1200       // about 0.5 us
	spinTime   = 20_000     // ns
	slowYield  = 200_000    // ns: other processes want the core
	hogYield   = 2_000_000  // ns: the same, where the peer ran too; a slice has some 3 ms
	noSpin     = 50_000_000 // ns without spinning after such a yield
	nearMiss   = 120_000    // ns: a longer spin would have saved a sleep that took less
	maxSkip    = 64         // waits without a spin after spins that failed

	fewChecks   = 100 // checks before the first yield to a peer on this core
	sharedAfter = 8   // waits in a row that a yield ended: the peer shares the core
	sharedFor   = 64  // waits with few checks after them
)

var (
	spinners   atomic.Int32 // that spin now, for peers in other processes
	yielders   atomic.Int32 // that spin now, for peers in this process
	noSpinTill atomic.Int64 // ns since epoch
	procs      = runtime.GOMAXPROCS(0)
)

// spinner remembers, for one direction, whether spinning pays. The holder of half.mu
// uses it.
type spinner struct {
	fails, skip int
	quick       bool // the last wait took less than quickChecks

	// Above 0: for how many more waits the peer is assumed to share the core.
	// Below 0: how many waits in a row have spoken for that.
	shared int
}

// wait checks word until it is no longer old, for at most 20 us. It reports whether
// the word changed, and if not, when wait began. local says that the peer is in
// this process.
func (s *spinner) wait(word *atomic.Uint64, old uint64, local bool) (int64, bool) {
	if !local || procs > 1 {
		for i := range s.checks() {
			if word.Load() != old {
				s.fails, s.shared = 0, 0
				s.quick = i < quickChecks
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
	// A spinner keeps a P of Go's scheduler busy. Two ends in this process may
	// spin at once: they yield their P to each other.
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
		yieldCore(local)
		if word.Load() != old {
			s.noteYield(now()-last, local)
			return true
		}
		s.shared = 0
		for range spinChecks {
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

// yieldCore lets others use the core.
func yieldCore(local bool) {
	if local || procs == 1 {
		runtime.Gosched() // the peer, or others here, may need this P
	}
	if !local {
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// yield yields the core once, unless others have lately kept it for long.
func yield(local bool) {
	if start := now(); start >= noSpinTill.Load() {
		yieldCore(local)
		noteHog(now()-start, local)
	}
}

// noteHog is told how long a yield took, in ns. If it took as long as a slice, some
// program on this core only computes. Then no goroutine of this process spins for a
// while: the kernel lets a sleeper that is woken run before such a program, but not
// a process that yields.
func noteHog(took int64, local bool) bool {
	if took <= hogYield || local {
		return false
	}
	noSpinTill.Store(now() + noSpin)
	return true
}

// checks returns how many checks come before the first yield.
func (s *spinner) checks() int {
	if s.shared > 0 {
		return fewChecks
	}
	return spinChecks
}

// noteYield is told that a yield, which took took ns, ended a wait. After some such
// waits in a row the peer is assumed to share the core: it runs only during a yield,
// and checks before that delay it. Now and then that is tested again.
func (s *spinner) noteYield(took int64, local bool) {
	s.shared--
	switch {
	case noteHog(took, local):
		s.shared = 0
	case s.shared <= -sharedAfter:
		s.shared = sharedFor
	}
}

// noteSleep is told that a sleep ended, and that the spin before it began at start.
// After a short sleep the next wait spins again: both sides are busy, and a little
// more spinning would have been enough.
func (s *spinner) noteSleep(start int64) {
	if s.skip > 0 && now()-start < nearMiss {
		s.fails, s.skip = 0, 0
	}
}
