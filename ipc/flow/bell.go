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

// bell is this end of the socket by which each end wakes the other. It enters
// Go's poller when a goroutine sleeps on it for the first time. Most short flows
// never sleep, and entering costs more than the rest of Open.
type bell struct {
	mu   sync.Mutex // guards all fields below; innermost
	fd   int        // -1 when closed. A holder of half.mu may use it without mu
	file *os.File   // owns fd, once it is in the poller
	rc   syscall.RawConn

	interrupted int          // directions in which no goroutine may sleep any more
	rechecks    int          // directions in which a sleeper must check the memory again
	deadline    [2]time.Time // reader's, writer's
	broken      error        // the first violation by the peer

	polls atomic.Uint32 // checks of the memory by goroutines about to sleep
}

// Directions, as bits.
const (
	dirRead  = 1
	dirWrite = 2
	dirBoth  = dirRead | dirWrite
)

var past = time.Unix(1, 0)

// interrupt wakes all sleepers of the directions dir, for good: later sleeps
// there end at once. Set the flag that says why before.
func (b *bell) interrupt(dir int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.interrupted |= dir
	b.setDeadlines(dir)
}

// recheck makes the sleepers of the direction dir check the memory again. It
// lasts until rechecked: the poller would not notice a deadline that is put back
// at once.
func (b *bell) recheck(dir int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rechecks |= dir
	b.setDeadlines(dir)
}

// rechecked ends a recheck of the direction dir, if there is one.
func (b *bell) rechecked(dir int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rechecks&dir != 0 {
		b.rechecks &^= dir
		b.setDeadlines(dir)
	}
}

// setDeadlines gives the poller the deadlines of the directions dir. A deadline
// in the past wakes the sleepers. The caller holds b.mu.
func (b *bell) setDeadlines(dir int) error {
	if b.file == nil {
		return nil
	}
	var err error
	if dir&dirRead != 0 {
		t := b.deadline[0]
		if (b.interrupted|b.rechecks)&dirRead != 0 {
			t = past
		}
		err = b.file.SetReadDeadline(t)
	}
	if dir&dirWrite != 0 {
		t := b.deadline[1]
		if (b.interrupted|b.rechecks)&dirWrite != 0 {
			t = past
		}
		err = errors.Join(err, b.file.SetWriteDeadline(t))
	}
	return err
}

// conn returns the bell in the poller, and enters it if need be. It returns nil
// without an error if the bell is closed.
func (b *bell) conn() (syscall.RawConn, error) {
	b.mu.Lock()
	rc, closed := b.rc, b.fd < 0
	b.mu.Unlock()
	if rc != nil || closed {
		return rc, nil
	}
	return b.enterAside()
}

// enterAside is enter in a goroutine of its own. Entering needs a large stack. The
// goroutine that then waits, perhaps for hours, keeps a small one.
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
		// If the poller refused the socket, NewFile did not say so. This does.
		err = b.setDeadlines(dirBoth)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: wait for a flow: %w", core.ErrLimit, err)
	}
	b.rc = rc
	return rc, nil
}

// notify wakes the peer. The caller holds a half.mu, so that fd is open.
func (b *bell) notify() error { return shm.Notify(b.fd) }

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
