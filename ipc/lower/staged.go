package lower

import (
	"errors"
	"sync"

	"o7s/core/ipcp"
	"o7s/ipc"
	"o7s/ipc/flow"
)

// staged is ipcp.Lower of a flow whose packets are not in the memory as the layer
// has them: they are kept in order, encrypted or checked by a stage of package ipc.
// So what Look lends is a copy, and what Put writes is shown at once.
type staged struct {
	*ipc.Conn
	end *flow.End

	// The reader's.
	buf []byte   // for one packet
	in  [][]byte // looked at and not dropped
	mem []byte   // of those

	mu  sync.Mutex // guards the field below; held while a packet is written
	out []byte     // for one packet
}

var _ ipcp.Lower = (*staged)(nil)

func newStaged(c *ipc.Conn, end *flow.End) *staged {
	// A layer never waits, and its own messages may be lost.
	c.SetLinger(0)
	return &staged{Conn: c, end: end, buf: make([]byte, c.MaxPacket())}
}

// Path implements ipcp.Lower: what the stage adds to a packet takes a part of it.
func (f *staged) Path() ipcp.Path {
	p := f.Conn.Path()
	most := f.MaxPacket()
	p.Best = min(p.Best-(p.Max-most), most)
	p.Max = most
	return p
}

// Look implements ipcp.Flow. Its copies are good until Drop.
func (f *staged) Look(p [][]byte) (int, error) {
	for len(f.in) < len(p) {
		n, err := f.TryReadPacket(f.buf)
		if err != nil && len(f.in) == 0 {
			return 0, plain(err)
		}
		if err != nil || n == 0 {
			break
		}
		at := len(f.mem)
		f.mem = append(f.mem, f.buf[:n]...)
		f.in = append(f.in, f.mem[at:])
	}
	return copy(p, f.in), nil
}

// Drop implements ipcp.Flow.
func (f *staged) Drop(n int) {
	if f.in = f.in[min(n, len(f.in)):]; len(f.in) == 0 {
		f.in, f.mem = nil, f.mem[:0]
	}
}

// Put implements ipcp.Flow.
func (f *staged) Put(head, body []byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = append(append(f.out[:0], head...), body...)
	switch err := f.TryWritePacket(f.out); {
	case err == nil:
		return true, nil
	case errors.Is(err, flow.ErrFull):
		return false, nil
	default:
		return false, plain(err)
	}
}

// Publish implements ipcp.Flow: Put has published all.
func (f *staged) Publish() {}

// Unread implements ipcp.Flow.
func (f *staged) Unread() int { return f.end.Unread() }

// ReadPacket implements ipcp.Lower.
func (f *staged) ReadPacket(p []byte) (int, error) {
	n, err := f.Conn.ReadPacket(p)
	return n, plain(err)
}

// WritePacket implements ipcp.Lower.
func (f *staged) WritePacket(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return plain(f.Conn.WritePacket(p))
}

// Abort implements ipcp.Flow.
func (f *staged) Abort() error { return f.Close() }
