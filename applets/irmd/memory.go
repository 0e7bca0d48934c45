package irmd

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"o7s/core/registry"
	"o7s/ipc/flow"
)

// memory makes the memory of flows. It is irm.Memory.
type memory struct{ ring int }

func newMemory() *memory { return &memory{ring: flow.DefaultRing} }

// end is one end of a flow's memory on its way to a process: the memory, which
// the other end shares until both are closed, and one end of the bell.
type end struct {
	kit  *flow.Kit
	side int
	open *atomic.Int32 // ends of kit
}

// NewFlow implements irm.Memory.
func (m *memory) NewFlow() (a, b registry.End, err error) {
	kit, err := flow.NewKit(m.ring)
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
	if e.open.Add(-1) == 0 {
		unix.Close(e.kit.Mem)
	}
	return nil
}
