package irmd

import (
	"o7s/core/irm"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"o7s/ipc/flow"
	"o7s/ipc/rpc"
)

// memory makes the memory of flows. It is irm.Memory.
type memory struct {
	held  *descriptors             // counts those of flows on their way
	kept  atomic.Int32             // memories whose descriptors stay here, for the meters
	spare atomic.Pointer[flow.Kit] // for the next flow
	last  atomic.Int64             // ring of the last flow
}

// ringBudget is how many bytes, about, the rings of a process may take together
// when all are full. When a process has that much, its next flows get smaller
// rings. No ring is smaller than flow.MinRing: a packet must fit.
const ringBudget = 1 << 30

// ringSize returns the bytes of ring, in each direction, of a flow between
// processes of which none holds more than held flows. While a process holds few
// flows their rings have the size that is fastest between two cores; the rings of
// many flows are small.
func ringSize(held int) int {
	size := flow.DefaultRing
	for size > flow.MinRing && held*2*size >= ringBudget {
		size /= 2
	}
	return size
}

// counts reports whether the IRMd may keep one descriptor more to count what
// passes in a flow. It uses an eighth of the descriptors that it may have for that.
// The others are for new flows and for connections of processes.
func (m *memory) counts() bool {
	var lim unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	if n := m.kept.Add(1); err == nil && uint64(n) <= lim.Cur/8 {
		return true
	}
	m.kept.Add(-1)
	return false
}

// end is one end of a flow's memory on its way to a process: the memory, which
// the other end and the meters share until all are closed, and one end of the
// bell.
type end struct {
	*shared
	side    int
	foreign bool // a process that is not trusted has got it, and may make the close wait
}

// passTo notes that the process at the other end of l gets e, and returns the
// descriptors. A process of another user is not trusted. Root's and this user's
// are: they can stop this IRMd anyway.
func (e *end) passTo(l *rpc.Link) (mem, bell int) {
	uid := l.Peer().UID
	e.foreign = uid != os.Geteuid() && uid != 0
	return e.kit.Mem, e.kit.Bell[e.side]
}

type shared struct {
	kit  *flow.Kit
	m    *memory
	open atomic.Int32 // ends and meters of kit
	ends atomic.Int32 // of open
	kept bool         // counted in m.kept
	who  irm.Owner
}

var _ irm.Metered = (*end)(nil)

// NewFlow implements irm.Memory.
func (m *memory) NewFlow(who irm.Owner, held int) (a, b irm.End, err error) {
	if err := m.held.take(who, kitFiles); err != nil {
		return nil, nil, err
	}
	size := ringSize(held)
	m.last.Store(int64(size))
	kit := m.spare.Swap(nil)
	if kit != nil && kit.Ring != size {
		kit.Close()
		kit = nil
	}
	if kit == nil {
		if kit, err = flow.NewKit(size); err != nil {
			m.held.give(who, kitFiles)
			return nil, nil, err
		}
	}
	s := &shared{kit: kit, m: m, kept: m.counts(), who: who}
	s.open.Store(2)
	s.ends.Store(2)
	return &end{shared: s, side: 0}, &end{shared: s, side: 1}, nil
}

// Prepare implements irm.Memory. It makes the memory of the next flow now, so that
// the process that asks for that flow does not wait for it.
func (m *memory) Prepare() {
	if m.spare.Load() != nil {
		return
	}
	kit, err := flow.NewKit(int(m.last.Load()))
	if err == nil && !m.spare.CompareAndSwap(nil, kit) {
		kit.Close()
	}
	// An error is not reported: no process has asked for this memory. NewFlow
	// tries again.
}

// Close implements irm.End.
func (e *end) Close() error {
	if e.foreign {
		go unix.Close(e.kit.TakeBell(e.side))
	} else {
		e.kit.CloseBell(e.side)
	}
	if e.ends.Add(-1) == 0 {
		e.m.held.give(e.who, kitFiles)
	}
	e.release()
	return nil
}

func (s *shared) release() {
	if s.open.Add(-1) > 0 {
		return
	}
	s.kit.CloseMem()
	if s.kept {
		s.m.kept.Add(-1)
	}
}

// Meter implements irm.Metered. The Meter keeps the one descriptor of the
// flow's memory open, and maps nothing. Meter returns nil where there are too few
// descriptors.
func (e *end) Meter() irm.Meter {
	if !e.kept {
		return nil
	}
	e.open.Add(1)
	return flowMeter{e}
}

type flowMeter struct{ e *end }

// countTries is how often Count reads the positions while they make no sense. The
// processes of the flow change them meanwhile, so one read may get an old position
// together with a new one.
const countTries = 16

// Count implements irm.Meter.
func (m flowMeter) Count() (c irm.Count, err error) {
	for range countTries {
		d, err := m.e.kit.Positions()
		if err != nil {
			return c, err
		}
		if c = m.e.countOf(d); !c.Impossible {
			break
		}
	}
	return c, nil
}

// countOf returns the count at e's side of the positions d.
func (e *end) countOf(d [2]flow.Positions) irm.Count {
	ours, theirs := d[e.side], d[1-e.side]
	c := irm.Count{
		Sent: ours.Written, Unread: ours.Written - ours.Read,
		Read: theirs.Read, Waiting: theirs.Written - theirs.Read,
	}
	ring := uint64(e.kit.Ring)
	c.Impossible = c.Unread > ring || c.Waiting > ring
	return c
}

// Share implements irm.Meter.
func (m flowMeter) Share() irm.Meter {
	m.e.open.Add(1)
	return m
}

// Close implements irm.Meter.
func (m flowMeter) Close() error {
	m.e.release()
	return nil
}
