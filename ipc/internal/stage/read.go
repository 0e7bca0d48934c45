package stage

import (
	"time"

	"o7s/core"
	"o7s/ipc/flow"
)

// next returns the packet at the head, and waits for one. s.readers and s.mu are
// held. Without wait it returns nil where there is none.
func (s *Stage) next(wait bool) ([]byte, error) {
	for {
		switch {
		case s.closed:
			return nil, core.ErrClosed
		case s.lent:
			return nil, flow.ErrLent
		case wait && !s.readBy.at.IsZero() && s.readBy.passed(time.Now()):
			return nil, core.ErrTimeout
		}
		if p := s.head(); p != nil {
			return p, nil
		}
		s.pump(batch)
		if p := s.head(); p != nil {
			return p, nil
		}
		if err := s.readEnd(); err != nil {
			return nil, err
		}
		if !wait {
			return nil, nil
		}
		s.await()
	}
}

// head returns what is left of the packet at the head, nil where there is none.
func (s *Stage) head() []byte {
	if s.order == nil {
		return s.queue[s.off:]
	}
	for {
		p, ok := s.order.Head()
		if len(p) > 0 {
			return p[s.off:]
		}
		if !ok {
			return nil
		}
		s.order.Drop() // a reader is not given a packet of no bytes
	}
}

// taken takes n bytes of the packet at the head. s.mu is held.
func (s *Stage) taken(n int) {
	s.used()
	s.counters.BytesIn += uint64(n)
	if s.off += n; len(s.head()) > 0 {
		return
	}
	s.counters.PacketsIn++
	s.off = 0
	if s.order == nil {
		s.queue = nil
		return
	}
	s.order.Drop()
	// The window has opened. The other end is told now if it may wait for that, and
	// else with the next acknowledgement.
	if s.order.NewsDue() {
		s.tick(time.Now())
	}
}

func (s *Stage) startRead() {
	s.readers.Lock()
	s.mu.Lock()
}

func (s *Stage) endRead() {
	s.mu.Unlock()
	s.readers.Unlock()
}

// Read is flow.End.Read.
func (s *Stage) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.startRead()
	defer s.endRead()
	b, err := s.next(true)
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	s.taken(n)
	return n, nil
}

// ReadPacket is flow.End.ReadPacket.
func (s *Stage) ReadPacket(p []byte) (int, error) {
	s.startRead()
	defer s.endRead()
	return s.readPacket(p, true)
}

// TryReadPacket is flow.End.TryReadPacket.
func (s *Stage) TryReadPacket(p []byte) (int, error) {
	if !s.readers.TryLock() {
		return 0, nil
	}
	s.mu.Lock()
	defer s.endRead()
	return s.readPacket(p, false)
}

func (s *Stage) readPacket(p []byte, wait bool) (int, error) {
	b, err := s.next(wait)
	if err != nil || b == nil {
		return 0, err
	}
	if len(p) < len(b) {
		return 0, &flow.ShortBufferError{Size: len(b)}
	}
	n := copy(p, b)
	s.taken(n)
	return n, nil
}

// ReadBatch is flow.End.ReadBatch.
func (s *Stage) ReadBatch(bufs [][]byte, sizes []int) (int, error) {
	s.startRead()
	defer s.endRead()
	most := min(len(bufs), len(sizes))
	for i := range most {
		n, err := s.readPacket(bufs[i], i == 0)
		switch {
		case err != nil && i == 0:
			return 0, err
		case err != nil || n == 0:
			return i, nil // the next call returns an error again
		}
		sizes[i] = n
	}
	return most, nil
}

// Peek is flow.End.Peek. What it lends is memory of this process.
func (s *Stage) Peek() ([]byte, error) {
	s.startRead()
	defer s.endRead()
	b, err := s.next(true)
	s.lent = err == nil
	return b, err
}

// Release is flow.End.Release.
func (s *Stage) Release() error {
	s.startRead()
	defer s.endRead()
	switch {
	case !s.lent && s.closed:
		return core.ErrClosed
	case !s.lent:
		return flow.ErrNotLent
	}
	s.lent = false
	if !s.done {
		s.taken(len(s.head()))
	} else if s.order != nil {
		s.order.Close(time.Now(), discard)
	}
	return nil
}
