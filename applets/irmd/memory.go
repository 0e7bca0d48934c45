package irmd

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"o7s/core/registry"
	"o7s/ipc/flow"
	"o7s/ipc/meter"
)

// memory makes the memory of flows. It is irm.Memory.
type memory struct{}

// ringBudget is about what the rings of a process may take together, were all
// of them full, before those of its next flows are made smaller. Below
// flow.MinRing they do not shrink: a packet must fit.
const ringBudget = 1 << 30

// ringSize returns the bytes of ring, in each direction, of a flow between
// processes that hold so many others at the most. Few flows get the rings that
// are fastest between two cores; many get small ones.
func ringSize(held int) int {
	size := flow.DefaultRing
	for size > flow.MinRing && held*2*size >= ringBudget {
		size /= 2
	}
	return size
}

// end is one end of a flow's memory on its way to a process: the memory, which
// the other end and the meters share until all are closed, and one end of the
// bell.
type end struct {
	kit  *flow.Kit
	side int
	open *atomic.Int32 // ends and meters of kit
}

var _ registry.Metered = (*end)(nil)

// NewFlow implements irm.Memory.
func (memory) NewFlow(held int) (a, b registry.End, err error) {
	kit, err := flow.NewKit(ringSize(held))
	if err != nil {
		return nil, nil, err
	}
	open := new(atomic.Int32)
	open.Store(2)
	return &end{kit, 0, open}, &end{kit, 1, open}, nil
}

// Close implements registry.End.
func (e *end) Close() error {
	unix.Close(e.kit.Bell[e.side])
	e.release()
	return nil
}

func (e *end) release() {
	if e.open.Add(-1) == 0 {
		unix.Close(e.kit.Mem)
	}
}

// Meter implements registry.Metered. It keeps the descriptor of the memory,
// one for a flow, which the ends would else have closed, and maps nothing.
func (e *end) Meter() registry.Meter {
	e.open.Add(1)
	return flowMeter{e}
}

type flowMeter struct{ e *end }

// Count implements registry.Meter.
func (m flowMeter) Count() (registry.Count, error) {
	d, err := meter.Read(m.e.kit.Mem)
	if err != nil {
		return registry.Count{}, err
	}
	ours, theirs := d[m.e.side], d[1-m.e.side]
	return registry.Count{
		Sent: ours.Written, Unread: ours.Written - ours.Read,
		Read: theirs.Read, Waiting: theirs.Written - theirs.Read,
	}, nil
}

// Close implements registry.Meter.
func (m flowMeter) Close() error {
	m.e.release()
	return nil
}
