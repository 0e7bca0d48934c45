package flow

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"o7s/core"
	"o7s/ipc/internal/shm"
	"o7s/ipc/internal/sys"
)

// bell is this end of the socket on which the peer rings. It enters Go's poller
// when somebody sleeps on it for the first time: most short flows never do, and
// entering costs more than all the rest of Open.
type bell struct {
	mu     sync.Mutex // guards all below; innermost
	fd     int        // -1 when closed. Others than mu's holder use it under half.mu
	file   *os.File   // owns fd, once it is in the poller
	rc     syscall.RawConn
	kicked int          // directions in which nobody may sleep any more
	pokes  int          // directions in which a sleeper must look again
	until  [2]time.Time // deadlines: reader's, writer's
	broken error        // the first violation by the peer

	looks atomic.Uint32 // at the memory, by those about to sleep
}

const (
	kickRead  = 1
	kickWrite = 2
	kickBoth  = kickRead | kickWrite
)

var past = time.Unix(1, 0)

// kick wakes those who sleep in the directions dir, for good: whoever tries to
// sleep there later returns at once. Set the bit that says why before.
func (b *bell) kick(dir int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kicked |= dir
	b.apply(dir)
}

// poke makes those who sleep in the direction dir look at the memory again. It
// lasts until they have: a deadline that is put back at once wakes nobody.
func (b *bell) poke(dir int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pokes |= dir
	b.apply(dir)
}

// poked ends a poke of the direction dir, if there was one.
func (b *bell) poked(dir int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pokes&dir != 0 {
		b.pokes &^= dir
		b.apply(dir)
	}
}

// apply gives the poller the deadlines of the directions dir.
func (b *bell) apply(dir int) error {
	if b.file == nil {
		return nil
	}
	var err error
	if dir&kickRead != 0 {
		t := b.until[0]
		if (b.kicked|b.pokes)&kickRead != 0 {
			t = past
		}
		err = b.file.SetReadDeadline(t)
	}
	if dir&kickWrite != 0 {
		t := b.until[1]
		if (b.kicked|b.pokes)&kickWrite != 0 {
			t = past
		}
		err = errors.Join(err, b.file.SetWriteDeadline(t))
	}
	return err
}

// conn returns the bell in the poller, and puts it there if it is not yet. It
// is nil without an error once the bell is closed.
func (b *bell) conn() (syscall.RawConn, error) {
	b.mu.Lock()
	rc, closed := b.rc, b.fd < 0
	b.mu.Unlock()
	if rc != nil || closed {
		return rc, nil
	}
	return b.enterAside()
}

// enterAside is enter in a goroutine of its own: it needs a deep stack, and the
// goroutine that waits, perhaps for hours, then gets by with a small one.
func (b *bell) enterAside() (rc syscall.RawConn, err error) {
	done := make(chan struct{})
	go func() {
		rc, err = b.enter()
		close(done)
	}()
	<-done
	return rc, err
}

// enter puts the bell into the poller.
func (b *bell) enter() (syscall.RawConn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rc != nil || b.fd < 0 {
		return b.rc, nil
	}
	if b.file == nil {
		b.file = os.NewFile(uintptr(b.fd), "flow")
	}
	rc, err := b.file.SyscallConn()
	if err == nil {
		// NewFile does not say that the poller refused; this does.
		err = b.apply(kickBoth)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: wait for a flow: %w", core.ErrLimit, err)
	}
	b.rc = rc
	return rc, nil
}

// ring wakes the peer. The caller holds a half.mu, so that fd is open.
func (b *bell) ring() error { return shm.Ring(b.fd) }

// close closes the socket. The caller holds both half.mu.
func (b *bell) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.file != nil:
		b.file.Close()
	case b.fd >= 0:
		sys.Close(b.fd)
	}
	b.fd, b.file, b.rc = -1, nil, nil
}

func (b *bell) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fd < 0
}
