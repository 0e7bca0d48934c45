package carry

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"testing"

	"o7s/core"
)

// TestIDs: in every space the ids are those of the wire, no two flows share one,
// and one that was used does not come again soon.
func TestIDs(t *testing.T) {
	for name, ids := range map[string]IDs{
		"31 bits": IDs31, "16 bits": IDs16, "LLC": IDsSAP, "64 bits": IDs64,
	} {
		t.Run(name, func(t *testing.T) {
			var s slots[string]
			s.init(ids)
			rnd := rand.New(rand.NewPCG(1, 2))
			var flows []*flow[string]
			last := make(map[uint64]int) // when an id was last used
			for i := range 20000 {
				if len(flows) > int(min(ids.n()/4, 300)) || len(flows) > 0 && rnd.IntN(2) == 0 {
					j := rnd.IntN(len(flows))
					fl := flows[j]
					flows = append(flows[:j], flows[j+1:]...)
					s.remove(fl)
					s.remove(fl) // does nothing
					last[fl.eid] = i
					if s.find(fl.eid) != nil {
						t.Fatalf("id %#x is found after its flow", fl.eid)
					}
					continue
				}
				fl := &flow[string]{}
				if err := s.add(fl); err != nil {
					t.Fatal(err)
				}
				if low := fl.eid << ids.High >> ids.High; low < ids.First || low > ids.Last {
					t.Fatalf("id %#x is not one of %+v", fl.eid, ids)
				}
				if s.find(fl.eid) != fl {
					t.Fatalf("id %#x is not found", fl.eid)
				}
				if was, ok := last[fl.eid]; ok && i-was < int(min(ids.n()/4, maxRest)) {
					t.Fatalf("id %#x comes again after %d steps", fl.eid, i-was)
				}
				flows = append(flows, fl)
			}
			if len(s.all()) != len(flows) || s.used != len(flows) {
				t.Errorf("%d flows and %d used, want %d", len(s.all()), s.used, len(flows))
			}
			for range 10000 { // whatever comes from outside
				if fl := s.find(rnd.Uint64() >> rnd.IntN(64)); fl != nil && s.find(fl.eid) != fl {
					t.Error("another flow is found")
				}
			}
		})
	}
}

// TestIDsEnd: a space that is used up is an error, and one that is left is found.
func TestIDsEnd(t *testing.T) {
	var s slots[string]
	s.init(IDsSAP)
	var flows []*flow[string]
	for range 62 {
		fl := &flow[string]{}
		if err := s.add(fl); err != nil {
			t.Fatal(err)
		}
		flows = append(flows, fl)
	}
	if err := s.add(&flow[string]{}); !errors.Is(err, core.ErrLimit) {
		t.Errorf("the 63rd of 62 ids: error %v", err)
	}
	s.remove(flows[17])
	fl := &flow[string]{}
	if err := s.add(fl); err != nil || fl.eid != flows[17].eid {
		t.Errorf("id %d, error %v; want the free one, %d", fl.eid, err, flows[17].eid)
	}
}

// TestIDsGuessed: who knows the ids of some flows, which have ended or not, knows
// nothing of the next one: each of its bits is 0 as often as 1. Where some are above
// those that count, that holds for them.
func TestIDsGuessed(t *testing.T) {
	const n = 4000
	for _, ids := range []IDs{IDs31, IDs16, IDs64} {
		for _, ends := range []bool{false, true} {
			var s slots[string]
			s.init(ids)
			var set, changed [64]int
			var last uint64
			for range n {
				fl := &flow[string]{}
				if err := s.add(fl); err != nil {
					t.Fatal(err)
				}
				for _, b := range random(ids) {
					set[b] += int(fl.eid >> b & 1)
					changed[b] += int((fl.eid ^ last) >> b & 1)
				}
				if last = fl.eid; ends {
					s.remove(fl)
				}
			}
			for _, b := range random(ids) {
				for what, got := range map[string]int{"is set": set[b], "changes": changed[b]} {
					if got < n*2/5 || got > n*3/5 { // 12 standard deviations
						t.Errorf("%+v, flows that end %v: bit %d %s in %d of %d ids", ids, ends, b, what, got, n)
					}
				}
			}
		}
	}
}

// random returns the bits of an id that are random.
func random(ids IDs) (all []int) {
	for b := range 64 {
		if ids.High == 0 && b < bits.Len64(ids.Last) || b >= 64-ids.High {
			all = append(all, b)
		}
	}
	return all
}
