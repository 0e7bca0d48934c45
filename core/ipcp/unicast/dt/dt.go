// Package dt is data transfer in a unicast layer: the header of each packet
// between members, and the table that says where a packet goes next.
package dt

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"o7s/core"
	"o7s/core/ipcp"
)

// HeaderLen is the length of a header, in bytes.
const HeaderLen = 15

// Header is in front of each packet between two members.
type Header struct {
	Dst  uint32 // address of the member that it is for
	Cube uint8  // class of forwarding
	TTL  uint8
	ECN  uint8  // how congested the way was so far
	EID  uint64 // of the receiver: a component's, or a flow's
}

// The endpoint ids of a member's components. Flows have those from FirstFlow on.
const (
	FlowAllocator = 0
	Directory     = 1
	FirstFlow     = 64
)

// Put writes h into b.
func (h Header) Put(b *[HeaderLen]byte) {
	binary.LittleEndian.PutUint32(b[:], h.Dst)
	b[4], b[5], b[6] = h.Cube, h.TTL, h.ECN
	binary.LittleEndian.PutUint64(b[7:], h.EID)
}

// Parse returns the header of the packet p.
func Parse(p []byte) (Header, error) {
	if len(p) < HeaderLen {
		return Header{}, fmt.Errorf("%w: a packet of %d bytes has no header of %d", core.ErrMessage, len(p), HeaderLen)
	}
	return Header{
		Dst:  binary.LittleEndian.Uint32(p),
		Cube: p[4], TTL: p[5], ECN: p[6],
		EID: binary.LittleEndian.Uint64(p[7:]),
	}, nil
}

// Hop is a flow to a neighbour.
type Hop struct {
	Flow ipcp.Lower
	Addr uint64
	Max  int // bytes of the largest packet, with its header

	down atomic.Bool
}

// SetDown says that no packet can be sent on h any more. From then on every Table with h
// in it returns other hops.
func (h *Hop) SetDown() { h.down.Store(true) }

// Down reports whether SetDown was called.
func (h *Hop) Down() bool { return h.down.Load() }

// Route has the ways to one member, the first choice first.
type Route struct {
	Hops []*Hop
	// Spread says that they are taken in turn, packet by packet.
	Spread bool
	turn   atomic.Uint32
}

// Next returns the flow for the next packet; nil: all are down.
func (r *Route) Next() *Hop {
	first := 0
	if r.Spread && len(r.Hops) > 1 {
		first = int(r.turn.Add(1) % uint32(len(r.Hops)))
	}
	for i := range r.Hops {
		if h := r.Hops[(first+i)%len(r.Hops)]; !h.Down() {
			return h
		}
	}
	return nil
}

// Table has the routes by the address of the member that packets are for. It is never
// changed: a new one replaces it.
type Table map[uint32]*Route

// Next returns the flow for the next packet to dst; nil: there is no way.
func (t Table) Next(dst uint32) *Hop {
	if r := t[dst]; r != nil {
		return r.Next()
	}
	return nil
}
