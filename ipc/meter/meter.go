// Package meter reads how far the rings of a flow have come, from outside the
// flow: it costs the two ends nothing, and what they write there can mislead
// the reader of their own flow's figures alone. It maps no memory.
package meter

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Where the words are in the header page: see ipc/internal/ring. The test
// holds the two together.
const (
	direction = 1024 // bytes from one direction's words to the other's
	wposAt    = 0
	rposAt    = 128
)

// Direction is the two positions of one direction, in bytes since the flow
// was made: what its end has written and what the other end has let go of. A
// reader that is busy says so only now and then. Positions count the header of
// 8 bytes and the padding of each packet, and the room that is skipped where
// the ring starts again at its beginning.
type Direction struct{ Written, Read uint64 }

// Read returns the positions of both directions of the flow whose memory is
// the memfd mem; the first is the one that side 0 writes.
func Read(mem int) (d [2]Direction, err error) {
	var page [direction + rposAt + 8]byte
	n, err := unix.Pread(mem, page[:], 0)
	if err != nil || n != len(page) {
		return d, fmt.Errorf("read the header of a flow: %d bytes: %w", n, err)
	}
	for i := range d {
		at := i * direction
		d[i].Read = binary.NativeEndian.Uint64(page[at+rposAt:])
		d[i].Written = max(binary.NativeEndian.Uint64(page[at+wposAt:]), d[i].Read)
	}
	return d, nil
}
