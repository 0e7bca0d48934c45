package operf

import (
	"reflect"
	"testing"

	"o7s/applets/internal/measure"
)

// FuzzFirstPacket: no first packet of a flow makes the server panic or take a
// plan that is out of bounds; and what it understands it understands the same
// way when it is written down.
func FuzzFirstPacket(f *testing.F) {
	f.Add(measure.Control(measure.Hello, typeBi, &plan{Test: "t", Streams: 1, Size: minSize, Duration: 1}))
	f.Fuzz(func(t *testing.T, p []byte) {
		pl, ok := firstPacket(p)
		if !ok {
			if pl != nil {
				t.Fatalf("refused, and understood as %+v", pl)
			}
			return
		}
		if pl.base {
			if len(p) != baseHello {
				t.Fatalf("%d bytes are taken for the base form", len(p))
			}
			return
		}
		if pl.Size < minSize || pl.Size > maxSize || pl.Duration <= 0 || pl.Duration > maxDuration ||
			!(pl.Rate >= 0 && pl.Rate <= 1e15) || pl.Streams < 1 || pl.Streams > maxStreams {
			t.Fatalf("a plan out of bounds: %+v", pl)
		}
		again, ok := firstPacket(measure.Control(measure.Hello, pl.word(), pl))
		if !ok || !reflect.DeepEqual(again, pl) {
			t.Fatalf("%+v became %+v, %v", pl, again, ok)
		}
	})
}
