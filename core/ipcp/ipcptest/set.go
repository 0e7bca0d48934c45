package ipcptest

import (
	"context"
	"sync"

	"o7s/core"
	"o7s/core/ipcp"
)

// set is ipcp.Set of ends of fake memories.
type set struct {
	poked chan struct{} // of one

	mu      sync.Mutex // guards the fields below; comes before memory.mu
	members []*setMember
	closed  chan struct{}
}

type setMember struct {
	end    *memoryEnd
	value  any
	room   bool // Room waits
	parked bool
}

func newSet() *set { return &set{poked: make(chan struct{}, 1), closed: make(chan struct{})} }

// NewSet implements ipcp.Host.
func (h *host) NewSet() (ipcp.Set, error) { return newSet(), nil }

func (s *set) poke() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// Add implements ipcp.Set.
func (s *set) Add(f ipcp.Flow, v any) error {
	e := f.(*memoryEnd)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	switch {
	case e.closed:
		return core.ErrClosed
	case e.set != nil:
		return core.ErrExists
	}
	e.set = s
	s.members = append(s.members, &setMember{end: e, value: v})
	s.poke()
	return nil
}

// Remove implements ipcp.Set.
func (s *set) Remove(f ipcp.Flow) {
	e := f.(*memoryEnd)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	for i, m := range s.members {
		if m.end == e {
			s.members = append(s.members[:i], s.members[i+1:]...)
			e.set = nil
			return
		}
	}
}

// Room implements ipcp.Set.
func (s *set) Room(f ipcp.Flow, _ int) { s.change(f, func(m *setMember) { m.room = true }) }

// Park implements ipcp.Set.
func (s *set) Park(f ipcp.Flow) { s.change(f, func(m *setMember) { m.parked = true }) }

// Unpark implements ipcp.Set.
func (s *set) Unpark(f ipcp.Flow) { s.change(f, func(m *setMember) { m.parked = false }) }

// change changes what s waits for of f, if that is a member.
func (s *set) change(f ipcp.Flow, change func(*setMember)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m.end == f.(*memoryEnd) {
			change(m)
		}
	}
	s.poke()
}

// Next implements ipcp.Set: the members come in turn.
func (s *set) Next() (any, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.members); i++ {
		m := s.members[i]
		e := m.end
		e.m.mu.Lock()
		closed := e.closed
		hasRoom := m.room && (e.peer.closed || len(e.out)+len(e.hidden) <= e.m.room/2)
		news := hasRoom || !m.parked && (len(e.peer.out) > 0 || e.peer.eof || e.peer.down)
		if closed {
			e.set = nil
		}
		e.m.mu.Unlock()
		if closed { // it has left by itself
			s.members = append(s.members[:i], s.members[i+1:]...)
			i--
			continue
		}
		if news {
			if hasRoom {
				m.room = false
			}
			s.members = append(append(s.members[:i:i], s.members[i+1:]...), m)
			return m.value, true
		}
	}
	return nil, false
}

// Wait implements ipcp.Set.
func (s *set) Wait(ctx context.Context) (any, error) {
	for {
		select {
		case <-s.closed:
			return nil, core.ErrClosed
		default:
		}
		if v, ok := s.Next(); ok {
			return v, nil
		}
		select {
		case <-s.poked:
		case <-s.closed:
			return nil, core.ErrClosed
		case <-ctx.Done():
			return nil, core.ContextError(ctx.Err())
		}
	}
}

// Close implements ipcp.Set.
func (s *set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return nil
	default:
	}
	close(s.closed)
	for _, m := range s.members {
		m.end.m.mu.Lock()
		m.end.set = nil
		m.end.m.mu.Unlock()
	}
	s.members = nil
	return nil
}
