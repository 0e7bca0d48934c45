package ipcp

import (
	"context"

	"o7s/core"
)

// Net is the flows that an IPCP uses, as any process does: the members of its
// layer are joined by them. The first call announces the process to the IRMd.
type Net interface {
	// Dial allocates a flow to name. The error is that of package ipc's
	// Dial.
	Dial(ctx context.Context, name string, qos core.QoS) (Lower, error)
	// Listen accepts flows under all names that this process is bound to.
	Listen(ctx context.Context) (Acceptor, error)
	// NewSet returns an empty Set for flows of this Net.
	NewSet() (Set, error)
}

// Acceptor accepts flows. Accept returns core.ErrClosed after Close.
type Acceptor interface {
	Accept(ctx context.Context) (Lower, error)
	Close() error
}

// Lower is a flow that an IPCP uses. Its Look lends what the other member wrote,
// its Put writes for that member. Close tells it. ReadPacket and WritePacket are for
// what members say to each other one by one, before a Set has the flow.
type Lower interface {
	Flow
	// ReadPacket reads one packet, and waits for it. Its errors are those of
	// Look. p holds core.MaxPacket.
	ReadPacket(p []byte) (int, error)
	// WritePacket writes one packet, and waits for room.
	WritePacket(p []byte) error
	// FD is this process's number for the flow, from core.FirstFD.
	FD() int
	// Path says how large a packet may be. Max is 0 where both ends are on
	// one system, whose bound is core.MaxPacket.
	Path() Path
}
