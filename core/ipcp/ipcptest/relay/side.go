package relay

import (
	"errors"
	"io"
	"sync/atomic"

	"o7s/core"
	"o7s/core/ipcp"
)

// side is the layer's end of the memory of one end of a flow.
type side struct {
	flow ipcp.Flow
	peer *side
	left chan struct{} // closed when the process has left
	down atomic.Bool   // the layer has ended
}

func newSide(f ipcp.Flow) *side { return &side{flow: f, left: make(chan struct{})} }

// leave says that the process has given up its end; it is called once, under
// carrier.mu. What it wrote is still carried, for as long as there is somebody
// to read it.
func (s *side) leave() {
	close(s.left)
	select {
	case <-s.peer.left:
		s.flow.Close()
		s.peer.flow.Close()
	default:
	}
}

// carry takes the packets that the process at s writes to the process at the
// other side, and ends the other side as this one has ended.
func (s *side) carry() {
	p := make([]byte, core.MaxPacket)
	for {
		n, err := s.flow.ReadPacket(p)
		switch {
		case err == nil:
			// Where nobody reads any more the packets are taken all
			// the same: the process must not wait for room for ever.
			_ = s.peer.flow.WritePacket(p[:n])
		case err == io.EOF:
			// The process may still read, until it leaves.
			s.peer.flow.CloseWrite()
			<-s.left
			s.peer.flow.Close()
			return
		case errors.Is(err, core.ErrClosed) && !s.down.Load():
			// The layer closed it: the other process has left.
			s.peer.flow.Close()
			return
		default:
			s.peer.flow.Abort()
			return
		}
	}
}
