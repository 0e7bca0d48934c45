// Package flow is one end of a flow: packets out and in over memory that both
// ends share, with deadlines, waking and the peer's end. It does not know
// names, the IRMd or how the memory came here.
//
// The writer copies a packet into a ring, and the reader copies it out. While both
// are busy they make no system call. An end with nothing to do spins for at most
// 20 us. Then it sleeps in Go's poller on the bell, a socket to the peer. The
// shared memory says that the end sleeps, and only then the peer writes to the
// bell.
//
// The peer may be hostile; see package ring. The worst it can do is to end the
// flow, or to be silent.
package flow

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/lock"
	"o7s/ipc/internal/ring"
	"o7s/ipc/internal/shm"
	"o7s/ipc/internal/sys"
)

const (
	// MinRing, MaxRing and DefaultRing are bytes of ring in each direction,
	// always a power of two. Only pages that were written to take memory: an
	// idle flow takes one. Smaller rings are slower between two cores: the
	// writer then writes to cache lines that the reader has just read.
	MinRing     = ring.MinSize
	MaxRing     = ring.MaxSize
	DefaultRing = 4 << 20

	// RecordMore is how many bytes of ring a packet takes at most, beside its own.
	RecordMore = 15
)

// Kit is the descriptors of one flow: its memory and the two ends of its bell. The
// IRMd makes it and passes them on. A descriptor that was given away is -1.
type Kit struct {
	Mem  int
	Bell [2]int
	Ring int // bytes of ring in each direction
}

// NewKit makes a flow. ring is a power of two from MinRing to MaxRing, else the
// error wraps core.ErrUsage; it wraps core.ErrLimit if there are no descriptors
// or memory left. All descriptors are close-on-exec.
//
// A process that passes descriptors to others must close its own copies: the death
// of an end is noticed only when the last copy of its bell is closed.
func NewKit(size int) (*Kit, error) {
	if err := ring.CheckSize(size); err != nil {
		return nil, err
	}
	mem, err := shm.Create(ring.Bytes(size))
	if err != nil {
		return nil, fmt.Errorf("make a flow: %w", err)
	}
	bell, err := shm.NewBell()
	if err != nil {
		sys.Close(mem)
		return nil, fmt.Errorf("make a flow: %w", err)
	}
	return &Kit{Mem: mem, Bell: bell, Ring: size}, nil
}

// Close closes the descriptors that are left. It may be called again.
func (k *Kit) Close() error {
	k.CloseMem()
	k.CloseBell(0)
	k.CloseBell(1)
	return nil
}

// CloseMem closes Mem, unless that is done or it was given away.
func (k *Kit) CloseMem() { closeOnce(&k.Mem) }

// CloseBell closes one end of the bell, unless that is done or it was given away. Two
// goroutines may close the two ends at once.
//
// A hostile process that got a copy of that end, and closed its copy first, can
// make this call wait for as long as it likes. The last close takes the socket out
// of every epoll instance that watches it, and waits for the lock of each instance.
// The hostile process may hold that lock, in a page fault of its own making. This
// call does not tell Go's scheduler, so the whole process would wait. If that
// process is not to be trusted, call TakeBell and close the descriptor with
// unix.Close in a goroutine.
func (k *Kit) CloseBell(side int) { closeOnce(&k.Bell[side]) }

// TakeBell gives away one end of the bell.
func (k *Kit) TakeBell(side int) int {
	fd := k.Bell[side]
	k.Bell[side] = -1
	return fd
}

func closeOnce(fd *int) {
	if *fd >= 0 {
		sys.Close(*fd)
		*fd = -1
	}
}

// Open opens the end of side, 0 or 1, in this process, and gives that end of the
// bell away. Each side can be opened once.
func (k *Kit) Open(side int) (*End, error) {
	if side != 0 && side != 1 {
		return nil, fmt.Errorf("%w: side %d of a flow", core.ErrUsage, side)
	}
	mem, err := unix.FcntlInt(uintptr(k.Mem), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a flow: dup: %w", err)
	}
	return Open(side, mem, k.TakeBell(side), k.Ring)
}

// End is one end of a flow. Several goroutines may call every method at once. All
// calls that read share one lock, all that write another. So each call's packet is
// whole, and readers that wait take turns.
//
// The owner must Close it: the rings stay mapped until then.
//
// Errors are sentinels of core, some wrapped. They are made beforehand, so that no
// error on a busy path allocates memory:
//   - core.ErrClosed: this end was closed before, or is being closed
//   - core.ErrTimeout: the deadline passed (os.ErrDeadlineExceeded too)
//   - io.EOF: the other end closed the flow, or its writing half, and every
//     packet before that is read
//   - core.ErrFlowDown: the other end died; or, from Write and its like,
//     closed the flow: then also syscall.EPIPE. Or the error given to Fail
//   - core.ErrCorrupt: the other end broke the rules of the shared memory;
//     from then on every call gives it
//   - core.ErrUsage, core.ErrLimit, core.ErrState, io.ErrShortBuffer: as each
//     method says
type End struct {
	r reader
	_ [64]byte // reading and writing goroutines change other cache lines
	w writer
	_ [64]byte

	bell bell
	fail atomic.Pointer[error] // set once, by Fail

	member atomic.Pointer[member] // of the set that watches it

	mem []byte // nil when unmapped; guarded by both half.mu, the reader's first
}

