package carry

import (
	"fmt"
	"strconv"
	"time"

	"o7s/core"
	"o7s/core/view"
)

// Facts returns how many flows there are, how many packets have passed, and why packets
// were dropped, as far as any were.
func (f *Flows[P]) Facts() []view.Fact {
	facts := []view.Fact{
		{Name: "flows across the wire", Value: strconv.Itoa(f.Carried())},
		number("packets sent", f.count.Sent.Load()),
		number("packets received", f.count.Received.Load()),
	}
	for _, drop := range []view.Fact{
		number("dropped, the process did not read", f.count.Full.Load()),
		number("dropped, for no flow here", f.count.Stray.Load()),
		number("dropped, too large for the way", f.count.TooLarge.Load()),
		number("requests refused, too many waited", f.count.Requests.Load()),
	} {
		if drop.Value != "0" {
			facts = append(facts, drop)
		}
	}
	return facts
}

// ShowFlow implements ipcp.FlowShower.
func (f *Flows[P]) ShowFlow(id core.FlowID) []view.Fact {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.byID[id]
	if fl == nil || fl.mem == nil {
		return nil
	}
	now := f.now()
	ago := func(t int64) string { return time.Duration(max(now-t, 0)).Round(time.Millisecond).String() + " ago" }
	keepalive := "none: the flow does not end when its other end is silent"
	if t := fl.qos.Timeout; t > 0 {
		keepalive = fmt.Sprintf("when nothing else was sent for %v; %v of silence end the flow", t/4, t)
	}
	facts := []view.Fact{
		{Name: "endpoint ids", Value: fmt.Sprintf("%d here, %d there", fl.eid, fl.remote)},
		{Name: "keepalive", Value: keepalive},
		{Name: "last sent", Value: ago(fl.sent.Load())},
		{Name: "last heard", Value: ago(fl.heard.Load())},
	}
	switch {
	case fl.state == ended:
		facts = append(facts, view.Fact{Name: "ended", Value: "the other end has gone; the process has not let go yet"})
	case fl.parked:
		facts = append(facts, view.Fact{Name: "waits", Value: "the wire is full"})
	}
	if n := fl.full.Load(); n > 0 {
		facts = append(facts, number("dropped, the process did not read", n))
	}
	if n := fl.tooLarge.Load(); n > 0 {
		facts = append(facts, number("dropped, too large for the way", n))
	}
	return facts
}

func number(name string, n uint64) view.Fact {
	return view.Fact{Name: name, Value: strconv.FormatUint(n, 10)}
}
