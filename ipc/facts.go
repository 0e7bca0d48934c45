package ipc

import (
	"strconv"
	"time"

	"o7s/core/frct"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// facts is the IRMd's question how a flow of this process stands, for
// "irm flow show".
func (s *session) facts(call *rpc.Call[irmctl.Facts], msg *irmctl.FlowRef) {
	s.mu.Lock()
	c := s.conns[msg.ID]
	s.mu.Unlock()
	r := irmctl.Facts{}
	if c != nil && c.stage != nil {
		if st, ok := c.stage.Stats(); ok {
			r.List = orderFacts(st)
		}
		if n := c.stage.Damaged(); n > 0 {
			r.List = append(r.List, view.Fact{Name: "damaged", Value: count(n)})
		}
	}
	_ = call.Reply(&r)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// orderFacts says how the protocol that keeps packets in order stands.
func orderFacts(st frct.Stats) []view.Fact {
	f := []view.Fact{
		{Name: "packets sent", Value: count(st.Sent)},
		{Name: "packets received", Value: count(st.Received)},
		{Name: "waiting to be read", Value: strconv.Itoa(st.Ready)},
		{Name: "in flight", Value: strconv.Itoa(st.InFlight)},
		{Name: "window", Value: strconv.Itoa(st.PeerWindow)},
	}
	if st.Congestion > 0 {
		f = append(f, view.Fact{Name: "congestion window", Value: strconv.Itoa(st.Congestion)})
	}
	if st.RTT > 0 {
		f = append(f, view.Fact{Name: "round trip", Value: st.RTT.Round(time.Microsecond).String() + ", at least " + st.MinRTT.Round(time.Microsecond).String()})
	}
	for _, c := range []struct {
		name string
		n    uint64
	}{
		{"sent again", st.Retransmitted}, {"of these in vain", st.Spurious}, {"time-outs", st.Timeouts},
		{"came again", st.Duplicates}, {"came early", st.Disordered}, {"missing", st.Skipped},
		{"had no room", st.NoRoom}, {"of no run", st.NoRun}, {"against the rules", st.Bad}, {"asked for the window", st.Asked},
	} {
		if c.n > 0 {
			f = append(f, view.Fact{Name: c.name, Value: count(c.n)})
		}
	}
	return f
}