// half is what the two directions of an End have in common.
type half struct {
	mu       lock.Lock     // one call at a time; held while it waits
	flags    atomic.Uint32 // bits below: 0 if nothing prevents a call
	lent     bool          // by Peek or Reserve; guarded by mu
	asleep   atomic.Bool   // the holder of mu waits in the poller
	deadline atomic.Int64  // in ns since epoch, 0: none
	spin     spinner
	packets  atomic.Uint64 // what Counters returns while asleep
	bytes    atomic.Uint64
}

// Bits of half.flags. All but flagDeadline stay once they are set.
const (
	flagClosed   = 1 << iota // Close was called: the memory may be gone
	flagPeer                 // the peer broke the rules
	flagFailed               // Fail was called
	flagDead                 // the bell says that the other end is closed
	flagShut                 // CloseWrite was called (writer)
	flagDeadline             // deadline is set
)

// fast reports that nothing prevents a call: it can go straight to the ring. The
// caller holds h.mu.
func (h *half) fast() bool { return h.flags.Load() == 0 && !h.lent }

type reader struct {
	half
	ring   ring.Consumer
	gather gather
	poll   func(uintptr) bool // e.pollRead, made once

	tries uint // of TryReadPacket that found nothing
}

type writer struct {
	half
	ring ring.Producer
	need int // bytes of the packet that pollWrite waits for

	largest, cut int   // see Bound
	tooLarge     error // for a packet of more than largest

	checkDue atomic.Bool // the end is among the peerChecks

	lastPos     uint64 // position at the last Reclaim
	reclaimedAt uint64 // position when the memory was last given back

	poll func(uintptr) bool // e.pollWrite, made once
}

// process is this process's number in the shared memory. A peer that finds its own
// number there is in the same process, and waits in another way.
var process = rand.Uint64() | 1

// Open maps the end of side, 0 or 1, of a flow. mem is a memfd made by NewKit, and
// bell one end of its bell. size is the bytes of ring in each direction; both sides
// know it by other means than the memory itself. Open takes ownership of both
// descriptors in every case. It checks them: if they are not what they should be,
// the error wraps core.ErrUsage.
//
// The memory must be new: of each side only one end is ever opened.
func Open(side int, mem, bell, size int) (*End, error) {
	e, err := openEnd(side, mem, bell, size)
	if err != nil {
		unix.Close(bell) // may be any kind of file, so sys.Close could wait
		return nil, fmt.Errorf("open a flow: %w", err)
	}
	return e, nil
}

// openEnd is Open; it leaves bell open on error.
func openEnd(side int, mem, bell, size int) (*End, error) {
	if err := ring.CheckSize(size); err != nil || side != 0 && side != 1 {
		unix.Close(mem)
		if err == nil {
			err = fmt.Errorf("%w: side %d", core.ErrUsage, side)
		}
		return nil, err
	}
	m, err := shm.Map(mem, ring.Bytes(size))
	if err != nil {
		return nil, err
	}
	if err := shm.CheckBell(bell); err != nil {
		shm.Unmap(m)
		return nil, err
	}
	e := &End{mem: m}
	e.bell.fd = bell
	if e.w.ring, err = ring.NewProducer(m, size, side); err == nil {
		e.r.ring, err = ring.NewConsumer(m, size, 1-side)
	}
	if err != nil {
		shm.Unmap(m)
		return nil, err
	}
	e.r.poll, e.w.poll = e.pollRead, e.pollWrite
	e.w.largest, e.w.cut, e.w.tooLarge = core.MaxPacket, core.MaxPacket, errPacketSize
	e.w.ring.SetProcess(process)
	return e, nil
}

// Bound limits packets to what the path to the other end carries. A packet may have
// at most largest bytes, and Write sends packets of at most cut bytes. Call it before
// the end is used.
func (e *End) Bound(largest, cut int) {
	e.w.largest = min(max(largest, 1), core.MaxPacket)
	e.w.cut = min(max(cut, 1), e.w.largest)
	e.w.tooLarge = fmt.Errorf("%w: a packet on this flow has 1 to %d bytes", core.ErrUsage, e.w.largest)
}

// MaxPacket returns the most bytes of a packet that may be written.
func (e *End) MaxPacket() int { return e.w.largest }

// Counters are the packets and bytes of payload that one end wrote, and that it
// read as whole packets.
type Counters struct {
	PacketsIn, BytesIn   uint64
	PacketsOut, BytesOut uint64
}

// Counters returns what this end wrote and read so far, also after Close. It does
// not wait for a call that is blocked.
func (e *End) Counters() Counters {
	var c Counters
	if e.r.enter() {
		c.PacketsIn, c.BytesIn = e.r.ring.Packets, e.r.ring.Bytes
		e.r.mu.Unlock()
	} else {
		c.PacketsIn, c.BytesIn = e.r.packets.Load(), e.r.bytes.Load()
	}
	if e.w.enter() {
		c.PacketsOut, c.BytesOut = e.w.ring.Packets, e.w.ring.Bytes
		e.w.mu.Unlock()
	} else {
		c.PacketsOut, c.BytesOut = e.w.packets.Load(), e.w.bytes.Load()
	}
	return c
}
