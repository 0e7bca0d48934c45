package flow

import "testing"

func TestReaderHoldsStillOnlyInAOneWayStream(t *testing.T) {
	type wait struct {
		sent, got uint64
		quick     bool
		delayed   bool // wanted
	}
	for _, tt := range []struct {
		name  string
		waits []wait
	}{
		{"after four quick waits in a row, as long as batches come", []wait{
			{0, 1, true, false}, {0, 2, true, false}, {0, 3, true, false}, {0, 4, true, false},
			{0, 5, true, true}, {0, 50, true, true}, {0, 58, true, true}, {0, 65, true, false},
		}},
		{"not if a wait was slow", []wait{
			{0, 1, true, false}, {0, 2, true, false}, {0, 3, true, false}, {0, 4, false, false},
			{0, 5, true, false}, {0, 6, true, false}, {0, 7, true, false}, {0, 8, true, false},
			{0, 9, false, true}, {0, 99, true, false},
		}},
		{"not if this end answers", []wait{
			{1, 1, true, false}, {2, 2, true, false}, {3, 3, true, false}, {4, 4, true, false},
			{5, 5, true, false}, {6, 6, true, false},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l gather
			for i, w := range tt.waits {
				if l.delay(w.sent, w.got); l.delayed != w.delayed {
					t.Fatalf("wait %d: delayed %v", i, l.delayed)
				}
				l.note(w.quick)
			}
		})
	}
}
