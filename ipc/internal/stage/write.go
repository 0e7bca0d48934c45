package stage

import (
	"fmt"
	"io"
	"time"

	"o7s/core"
	"o7s/core/frct"
	"o7s/ipc/flow"
)

// discard is a frct.Emit to nowhere.
func discard(*[frct.HeadLen]byte, []byte) bool { return true }

// writable returns why no packet can be written now, or any more. s.mu is held.
func (s *Stage) writable() error {
	switch {
	case s.closed:
		return core.ErrClosed
	case s.shut:
		return flow.ErrShut
	case s.lentOut:
		return flow.ErrLent
	case s.orderErr != nil:
		return s.orderErr
	case s.outErr != nil:
		return s.outErr
	case s.inErr == io.EOF:
		return flow.ErrPeerClosed
	case s.inErr != nil:
		return s.inErr
	case !s.writeBy.at.IsZero() && s.writeBy.passed(time.Now()):
		return core.ErrTimeout
	}
	return nil
}

// send sends p as one packet, which the layer sees after publish. s.writers and s.mu
// are held. Without wait it returns flow.ErrFull if p had to wait.
func (s *Stage) send(p []byte, wait bool) error {
	s.used()
	for {
		if err := s.writable(); err != nil {
			return err
		}
		now := time.Now()
		s.full = false
		first := s.reliable && s.order.Acknowledged()
		if s.trySend(now, p) {
			s.sent++
			s.counters.PacketsOut++
			s.counters.BytesOut += uint64(len(p))
			if s.sent >= pumpEvery {
				s.turn(batch)
			} else if s.timerAt.IsZero() || first && s.timerAt.Sub(now) > idleAfter {
				s.tick(now) // the timer was set long ago, and fires too late for this packet
			}
			return nil
		}
		s.turn(batch)
		if s.outErr != nil {
			continue
		}
		if !s.full && s.order != nil && s.order.CanSend(now, len(p)) {
			continue // a packet that came has opened the window
		}
		switch {
		case !wait:
			return flow.ErrFull
		case s.full:
			s.awaitRoom(len(p) + s.overhead() + s.spare)
		default:
			s.wants = len(p)
			s.await()
			s.wants = 0
		}
	}
}

func (s *Stage) trySend(now time.Time, p []byte) bool {
	if s.order == nil {
		return s.put(nil, p)
	}
	return s.order.Send(now, p, s.emit)
}

// overhead returns how many bytes the stage adds to a packet.
func (s *Stage) overhead() int {
	n := s.wrapping()
	if s.order != nil {
		n += frct.HeadLen
	}
	return n
}

// wrapping returns how many bytes wrap adds to a packet.
func (s *Stage) wrapping() int {
	n := 0
	if s.seal != nil {
		n += s.seal.Overhead()
	}
	if s.check {
		n += crcLen
	}
	return n
}

func (s *Stage) startWrite() {
	s.writers.Lock()
	s.mu.Lock()
}

func (s *Stage) endWrite() {
	s.publish()
	s.mu.Unlock()
	s.writers.Unlock()
}

// Write is flow.End.Write.
func (s *Stage) Write(p []byte) (n int, err error) {
	s.startWrite()
	defer s.endWrite()
	for n < len(p) {
		b := p[n:min(n+s.cut, len(p))]
		if err := s.send(b, true); err != nil {
			return n, err
		}
		n += len(b)
	}
	return n, nil
}

// WritePacket is flow.End.WritePacket.
func (s *Stage) WritePacket(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if len(p) > s.most {
		return s.tooLarge
	}
	s.startWrite()
	defer s.endWrite()
	return s.send(p, true)
}

// TryWritePacket is flow.End.TryWritePacket.
func (s *Stage) TryWritePacket(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if len(p) > s.most {
		return s.tooLarge
	}
	if !s.writers.TryLock() {
		return flow.ErrFull
	}
	s.mu.Lock()
	defer s.endWrite()
	return s.send(p, false)
}

// WriteBatch is flow.End.WriteBatch.
func (s *Stage) WriteBatch(packets [][]byte) (int, error) {
	s.startWrite()
	defer s.endWrite()
	for i, p := range packets {
		var err error
		switch {
		case len(p) == 0:
			continue
		case len(p) > s.most:
			err = s.tooLarge
		default:
			err = s.send(p, true)
		}
		if err != nil {
			return i, err
		}
	}
	return len(packets), nil
}

// Reserve is flow.End.Reserve. What it lends is memory of this process.
func (s *Stage) Reserve(n int) ([]byte, error) {
	if n < 1 || n > s.most {
		return nil, s.tooLarge
	}
	s.startWrite()
	defer s.endWrite()
	if err := s.writable(); err != nil {
		return nil, err
	}
	if cap(s.reserve) < n {
		s.reserve = make([]byte, n)
	}
	s.reserve = s.reserve[:n]
	s.lentOut = true
	return s.reserve, nil
}

// Commit is flow.End.Commit. Unlike that, Commit and not Reserve waits until the packet
// can be sent.
func (s *Stage) Commit(n int) error {
	s.startWrite()
	defer s.endWrite()
	switch {
	case !s.lentOut && s.closed:
		return core.ErrClosed
	case !s.lentOut:
		return flow.ErrNotLent
	case n < 0 || n > len(s.reserve):
		return fmt.Errorf("%w: commit %d bytes of %d", core.ErrUsage, n, len(s.reserve))
	}
	s.lentOut = false
	if n == 0 && !s.closed {
		return nil
	}
	return s.send(s.reserve[:n], true)
}
