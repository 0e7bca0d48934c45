package relay

import (
	"errors"
	"io"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
)

// patience is how long a process that writes to an end that has gone may keep
// what that end wrote from reaching it, by not reading.
const patience = time.Second

// side is the layer's end of the memory of one end of a flow.
type side struct {
	c    *carrier
	flow ipcp.Flow
	peer *side

	// The pump's.
	parked bool        // the process at the other side has to make room first, or over is set
	over   bool        // nothing more is read of the process
	timer  *time.Timer // nobody reads what the process writes: ends the wait for the other's last words

	left bool // the process has given up its end; guarded by c.mu
}

// newFlow returns the sides of a flow between a and b.
func newFlow(c *carrier, a, b ipcp.Flow) (x, y *side) {
	x, y = &side{c: c, flow: a}, &side{c: c, flow: b}
	x.peer, y.peer = y, x
	return x, y
}

// carry takes the packets that the process at s has written to the process at the
// other side, as many as batch and the room there hold.
func (s *side) carry(batch [][]byte) {
	n, err := s.flow.Look(batch)
	if err != nil {
		s.ended(err)
		return
	}
	done, room := 0, true
	for done < n && room {
		if room, err = s.peer.flow.Put(nil, batch[done]); room {
			done++
		}
	}
	s.peer.flow.Publish()
	next := 0
	if !room {
		next = len(batch[done])
	}
	s.flow.Drop(done)
	if done > 0 && s.peer.timer != nil {
		s.peer.timer.Reset(patience)
	}
	switch {
	case err != nil:
		s.unread()
	case !room:
		s.park()
		s.c.set.Room(s.peer.flow, next)
	case s.parked:
		s.parked = false
		s.c.set.Unpark(s.flow)
	}
}

func (s *side) park() {
	s.parked = true
	s.c.set.Park(s.flow)
}

// ended ends the other side as the process at s has ended this one.
func (s *side) ended(err error) {
	s.park()
	s.over = true
	switch {
	case err == io.EOF:
		s.peer.flow.CloseWrite()
		if s.peer.timer != nil { // else the process may still read
			s.close()
		}
	case errors.Is(err, core.ErrClosed): // the layer closes the other side too
	default:
		s.peer.flow.Abort()
		s.flow.Close()
	}
}

// unread notes that nobody reads any more what the process at s writes. That process
// may wait for room: it must see the end too, but first what the other one wrote.
func (s *side) unread() {
	s.park()
	s.over = true
	if s.peer.over {
		s.close()
		return
	}
	s.timer = time.AfterFunc(patience, s.close)
}

// close closes both sides.
func (s *side) close() {
	s.flow.Close()
	s.peer.flow.Close()
}

// abort ends both sides as the death of the layer does. The pump has ended.
func (s *side) abort() {
	for _, s := range []*side{s, s.peer} {
		if s.timer != nil {
			s.timer.Stop()
		}
		s.flow.Abort()
	}
}
