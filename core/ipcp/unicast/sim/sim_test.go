package sim

import (
	"flag"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"o7s/core/ipcp/unicast/pff"
)

var (
	seed    = flag.Uint64("seed", 0, "the one seed to run")
	members = flag.Int("members", 200, "how many members a layer has")
	long    = flag.Bool("long", false, "TestSim: 20 seeds rather than 6")
	raced   bool // the race detector is there
)

// run runs one layer, and returns what is wrong with it. In each round up to most
// events happen to it.
func run(cfg Config, rounds, most int) []string {
	l := New(cfg)
	defer l.Stop()
	for i := range 10 {
		l.Register(fmt.Sprint("name ", i))
	}
	l.Run(15 * time.Second)
	wrong := l.Check()
	for i := 0; i < rounds && len(wrong) == 0; i++ {
		n := 1 + l.rnd.IntN(most)
		what := ""
		for range n {
			e := Events[l.rnd.IntN(len(Events))]
			what += e + " "
			l.Happen(e)
			l.Run(time.Duration(l.rnd.IntN(3000)) * time.Millisecond)
		}
		l.Run(Settle)
		for _, w := range l.Check() {
			wrong = append(wrong, fmt.Sprintf("after %s(%d): %s", what, i, w))
		}
	}
	if len(wrong) == 0 && cfg.Members < 100 { // for many it takes long
		l.Run(Over)
		wrong = l.CheckOver()
	}
	return wrong
}

// What a layer makes is small, and soon gone: to look for it less often is faster.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}

// notRaced skips the test under the race detector: no layer is shared between goroutines,
// and what layers share without knowing TestSmall finds.
func notRaced(t *testing.T) {
	if raced {
		t.Skip("one goroutine, and slower so")
	}
}

// seeds runs test for the seeds from first on, as many as n. A failing one runs again
// by its number.
func seeds(t *testing.T, first, n uint64, test func(t *testing.T, seed uint64) []string) {
	if *seed != 0 {
		first, n = *seed, 1
	}
	for s := first; s < first+n; s++ {
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			wrong := test(t, s)
			for _, w := range wrong {
				t.Error(w)
			}
			if len(wrong) > 0 {
				name, _, _ := strings.Cut(t.Name(), "/")
				t.Errorf("run it again: go test ./core/ipcp/unicast/sim -run '^%s$' -seed %d -members %d", name, s, *members)
			}
		})
	}
}

// TestSim runs layers of 200 members over 6 seeds, two of each policy; with -long over
// 20. Larger ones take longer: with -members 1000 -seed 1, about a minute.
func TestSim(t *testing.T) {
	notRaced(t)
	n := uint64(6)
	switch {
	case *long:
		n = 20
	case testing.Short():
		n = 2
	}
	seeds(t, 1, n, func(t *testing.T, s uint64) []string {
		return run(Config{Members: *members, Links: *members / 3, Policy: pff.Policy(s % 3), Seed: s}, 1, 5)
	})
}

// TestSmall runs many small layers through many events.
func TestSmall(t *testing.T) {
	n := uint64(24)
	if testing.Short() || raced {
		n = 8
	}
	seeds(t, 100, n, func(t *testing.T, s uint64) []string {
		return run(Config{Members: 2 + int(s%12), Links: int(s % 7), Policy: pff.Policy(s % 3), Seed: s}, 12, 3)
	})
}

// The same seed gives the same layer.
func TestSeedRepeats(t *testing.T) {
	count := func() string {
		l := New(Config{Members: 30, Links: 20, Seed: 5})
		defer l.Stop()
		for i := range 10 {
			l.Register(fmt.Sprint("name ", i))
		}
		for _, e := range Events {
			l.Happen(e)
			l.Run(5 * time.Second)
		}
		l.Run(Settle)
		return fmt.Sprint(l.Updates, l.Packets, l.Lost)
	}
	if a, b := count(), count(); a != b {
		t.Errorf("one run counts %s, the other %s", a, b)
	}
}

// Each fault that is planted is found, by the check that is there for it.
func TestFaults(t *testing.T) {
	notRaced(t)
	for _, c := range []struct {
		fault  string
		policy pff.Policy
		want   string // what is found
	}{
		{"a way is one that was", pff.Simple, "has no way to"},
		{"a packet goes to another neighbour", pff.Simple, "has no end, or is longer"},
		{"a packet goes to another neighbour", pff.Simple, "in a circle"},
		{"one direction makes an adjacency", pff.Simple, "has a way to"},
		{"an adjacency is never forgotten", pff.Simple, "has a way to one that is no more"},
		{"an update goes back", pff.Simple, "in the same direction"},
		{"a name is never taken back", pff.Simple, ", want 0"},
		{"a name is told to nobody", pff.Simple, " at 0, want"},
		{"an answer comes twice", pff.Simple, "is answered twice"},
		{"an answer is lost", pff.Simple, "has no answer"},
		{"an endpoint id is shared", pff.Simple, "to two flows"},
		{"a flow is never given up", pff.Simple, "still has"},
		{"an alternate leads back", pff.LFA, "leads back"},
		{"a packet takes a longer way in turn", pff.ECMP, "hops from it"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			var all []string
			for s := uint64(1); s < 30; s++ {
				all = run(Config{Members: 12, Links: 6, Policy: c.policy, Seed: s, Fault: c.fault}, 6, 3)
				for _, w := range all {
					if strings.Contains(w, c.want) {
						return
					}
				}
			}
			t.Errorf("nobody finds it; the last layer says %q", all)
		})
	}
}
