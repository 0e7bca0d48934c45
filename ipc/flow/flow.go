// Package flow is one end of a flow: packets out and in over memory that both
// ends share, with deadlines, waking and the peer's end. It does not know
// names, the IRMd or how the memory came here.
//
// A packet is copied into the ring by the writer and out of it by the reader;
// no system call is made while both are busy. Who finds nothing to do spins for
// at most 20 us, then sleeps in Go's poller on the bell, a socket that the peer
// rings only when the shared memory says that somebody sleeps.
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
	// always a power of two. Memory is taken as it is used: an idle flow
	// takes one page. Smaller rings are slower between two cores, since the
	// writer then writes where the reader has just read.
	MinRing     = ring.MinSize
	MaxRing     = ring.MaxSize
	DefaultRing = 4 << 20
)

// Kit is the memory of one flow and the two ends of its bell, as descriptors:
// what the IRMd makes and passes on. A descriptor that was given away is set
// to -1.
type Kit struct {
	Mem  int
	Bell [2]int
	Ring int // bytes of ring in each direction
}

// NewKit makes a flow. ring is a power of two from MinRing to MaxRing, else the
// error wraps core.ErrUsage; it wraps core.ErrLimit if there are no descriptors
// or memory left. All descriptors are close-on-exec.
//
// One that passes descriptors to other processes must close its own copies:
// the death of an end shows only when the last copy of its bell is closed.
func NewKit(size int) (*Kit, error) {
	if err := ring.CheckSize(size); err != nil {
		return nil, err
	}
	mem, err := shm.Create(ring.Bytes(size))
	if err != nil {
		return nil, fmt.Errorf("make a flow: %w", err)
	}
	bell, err := shm.Bell()
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

// CloseBell closes one end of the bell, unless that is done or it was given
// away. The two ends may be closed at once by two goroutines.
//
// A process that has got that end too, and has closed it first, can make this
// wait as long as it likes, and with it the whole of this process: the socket
// leaves every epoll instance that watches it, and waits for who holds that at
// the moment, in a page fault of his own making, say. Where such a process is
// not to be trusted, TakeBell, and let the scheduler know.
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

// Open opens the end of side, 0 or 1, in this process, and gives away that end
// of the bell. Each side can be opened once.
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

// Pair returns both ends of a new flow within this process. ring is as for
// NewKit.
func Pair(ring int) (*End, *End, error) {
	k, err := NewKit(ring)
	if err != nil {
		return nil, nil, err
	}
	defer k.Close()
	a, err := k.Open(0)
	if err != nil {
		return nil, nil, err
	}
	b, err := k.Open(1)
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// End is one end of a flow. Several goroutines may call every method at once.
// Read and its like share one lock, Write and its like another: each call's
// packet is whole, and those who wait for packets take turns.
//
// The owner must Close it: the rings stay mapped until then.
//
// Errors are sentinels of core, some wrapped, made beforehand, so that no error
// of a busy path takes memory:
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
	_ [64]byte // what the reading and the writing goroutine change is apart
	w writer
	_ [64]byte

	bell bell
	fail atomic.Pointer[error] // set once, by Fail

	member atomic.Pointer[member] // of the set that watches it

	mem []byte // nil when unmapped; guarded by both half.mu, the reader's first
}

// half is what the two directions of an End have in common.
type half struct {
	mu      lock.Lock     // one call at a time; held while it waits
	att     atomic.Uint32 // bits below: all that a call on a good day need not know
	lent    bool          // by Peek or Reserve; guarded by mu
	asleep  atomic.Bool   // the holder of mu waits in the poller
	until   atomic.Int64  // deadline in ns since epoch, 0: none
	spin    spinner
	packets atomic.Uint64 // what Counters says while asleep
	bytes   atomic.Uint64
}

// Bits of half.att. All but attDeadline stay once they are set.
const (
	attClosed   = 1 << iota // Close was called: the memory may be gone
	attPeer                 // the peer broke the rules
	attFailed               // Fail was called
	attDead                 // the bell says that the other end is closed
	attShut                 // CloseWrite was called (writer)
	attDeadline             // until is set
)

// usual reports that a call need not know anything. The caller holds h.mu.
func (h *half) usual() bool { return h.att.Load() == 0 && !h.lent }

type reader struct {
	half
	ring ring.Consumer
	lag  lag
	poll func(uintptr) bool // e.pollRead, made once

	tries uint // of TryReadPacket that found nothing
}

type writer struct {
	half
	ring ring.Producer
	need int // bytes of packet that pollWrite waits for

	largest, cut int   // see Bound
	tooLarge     error // for a packet of more than largest

	doubted atomic.Bool // the end is among the doubts

	seen   uint64 // position at the last Reclaim
	forgot uint64 // position when the memory was last given back

	poll func(uintptr) bool // e.pollWrite, made once
}

// process is this process's number in the shared memory: a peer that finds its
// own number there is in the same process and waits in another way.
var process = rand.Uint64() | 1

// Open maps the end of side, 0 or 1, of a flow: mem is a memfd made by NewKit,
// bell one end of its bell, size the bytes of ring in each direction that both
// sides agreed on by other means than the memory itself. Open takes ownership
// of both descriptors in every case. It checks that they are what they should
// be: an error that wraps core.ErrUsage says that they are not.
//
// The memory must be new: of each side only one end is ever opened.
func Open(side int, mem, bell, size int) (*End, error) {
	e, err := openEnd(side, mem, bell, size)
	if err != nil {
		unix.Close(bell) // which may be anything
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
	e.w.ring.SetWho(process)
	return e, nil
}

// Bound says what the way to the other end carries, where that is less than a
// ring does: largest is the most bytes of a packet, and Write sends packets of at
// most cut bytes. It is called before the end is used.
func (e *End) Bound(largest, cut int) {
	e.w.largest = min(max(largest, 1), core.MaxPacket)
	e.w.cut = min(max(cut, 1), e.w.largest)
	e.w.tooLarge = fmt.Errorf("%w: a packet on this flow has 1 to %d bytes", core.ErrUsage, e.w.largest)
}

// MaxPacket returns the most bytes of a packet that may be written.
func (e *End) MaxPacket() int { return e.w.largest }

// Counters are the packets and bytes of payload that passed one end: written
// to the flow, and read from it whole.
type Counters struct {
	PacketsIn, BytesIn   uint64
	PacketsOut, BytesOut uint64
}

// Counters returns what passed this end so far, also after Close. It does not
// wait for a call that is blocked.
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
