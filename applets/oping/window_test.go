package oping

import (
	"testing"

	"o7s/applets/internal/measure"
)

func TestWindow(t *testing.T) {
	type take struct {
		id       uint32
		sent     uint64
		late, ok bool
	}
	const far = 5 << 32
	tests := []struct {
		name  string
		takes []take
	}{
		{"nothing is sent", []take{{0, 0, false, false}}},
		{"in order", []take{{0, 1, false, true}, {1, 2, false, true}, {2, 3, false, true}}},
		{"not sent yet", []take{{1, 1, false, false}, {1<<32 - 1, 1, false, false}}},
		{"a duplicate", []take{{0, 1, false, true}, {0, 1, false, false}, {1, 2, false, true}, {0, 2, false, false}}},
		{"late", []take{{2, 3, false, true}, {0, 3, true, true}, {1, 3, true, true}, {0, 3, false, false}}},
		{"after a gap", []take{{0, 1, false, true}, {5, 6, false, true}, {3, 6, true, true}, {3, 6, false, false}}},
		{"a gap of the whole window", []take{
			{0, 1, false, true}, {measure.SequenceWindow, measure.SequenceWindow + 1, false, true},
			{0, measure.SequenceWindow + 1, false, false}, {1, measure.SequenceWindow + 1, true, true},
		}},
		{"a gap of more than the window", []take{
			{0, 1, false, true}, {3 * measure.SequenceWindow, 3*measure.SequenceWindow + 1, false, true},
			{2 * measure.SequenceWindow, 3*measure.SequenceWindow + 1, false, false}, {2*measure.SequenceWindow + 1, 3*measure.SequenceWindow + 1, true, true},
		}},
		{"ids that have wrapped around", []take{
			{1<<32 - 1, far, false, true}, {0, far + 1, false, true}, {1<<32 - 2, far + 1, true, true},
			{0, far + 1, false, false}, {1, far + 2, false, true},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w window
			for i, c := range tt.takes {
				if late, ok := w.take(c.id, c.sent); late != c.late || ok != c.ok {
					t.Fatalf("take %d, id %d of %d: late %v, ok %v, want %v, %v", i, c.id, c.sent, late, ok, c.late, c.ok)
				}
			}
		})
	}
}

// However long a run, every second packet lost: all first replies are taken,
// all duplicates are not.
func TestWindowLongRun(t *testing.T) {
	var w window
	for n := uint64(0); n < 3*measure.SequenceWindow; n += 2 {
		if late, ok := w.take(uint32(n), n+1); late || !ok {
			t.Fatalf("packet %d: late %v, ok %v", n, late, ok)
		}
		if _, ok := w.take(uint32(n), n+1); ok {
			t.Fatalf("packet %d is taken twice", n)
		}
		if n > 2 {
			if _, ok := w.take(uint32(n-1), n+1); !ok {
				t.Fatalf("packet %d, late by one, is not taken", n-1)
			}
		}
	}
}
