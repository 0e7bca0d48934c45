package ipcptest

import (
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
)

// room is how many packets a direction of a memory holds, and farRoom the same
// for flows across systems, where what finds no room is lost.
const (
	room    = 8
	farRoom = 256
)

// memory is what a process and a layer share for one flow that the layer
// carries.
type memory struct {
	t    *testing.T
	ends [2]*memoryEnd // the process's, the layer's

	linger time.Duration // how long Close and Abort of the layer take, after their effect
	room   int

	mu      sync.Mutex // guards all fields of the ends too
	changed sync.Cond
}

// memoryEnd is one end of a memory.
type memoryEnd struct {
	m    *memory
	peer *memoryEnd
	over chan struct{} // closed by Close or Abort

	out       [][]byte // packets on the way to the peer
	hidden    [][]byte // Put and not published
	lent      int      // packets of the peer's out that Look lent
	set       *set     // that it is in
	eof, down bool     // no more come, or worse
	closed    bool
}

var _ ipcp.Flow = (*memoryEnd)(nil)

func newMemory(t *testing.T, linger time.Duration) *memory {
	m := &memory{t: t, linger: linger, room: room}
	m.changed.L = &m.mu
	for i := range m.ends {
		m.ends[i] = &memoryEnd{m: m, over: make(chan struct{})}
	}
	m.ends[0].peer, m.ends[1].peer = m.ends[1], m.ends[0]
	return m
}

// wakeLocked wakes all who wait for a change of m.
func (m *memory) wakeLocked() {
	m.changed.Broadcast()
	for _, e := range m.ends {
		if e.set != nil {
			e.set.poke()
		}
	}
}

func (m *memory) process() *memoryEnd { return m.ends[0] }
func (m *memory) layer() *memoryEnd   { return m.ends[1] }

// waitLocked waits until ok returns true, or loses its patience.
func (e *memoryEnd) waitLocked(ok func() bool) error {
	if ok() {
		return nil
	}
	late := false
	timer := time.AfterFunc(patience, func() {
		e.m.mu.Lock()
		late = true
		e.m.mu.Unlock()
		e.m.wakeLocked()
	})
	defer timer.Stop()
	for !ok() {
		if late {
			return errNothing
		}
		e.m.changed.Wait()
	}
	return nil
}

// ReadPacket reads a packet as a process does: it waits for one.
func (e *memoryEnd) ReadPacket(p []byte) (int, error) {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	in := e.peer
	err := e.waitLocked(func() bool { return e.closed || len(in.out) > 0 || in.eof || in.down })
	switch {
	case err != nil:
		return 0, err
	case e.closed:
		return 0, core.ErrClosed
	case len(in.out) > 0:
		n := copy(p, in.out[0])
		in.out = in.out[1:]
		e.m.wakeLocked()
		return n, nil
	case in.eof:
		return 0, io.EOF
	}
	return 0, core.ErrFlowDown
}

// WritePacket writes a packet as a process does: it waits for room.
func (e *memoryEnd) WritePacket(p []byte) error {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	err := e.waitLocked(func() bool { return e.closed || e.eof || e.peer.closed || len(e.out) < e.m.room })
	switch {
	case err != nil:
		return err
	case e.closed, e.eof:
		return core.ErrClosed
	case e.peer.closed:
		return core.ErrFlowDown
	}
	e.out = append(e.out, append([]byte(nil), p...))
	e.m.wakeLocked()
	return nil
}

// Look implements ipcp.Flow.
func (e *memoryEnd) Look(p [][]byte) (int, error) {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	in := e.peer
	switch {
	case e.closed:
		return 0, core.ErrClosed
	case e.lent > 0:
		e.m.t.Errorf("Look while %d packets are lent", e.lent)
	case len(in.out) > 0:
		e.lent = copy(p, in.out)
		return e.lent, nil
	case in.eof:
		return 0, io.EOF
	case in.down:
		return 0, core.ErrFlowDown
	}
	return 0, nil
}

// Drop implements ipcp.Flow.
func (e *memoryEnd) Drop(n int) {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	if n > e.lent {
		e.m.t.Errorf("Drop of %d packets, %d are lent", n, e.lent)
		n = e.lent
	}
	e.lent = 0
	e.peer.out = e.peer.out[n:]
	e.m.wakeLocked()
}

// Put implements ipcp.Flow.
func (e *memoryEnd) Put(head, body []byte) (bool, error) {
	p := slices.Concat(head, body)
	if len(p) == 0 || len(p) > core.MaxPacket {
		e.m.t.Errorf("Put of %d bytes", len(p))
	}
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	switch {
	case e.closed, e.eof:
		return false, core.ErrClosed
	case e.peer.closed:
		return false, core.ErrFlowDown
	case len(e.out)+len(e.hidden) >= e.m.room:
		return false, nil
	}
	e.hidden = append(e.hidden, p)
	return true, nil
}

// Publish implements ipcp.Flow.
func (e *memoryEnd) Publish() {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	e.out = append(e.out, e.hidden...)
	e.hidden = nil
	e.m.wakeLocked()
}

// Unread implements ipcp.Flow.
func (e *memoryEnd) Unread() int {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	n := 0
	for _, p := range e.out {
		n += len(p)
	}
	return n
}

// CloseWrite implements ipcp.Flow.
func (e *memoryEnd) CloseWrite() error {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	if e.closed {
		return core.ErrClosed
	}
	e.eof = true
	e.m.wakeLocked()
	return nil
}

// Close implements ipcp.Flow.
func (e *memoryEnd) Close() error { return e.close(&e.eof) }

// Abort implements ipcp.Flow.
func (e *memoryEnd) Abort() error { return e.close(&e.down) }

func (e *memoryEnd) close(how *bool) error {
	e.m.mu.Lock()
	first := !e.closed
	if first {
		e.closed, *how = true, true
		close(e.over)
		e.m.wakeLocked()
	}
	e.m.mu.Unlock()
	if first && e == e.m.layer() {
		time.Sleep(e.m.linger)
	}
	return nil
}

// full waits until what this end has written fills the memory.
func (e *memoryEnd) full() error {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	return e.waitLocked(func() bool { return len(e.out) == e.m.room })
}

// lends reports whether there are packets that Look lent and Drop has not taken.
func (e *memoryEnd) lends() bool {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	return e.lent > 0
}
