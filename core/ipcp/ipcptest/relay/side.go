package relay

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
)

// patience is how long a process that writes to an end that has gone may keep
// what that end wrote from reaching it, by not reading.
const patience = time.Second

// side is the layer's end of the memory of one end of a flow.
type side struct {
	flow    ipcp.Flow
	peer    *side
	left    chan struct{} // closed when the process has left
	drained chan struct{} // closed when carry reads no more
	carried atomic.Uint64 // packets
	down    atomic.Bool   // the layer has ended
}

func newSide(f ipcp.Flow) *side {
	return &side{flow: f, left: make(chan struct{}), drained: make(chan struct{})}
}

// leave says, once, that the process has given up its end. What it wrote is
// still carried, for as long as there is somebody to read it.
func (s *side) leave() {
	close(s.left)
	select {
	case <-s.peer.left:
		s.close()
		s.peer.close()
	default:
	}
}

// close closes the layer's end, unless the layer has ended: then the process
// must not take it for a proper end.
func (s *side) close() {
	if s.down.Load() {
		s.flow.Abort()
	} else {
		s.flow.Close()
	}
}

// carry takes the packets that the process at s writes to the process at the
// other side, and ends the other side as this one has ended.
func (s *side) carry() {
	err := s.copy()
	switch {
	case err == nil:
		// Nobody reads any more. The process at s may wait for room: it
		// must see the end too, but first what the other one wrote.
		close(s.drained)
		s.peer.wait()
		s.close()
		s.peer.close()
	case err == io.EOF:
		// The process may still read, until it leaves.
		s.peer.flow.CloseWrite()
		close(s.drained)
		<-s.left
		s.peer.close()
	case errors.Is(err, core.ErrClosed):
		// The layer closed it: the other process has left.
		s.peer.close()
		close(s.drained)
	default:
		s.peer.flow.Abort()
		close(s.drained)
	}
}

// copy returns why there is nothing more to read, or nil if nothing can be
// written any more.
func (s *side) copy() error {
	p := make([]byte, core.MaxPacket)
	for {
		n, err := s.flow.ReadPacket(p)
		if err != nil {
			return err
		}
		if s.peer.flow.WritePacket(p[:n]) != nil {
			return nil
		}
		s.carried.Add(1)
	}
}

// wait waits until all that the process at s wrote is carried, or its reader
// has taken nothing for a while.
func (s *side) wait() {
	for {
		before := s.carried.Load()
		select {
		case <-s.drained:
			return
		case <-time.After(patience):
			if s.carried.Load() == before {
				return
			}
		}
	}
}
