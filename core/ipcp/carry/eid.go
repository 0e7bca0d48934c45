package carry

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"

	"o7s/core"
)

// IDs says which endpoint ids a wire has. An id is a slot in its low bits and a
// generation above. The generation, and the time that a slot rests after its use,
// keep packets of an earlier flow out of a later one. Where there is no room for
// a generation the first slot is a random one: so an IPCP that has started again
// does not use the ids of the one before.
type IDs struct {
	First, Last uint64 // the slots
	Bits        int    // of the whole id
}

// The spaces of the layer types.
var (
	// IDs31 are non-zero and have 31 bits: the C prototype keeps them in a
	// signed integer.
	IDs31 = IDs{First: 1, Last: 1<<16 - 1, Bits: 31}
	// IDs16 have 16 bits: 0 is for management, 65535 is not used.
	IDs16 = IDs{First: 1, Last: 0xfffe, Bits: 16}
	// IDs64 are those of a unicast layer: the first are its components'.
	IDs64 = IDs{First: 64, Last: 1<<32 - 1, Bits: 64}
	// IDsSAP are the service access points of LLC.
	IDsSAP = IDs{First: 2, Last: 63, Bits: 6}
)

// maxRest bounds how many slots rest.
const maxRest = 1024

// slots holds the flows by their endpoint ids. find may be called by anybody; the
// others under Flows.mu.
type slots[P comparable] struct {
	ids   IDs
	low   int                                       // bits of the slot
	table atomic.Pointer[[]atomic.Pointer[flow[P]]] // by slot; grows

	gens  []uint32 // by slot: the last generation
	start uint64   // the first slot that was used, counted from IDs.First
	fresh uint64   // how many slots were ever used
	rest  []uint64 // slots that were used, the longest ago first
	used  int
}

// init says which ids there are.
func (s *slots[P]) init(ids IDs) {
	s.ids, s.low = ids, bits.Len64(ids.Last)
	if s.low == ids.Bits {
		s.start = rand.Uint64N(ids.Last - ids.First + 1)
	}
}

// find returns the flow with that id, or nil.
func (s *slots[P]) find(eid uint64) *flow[P] {
	t := s.table.Load()
	slot := eid & (1<<s.low - 1)
	if t == nil || slot >= uint64(len(*t)) {
		return nil
	}
	if fl := (*t)[slot].Load(); fl != nil && fl.eid == eid {
		return fl
	}
	return nil
}

// add gives fl an id.
func (s *slots[P]) add(fl *flow[P]) error {
	slots := s.ids.Last - s.ids.First + 1
	var slot uint64
	switch {
	case uint64(len(s.rest)) > min(maxRest, slots/2), s.fresh == slots && len(s.rest) > 0:
		slot, s.rest = s.rest[0], s.rest[1:]
	case s.fresh < slots:
		slot = s.ids.First + (s.start+s.fresh)%slots
		s.fresh++
	default:
		return fmt.Errorf("%w: all %d endpoint ids are in use", core.ErrLimit, slots)
	}
	s.grow(slot)
	gen := s.gens[slot] + 1
	if gen == 1 { // a slot that was never used
		gen = rand.Uint32()
	}
	s.gens[slot] = max(gen, 1)
	genBits := s.ids.Bits - s.low
	fl.eid = uint64(gen)&(1<<genBits-1)<<s.low | slot
	(*s.table.Load())[slot].Store(fl)
	s.used++
	return nil
}

// grow makes room for slot.
func (s *slots[P]) grow(slot uint64) {
	t := s.table.Load()
	if t != nil && slot < uint64(len(*t)) {
		return
	}
	n := min(max(64, 2*slot), s.ids.Last+1)
	bigger := make([]atomic.Pointer[flow[P]], n)
	if t != nil {
		for i := range *t {
			bigger[i].Store((*t)[i].Load())
		}
	}
	s.table.Store(&bigger)
	gens := make([]uint32, n)
	copy(gens, s.gens)
	s.gens = gens
}

// remove frees the id of fl, once.
func (s *slots[P]) remove(fl *flow[P]) {
	slot := fl.eid & (1<<s.low - 1)
	if s.find(fl.eid) != fl {
		return
	}
	(*s.table.Load())[slot].Store(nil)
	s.rest = append(s.rest, slot)
	s.used--
}

// all returns the flows, in the order of their slots.
func (s *slots[P]) all() []*flow[P] {
	all := make([]*flow[P], 0, s.used)
	if t := s.table.Load(); t != nil {
		for i := range *t {
			if fl := (*t)[i].Load(); fl != nil {
				all = append(all, fl)
			}
		}
	}
	return all
}
