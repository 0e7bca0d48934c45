package carry

import (
	"strconv"

	"o7s/core/view"
)

// Facts returns what people may want to know of the flows: how many there are,
// what passed, and of what was dropped the kinds that have occurred.
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

func number(name string, n uint64) view.Fact {
	return view.Fact{Name: name, Value: strconv.FormatUint(n, 10)}
}
