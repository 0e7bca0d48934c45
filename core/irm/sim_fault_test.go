package irm

import (
	"testing"
	"testing/synctest"
)

// simPlanted is faults that are planted in the Manager and its registry, each
// where fault is asked for its name. The simulation has to find them.
var simPlanted = []string{
	"credit is lost with a flow that never arrives",
	"an id is never free again",
	"an end of memory stays open",
	"an allocation is answered twice",
	"a time-out comes too late",
	"a name stays bound to a process that has gone",
	"a flow still waits when a process accepts again",
	"anybody binds anybody's process",
	"a process does not hear that its flow is down",
	"effects are carried out in another order",
	"the server's end stays when the client has given up",
	"calls about one name cross",
	"an instance is counted when it has ended",
	"an instance is not bound under another path",
	"anybody unbinds anybody's programs",
	"anybody registers names by listening",
	"IPCPs outlive the IRM",
	"instances outlive the IRM",
}

// simFaultSeeds is how many seeds a fault may take: some need a rare schedule.
const simFaultSeeds = 64

// TestSimulationFindsFaults plants each fault and demands that a seed finds it.
func TestSimulationFindsFaults(t *testing.T) {
	for _, fault := range simPlanted {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= simFaultSeeds; seed++ {
				var err error
				step := 0
				synctest.Test(t, func(t *testing.T) {
					w := newSim(seed, fault)
					w.live(simLife)
					err, step = w.err, w.failedAt
				})
				if err != nil {
					t.Logf("seed %d, step %d: %v", seed, step, err)
					return
				}
			}
			t.Error("not found")
		})
	}
}
