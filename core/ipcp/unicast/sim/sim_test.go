package sim

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"o7s/core/ipcp/unicast/pff"
)

var (
	seed    = flag.Uint64("seed", 0, "the one seed to run")
	members = flag.Int("members", 60, "how many members a layer has")
)

// run runs one layer, and returns what is wrong with it.
func run(cfg Config, events int) []string {
	l := New(cfg)
	for i := range 10 {
		l.Register(fmt.Sprint("name ", i))
	}
	l.Run(Settle)
	wrong := l.Check()
	for i := 0; i < events && len(wrong) == 0; i++ {
		n := 1 + l.rnd.IntN(3)
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
	return wrong
}

// TestSim runs layers of 60 members over 20 seeds. A failing one runs again by its
// number: go test ./core/ipcp/unicast/sim -run TestSim -seed N. Larger layers take
// longer: -members 200 some 10 s a seed.
func TestSim(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 3
	}
	for s := uint64(1); s <= seeds; s++ {
		if *seed != 0 {
			s = *seed
		}
		cfg := Config{Members: *members, Links: *members / 3, Policy: pff.Policy(s % 3), Seed: s}
		for _, w := range run(cfg, 2) {
			t.Errorf("seed %d: %s", s, w)
		}
		if *seed != 0 {
			break
		}
	}
}

// TestSmall runs many small layers through many events.
func TestSmall(t *testing.T) {
	for s := uint64(100); s < 140; s++ {
		cfg := Config{Members: 2 + int(s%12), Links: int(s % 7), Policy: pff.Policy(s % 3), Seed: s}
		for _, w := range run(cfg, 12) {
			t.Errorf("seed %d: %s", s, w)
		}
	}
}

// The same seed gives the same layer.
func TestSeedRepeats(t *testing.T) {
	count := func() string {
		l := New(Config{Members: 30, Links: 20, Seed: 5})
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

// Each fault that is planted is found.
func TestFaults(t *testing.T) {
	for _, fault := range Faults {
		found := false
		for s := uint64(1); s < 30 && !found; s++ {
			found = len(run(Config{Members: 12, Links: 6, Seed: s, Fault: fault}, 6)) > 0
		}
		if !found {
			t.Errorf("%s, and nobody finds it", fault)
		}
	}
}
