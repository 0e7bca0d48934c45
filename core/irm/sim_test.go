package irm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// The simulation is a whole node in one process: the Manager, IPCPs of three
// layer types and processes of several users. A random schedule, which its
// seed repeats, does operations and faults, delivers messages late and across
// each other, and stops threads in the middle of what they do. After each step
// invariants are checked (sim_check_test.go). Time is virtual.
//
//	sim_links_test.go   who runs when: queues, threads, links
//	sim_log_test.go     what happened
//	sim_ipcp_test.go    IPCPs at the end of links
//	sim_far_test.go     a layer whose other end is far away
//	sim_proc_test.go    processes at the end of links
//	sim_program_test.go programs, and processes that the IRM starts
//	sim_ops_test.go     what happens
//	sim_model_test.go   what the calls are expected to answer
//	sim_check_test.go   what is always true
//	sim_fault_test.go   faults planted on purpose, which it finds
var (
	simSeed  = flag.Uint64("sim.seed", 0, "simulate the life of a node with this seed alone")
	simSteps = flag.Int("sim.steps", 0, "simulate at least so many steps, of fresh seeds")
	simFault = flag.String("sim.fault", "", "simulate a node in which this fault is planted")
	simSends = flag.Bool("sim.sends", false, "simulate also that threads stop just before they send a message")
)

const (
	simLife  = 2500 // steps in the life of one node
	simFixed = 8    // seeds of the short form that are always the same
)

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		simulate(t, *simSeed)
		return
	}
	began, steps, seeds := time.Now(), 0, 0
	run := func(seed uint64) bool {
		steps += simulate(t, seed)
		seeds++
		return !t.Failed()
	}
	for seed := uint64(1); seed <= simFixed; seed++ {
		if !run(seed) {
			break
		}
	}
	for !t.Failed() && (seeds == simFixed || steps < *simSteps) {
		run(rand.Uint64() | 1<<32) // none of the fixed ones
	}
	t.Logf("%d seeds, %d steps, %.0f steps/s", seeds, steps, float64(steps)/time.Since(began).Seconds())
}

// TestSimulationRepeats shows that a seed is all there is to a schedule.
func TestSimulationRepeats(t *testing.T) {
	var traces [2]uint64
	for i := range traces {
		synctest.Test(t, func(t *testing.T) {
			w := newSim(7, "")
			w.live(simLife)
			traces[i] = w.trace
		})
	}
	if traces[0] != traces[1] {
		t.Errorf("the same seed took two ways: %x and %x", traces[0], traces[1])
	}
}

// simulate lives one life and returns its steps.
func simulate(t *testing.T, seed uint64) (steps int) {
	synctest.Test(t, func(t *testing.T) {
		w := newSim(seed, *simFault)
		w.live(simLife)
		steps = w.step
		if w.err != nil {
			lines := ""
			for _, l := range w.tail() {
				lines += "\n\t" + l
			}
			t.Errorf("seed %d, step %d: %v\nrepeat: go test ./core/irm -run TestSimulation$ -sim.seed %d%s", seed, w.failedAt, w.err, seed, lines)
		}
	})
	return steps
}

// fail keeps the first thing that is wrong. It may be called anywhere.
func (w *sim) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
		w.failedAt = w.step
		w.lines = append(w.lines, "HERE: "+w.err.Error())
	}
}

// wrong is fail for what is judged by what the Manager decided before: once it
// stops, it notes nothing any more.
func (w *sim) wrong(format string, args ...any) {
	if !w.over {
		w.fail(format, args...)
	}
}
