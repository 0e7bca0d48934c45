package flow

import (
	"fmt"

	"golang.org/x/sys/unix"

	"o7s/ipc/internal/ring"
)

// Positions are bytes since the flow was made, in one direction: what one end has
// written, and what the other end has let go of, which a busy reader says only
// now and then. They count the header of 8 bytes and the padding of each packet,
// and the room that is skipped where the ring starts again at its beginning.
type Positions struct{ Written, Read uint64 }

// Positions reads how far both directions are; the first is the one that side 0
// writes. It costs the two ends nothing and maps no memory. What an end writes
// there can make the figures of its own flow wrong, and no others.
func (k *Kit) Positions() (d [2]Positions, err error) {
	var start [ring.PositionsSize]byte
	n, err := unix.Pread(k.Mem, start[:], 0)
	if err != nil || n != len(start) {
		return d, fmt.Errorf("read the positions of a flow: %d bytes: %w", n, err)
	}
	for i := range d {
		d[i].Written, d[i].Read = ring.Positions(start[:], i)
	}
	return d, nil
}
