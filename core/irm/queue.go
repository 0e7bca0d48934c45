package irm

import (
	"context"
	"sync"

	"o7s/core/logs"
)

// A decision is one function under Manager.mu. What follows from it (lines of the
// log, calls to IPCPs and processes, answers) is queued as it is decided, and
// carried out in that order, without the lock, by the goroutine that finds the
// queue idle. So a line is written before the message that follows from it is
// sent, and a message about a flow is sent before any about the next flow of the
// same id.
//
// What is carried out may call the Manager again: then the new decision is taken
// at once, and what follows from it is carried out after what is queued already.
// Nothing in the queue may wait for another process. What takes longer, such as to make
// memory or to start a program, is left for later: the goroutine that took the decision
// does it without the lock, and ends with a decision of its own. Where an effect took
// the decision, the effects behind it wait for that.
type queue struct {
	effects  []func() // in the order in which they were decided
	spare    []func() // the memory of effects that are carried out
	carrying bool     // a goroutine carries effects out
	room     *sync.Cond
	later    []func() // what the decision that is being taken leaves to its goroutine
}

const (
	// maxEffects is how many effects are queued before AwaitRoom waits.
	maxEffects = 4096
	// maxCarried is after how many effects a goroutine takes no further ones from the
	// queue. It has work of its own to go back to.
	maxCarried = 1024
)

// decide takes the decision f and carries out what follows from it, unless that is
// being done already. It may be called by what is carried out.
func (m *Manager) decide(f func()) {
	m.mu.Lock()
	f()
	later := m.queue.later
	m.queue.later = nil
	m.carryOut()
	for _, l := range later {
		l()
	}
}

// thenLocked queues f, which follows from what has been decided.
func (m *Manager) thenLocked(f func()) { m.queue.effects = append(m.queue.effects, f) }

// laterLocked leaves f, which may block, to the goroutine that takes the decision,
// without the lock.
func (m *Manager) laterLocked(f func()) { m.queue.later = append(m.queue.later, f) }

// carryOut carries out what is queued, unless another goroutine does. It is called
// with the lock, and returns without.
func (m *Manager) carryOut() {
	q := &m.queue
	if q.carrying {
		m.mu.Unlock()
		return
	}
	q.carrying = true
	for n := 0; len(q.effects) > 0; {
		if n >= maxCarried {
			q.carrying = false
			go m.decide(func() {})
			break
		}
		batch := q.effects
		if q.effects = q.spare; m.fault("effects are carried out in another order") && len(batch) > 1 {
			batch[0], batch[1] = batch[1], batch[0]
		}
		q.spare = nil
		m.mu.Unlock()
		for i, f := range batch {
			f()
			batch[i] = nil
		}
		m.mu.Lock()
		n += len(batch)
		if cap(batch) <= maxEffects {
			q.spare = batch[:0]
		}
		q.room.Broadcast()
	}
	q.carrying = false
	m.mu.Unlock()
}

// AwaitRoom waits while very much is queued. A goroutine that reads messages calls it
// before each. If nobody takes the output of the log, the system stops, but its memory
// does not fill. Nothing that the Manager calls may call it.
func (m *Manager) AwaitRoom() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue.effects) >= maxEffects {
		m.queue.room.Wait()
	}
}

// After calls f when all that has been decided is carried out, for instance with
// the answer to a call. f must not block.
func (m *Manager) After(f func()) { m.decide(func() { m.thenLocked(f) }) }

// Wait returns when all that has been decided is carried out. Nothing that the
// Manager calls may call it.
func (m *Manager) Wait() {
	g := m.newGate()
	m.After(g.open)
	_ = g.wait(context.Background())
}

// gate is where one goroutine waits until another opens it, once.
type gate interface {
	open()
	wait(ctx context.Context) error // ctx.Err() where that comes first
}

type chanGate chan struct{}

func (g chanGate) open() { close(g) }

func (g chanGate) wait(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The lines of the log. Each is written after what was decided before it.

func (m *Manager) debugLocked(format string, args ...any) {
	m.lineLocked((*logs.Logger).Debugf, format, args)
}

func (m *Manager) infoLocked(format string, args ...any) {
	m.lineLocked((*logs.Logger).Infof, format, args)
}

func (m *Manager) errorLocked(format string, args ...any) {
	m.lineLocked((*logs.Logger).Errorf, format, args)
}

func (m *Manager) lineLocked(write func(*logs.Logger, string, ...any), format string, args []any) {
	m.thenLocked(func() { write(m.log, format, args...) })
}

// info writes a line of what has been done outside of a decision.
func (m *Manager) info(format string, args ...any) {
	m.decide(func() { m.infoLocked(format, args...) })
}
