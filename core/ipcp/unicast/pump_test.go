package unicast

import (
	"testing"
	"time"

	"o7s/core/clock/clocktest"
	"o7s/core/ipcp"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/logs"
)

// narrow is a flow to another member that nobody reads.
type narrow struct {
	ipcp.Lower
	unread  int
	packets []dt.Header
}

func (n *narrow) Unread() int { return n.unread }
func (n *narrow) Publish()    {}

func (n *narrow) Put(head, _ []byte) (bool, error) {
	h, err := dt.Parse(head)
	n.packets = append(n.packets, h)
	return true, err
}

// marks returns the marks of the packets since the last call.
func (n *narrow) marks() (ecn []uint8) {
	for _, h := range n.packets {
		ecn = append(ecn, h.ECN)
	}
	n.packets = nil
	return ecn
}

// A member marks what it sends on, and what it sends of its own, where packets wait
// all the time; and it sends less of a flow whose receiver tells of marks.
func TestCongestion(t *testing.T) {
	for _, ecn := range []bool{true, false} {
		clk := clocktest.New(time.Unix(1000, 0))
		l := New(ipcp.Env{Clock: clk, Log: logs.Discard()}).(*layer)
		l.opt.ecn, l.opt.ttl, l.own = ecn, 60, 1
		flow := &narrow{unread: 1 << 20}
		a := &adjacency{Lower: flow, flow: flow, best: 1500}
		a.hop = &dt.Hop{Flow: a, Addr: 2, Max: 1500}
		l.table.Store(&dt.Table{2: {Hops: []*dt.Hop{a.hop}}})
		r := &reader{l: l}
		body := make([]byte, 1000)
		transit := func(ecn uint8) uint8 {
			r.forward(dt.Header{Dst: 2, TTL: 9, EID: 99, ECN: ecn}, body)
			a.transit = false
			r.dirty = nil
			return flow.marks()[0]
		}
		own := func() (taken int, mark uint8) {
			taken = l.Carry(2, 99, 77, [][]byte{body, body, body, body, body, body, body, body, body, body})
			if m := flow.marks(); len(m) > 0 {
				mark = m[0]
			}
			return taken, mark
		}
		if m := transit(0); m != 0 {
			t.Errorf("ecn %v: what waits for a moment is marked %d", ecn, m)
		}
		if n, m := own(); n != 10 || m != 0 {
			t.Errorf("ecn %v: %d packets with mark %d", ecn, n, m)
		}
		for range 10 {
			clk.Run(5 * time.Millisecond)
			transit(0)
		}
		if m := transit(0x80); m&0x80 == 0 || (m != 0x80) != ecn {
			t.Errorf("ecn %v: what waits is marked %#x", ecn, m)
		}
		if n, m := own(); n != 10 || (m != 0) != ecn {
			t.Errorf("ecn %v: %d packets of its own, with mark %d", ecn, n, m)
		}
		// The receiver tells of it all the time: there is a bound, and it shrinks.
		second := func() (sum int) {
			for range 1000 {
				l.cong.update(77, 4096)
				for range 10 {
					n, _ := own()
					sum += n
				}
				clk.Run(time.Millisecond)
			}
			return sum
		}
		before, after := second(), second()
		if ecn && (after >= before/2 || after == 0) {
			t.Errorf("%d packets a second, and then %d", before, after)
		}
		if !ecn && after != 100_000 {
			t.Errorf("without ecn %d packets", after)
		}
	}
}
