package flow

import (
	"fmt"

	"golang.org/x/sys/unix"

	"o7s/ipc/internal/ring"
)

// Positions count the bytes of one direction since the flow was made: those that one
// end has written, and those that the other end has read and given back. A busy reader
// gives bytes back only now and then. The counts include the header of 8 bytes and the
// padding of each packet, and the rest of the ring that is skipped at its end.
type Positions struct{ Written, Read uint64 }

// Positions reads how far both directions are. The first is the direction that side 0
// writes. It costs the two ends nothing and maps no memory. A hostile end can make the
// figures of its own flow wrong, and no others.
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
