package carry

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"o7s/core"
)

// IDs says which endpoint ids a wire has. Ids are random. An attacker that does not see
// a flow's packets must guess its id to send a packet for it in the name of the other
// end. Nor do packets of an earlier flow get into a later one, unless there are few ids.
// For those cases an id rests after its use.
type IDs struct {
	First, Last uint64
	// High says how many random bits an id has above those of Last. If it has any, the
	// lower bits are not random: they count up.
	High int
}

// The spaces of the layer types.
var (
	// IDs31 are non-zero and have 31 bits: the C prototype keeps them in a
	// signed integer.
	IDs31 = IDs{First: 1, Last: 1<<31 - 1}
	// IDs16 have 16 bits: 0 is for management, 65535 is not used.
	IDs16 = IDs{First: 1, Last: 0xfffe}
	// IDs64 are those of a unicast layer, whose components have the first ones. The
	// lower half names a flow in logs.
	IDs64 = IDs{First: 64, Last: 1<<32 - 1, High: 32}
	// IDsSAP are the service access points of LLC.
	IDsSAP = IDs{First: 2, Last: 63}
)

// n returns how many ids there are at a time.
func (ids IDs) n() uint64 { return ids.Last - ids.First + 1 }

const (
	// maxRest bounds how many ids rest.
	maxRest = 1024
	// minTable is how many slots there are at first.
	minTable = 64
)

// slots holds the flows by their endpoint ids. Any goroutine may call find; the other
// methods need Flows.mu.
type slots[P comparable] struct {
	ids IDs
	// table has the flow of an id at the slot that its low bits say. No two flows
	// share one. The length is a power of two, and grows.
	table   atomic.Pointer[[]atomic.Pointer[flow[P]]]
	rest    []uint64 // ids that were used, the longest ago first
	resting map[uint64]bool
	used    int
	added   uint64 // how many flows were added
}

// init makes s empty, for ids.
func (s *slots[P]) init(ids IDs) {
	s.ids, s.resting = ids, make(map[uint64]bool)
	t := make([]atomic.Pointer[flow[P]], minTable)
	s.table.Store(&t)
}

// slot returns the slot of an id.
func (s *slots[P]) slot(eid uint64) *atomic.Pointer[flow[P]] {
	t := *s.table.Load()
	return &t[eid&uint64(len(t)-1)]
}

// find returns the flow with that id, or nil.
func (s *slots[P]) find(eid uint64) *flow[P] {
	if fl := s.slot(eid).Load(); fl != nil && fl.eid == eid {
		return fl
	}
	return nil
}

// add gives fl an id.
func (s *slots[P]) add(fl *flow[P]) error {
	n := s.ids.n()
	if uint64(s.used) == n {
		return fmt.Errorf("%w: all %d endpoint ids are in use", core.ErrLimit, n)
	}
	s.grow()
	var b [8]byte
	rand.Read(b[:])
	random := binary.NativeEndian.Uint64(b[:])
	start, high := random%n, uint64(0)
	if s.ids.High > 0 {
		start, high = s.added%n, random>>(64-s.ids.High)<<(64-s.ids.High)
	}
	s.added++
	fl.eid = 0
	// Where there are many ids at least half of the slots are free, so this takes
	// few steps.
	for i := range n {
		eid := high | s.ids.First + (start+i)%n
		if s.slot(eid).Load() == nil && !s.resting[eid] {
			fl.eid = eid
			break
		}
	}
	if fl.eid == 0 { // all free ids rest
		fl.eid = s.wakeOne()
	}
	s.slot(fl.eid).Store(fl)
	s.used++
	return nil
}

// grow makes sure that at least half of the slots are free, or that there is a slot for
// each id.
func (s *slots[P]) grow() {
	old := *s.table.Load()
	n := uint64(len(old))
	if 2*uint64(s.used+1) <= n || n > s.ids.Last {
		return
	}
	// Two flows that did not share a slot do not share one of a longer table.
	t := make([]atomic.Pointer[flow[P]], 2*n)
	for i := range old {
		if fl := old[i].Load(); fl != nil {
			t[fl.eid&(2*n-1)].Store(fl)
		}
	}
	s.table.Store(&t)
}

// wakeOne returns the id that has rested longest, which rests no more.
func (s *slots[P]) wakeOne() uint64 {
	eid := s.rest[0]
	s.rest = s.rest[1:]
	delete(s.resting, eid)
	return eid
}

// remove frees the id of fl, once.
func (s *slots[P]) remove(fl *flow[P]) {
	if s.find(fl.eid) != fl {
		return
	}
	s.slot(fl.eid).Store(nil)
	s.used--
	s.rest = append(s.rest, fl.eid)
	s.resting[fl.eid] = true
	if uint64(len(s.rest)) > min(maxRest, s.ids.n()/2) {
		s.wakeOne()
	}
}

// all returns the flows, in no particular order.
func (s *slots[P]) all() []*flow[P] {
	all := make([]*flow[P], 0, s.used)
	t := *s.table.Load()
	for i := range t {
		if fl := t[i].Load(); fl != nil {
			all = append(all, fl)
		}
	}
	return all
}
