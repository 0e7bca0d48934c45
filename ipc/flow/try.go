package flow

import (
	"o7s/core"
	"o7s/ipc/internal/shm"
)

// deathLooks is how often TryReadPacket finds nothing before it asks the bell
// whether the other end lives: who never sleeps is not told.
const deathLooks = 4096

// TryReadPacket is ReadPacket, but where there is no packet now, or another
// goroutine waits for one, it returns 0 and no error rather than wait. It does
// not wait, so it heeds no deadline. It is for programs that poll; those that do
// nothing else keep a core busy.
func (e *End) TryReadPacket(p []byte) (int, error) {
	if !e.r.enter() {
		return 0, nil
	}
	defer e.r.mu.Unlock()
	if err := e.readable(); err != nil && err != core.ErrTimeout {
		return 0, err
	}
	end := e.readEnd() // before the look: what came before the end is read first
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
		e.ring()
	}
	if e.r.tries++; e.r.tries%deathLooks == 0 && shm.Dead(e.bell.fd) {
		e.raise(attDead)
	}
	return 0, nil
}
