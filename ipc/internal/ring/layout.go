package ring

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"o7s/core"
)

const (
	// MinSize and MaxSize bound the bytes of one direction. An empty ring of
	// MinSize has room for the largest packet and the skip before it,
	// wherever the producer's position is.
	MinSize = 256 << 10
	MaxSize = 1 << 30

	page     = 4096
	dirWords = 1024

	wposAt    = 0
	rposAt    = 128
	rwaitAt   = 256
	wwaitAt   = 384
	eofAt     = 512
	goneAt    = 640
	processAt = 768

	header   = 8
	skipMark = 0xffffffff

	// rewindMax is the offset from which the producer starts again at 0 when
	// the ring is empty. So a flow with few packets on their way stays in the
	// cache and uses few pages. A smaller value slows packets of 64 KiB down:
	// right after a rewind only the bytes before the old offset are free.
	rewindMax = 512 << 10

	// rewindEvery is how many bytes the producer writes between two checks
	// of whether the ring is empty and it can start again at 0.
	rewindEvery = 8 << 10

	// stallAfter is how many bytes Stalled lets pass between two checks. It
	// is small enough that they are still in the core's second cache when a
	// consumer on the same core reads them.
	stallAfter = 512 << 10
)

// The reasons for ErrCorrupt. They are made once: an error must not allocate
// memory here either.
var (
	errRpos   = fmt.Errorf("%w: its read position is out of range", core.ErrCorrupt)
	errWpos   = fmt.Errorf("%w: its write position is out of range", core.ErrCorrupt)
	errLength = fmt.Errorf("%w: a packet's length is out of range", core.ErrCorrupt)
	errSkip   = fmt.Errorf("%w: a skip where none can be", core.ErrCorrupt)
)

// CheckSize returns an error that wraps core.ErrUsage unless size, the bytes of
// one direction, is a power of two from MinSize to MaxSize.
func CheckSize(size int) error {
	if size < MinSize || size > MaxSize || bits.OnesCount(uint(size)) != 1 {
		return fmt.Errorf("%w: a ring of %d bytes, not a power of two from %d to %d", core.ErrUsage, size, MinSize, MaxSize)
	}
	return nil
}

// Bytes returns how much memory both directions of size bytes each take, with
// the header page.
func Bytes(size int) int { return page + 2*size }

// words are the shared words of one direction.
type words struct {
	wpos, rpos   *atomic.Uint64
	rwait, wwait *atomic.Uint32
	eof, gone    *atomic.Uint32
	process      *atomic.Uint64
}

// open returns the words and the ring of direction dir in mem.
func open(mem []byte, size, dir int) (words, []byte, error) {
	if err := CheckSize(size); err != nil {
		return words{}, nil, err
	}
	if len(mem) != Bytes(size) || dir < 0 || dir > 1 || !aligned(mem) {
		return words{}, nil, fmt.Errorf("%w: %d bytes for direction %d of rings of %d", core.ErrUsage, len(mem), dir, size)
	}
	at := dir * dirWords
	w := words{
		wpos:    word64(mem, at+wposAt),
		rpos:    word64(mem, at+rposAt),
		rwait:   word32(mem, at+rwaitAt),
		wwait:   word32(mem, at+wwaitAt),
		eof:     word32(mem, at+eofAt),
		gone:    word32(mem, at+goneAt),
		process: word64(mem, at+processAt),
	}
	start := page + dir*size
	return w, mem[start : start+size : start+size], nil
}

// recordSize returns what a packet of n bytes takes in the ring.
func recordSize(n int) uint64 { return uint64(n+header+7) &^ 7 }
