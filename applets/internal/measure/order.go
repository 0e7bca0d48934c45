package measure

import (
	"fmt"

	"o7s/core/frct"
)

// Order is what this end of some flows did so that packets come in order. What the
// other end did only that one knows.
type Order struct {
	SentAgain uint64 `json:"sent_again"`
	Early     uint64 `json:"came_early"` // before one that was sent earlier
	Missing   uint64 `json:"missing"`    // given up, where nothing is sent again
}

// OrderOf returns that, nil where none of flows keeps an order of its own.
func OrderOf(flows ...Flow) *Order {
	var o *Order
	for _, f := range flows {
		c, ok := f.(interface{ OrderStats() (frct.Stats, bool) })
		if !ok {
			continue
		}
		if st, ok := c.OrderStats(); ok {
			if o == nil {
				o = &Order{}
			}
			o.SentAgain += st.Retransmitted
			o.Early += st.Disordered
			o.Missing += st.Skipped
		}
	}
	return o
}

// Line returns o as a line for people, "" for nil.
func (o *Order) Line() string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("in order: %d sent again, %d came early, %d missing\n", o.SentAgain, o.Early, o.Missing)
}
