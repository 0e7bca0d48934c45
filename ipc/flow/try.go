package flow

import (
	"o7s/core"
	"o7s/ipc/internal/shm"
)

// deathChecks is how often TryReadPacket finds nothing before it asks the bell
// whether the peer lives. The bell tells only readers that sleep.
const deathChecks = 4096

// TryReadPacket is ReadPacket that does not wait. If there is no packet now, or
// another goroutine waits for one, it returns 0 and no error. Deadlines do not
// concern it. It is for programs that poll; a program that does nothing else keeps
// a core busy.
func (e *End) TryReadPacket(p []byte) (int, error) {
	if !e.r.enter() {
		return 0, nil
	}
	defer e.r.mu.Unlock()
	if err := e.readable(); err != nil && err != core.ErrTimeout {
		return 0, err
	}
	end := e.readEnd() // before Next: packets from before the end come first
	n, err := e.r.ring.Next()
	switch {
	case err != nil:
		return 0, e.corrupt(err)
	case n > 0:
		e.r.tries = 0
		return e.takePacket(p, n)
	case end != nil:
		return 0, end
	}
	if e.r.ring.Publish() {
		e.wakePeer()
	}
	if e.r.tries++; e.r.tries%deathChecks == 0 && shm.Dead(e.bell.fd) {
		e.raise(flagDead)
	}
	return 0, nil
}
