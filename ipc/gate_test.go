package ipc_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// gate is the reading end of a process's stdout. It holds the process, and its
// children, at a line that they log: the pipe is given room for one line, and
// the line stays there unread. The event of that line has happened, and a process that
// writes the next line waits. So a test brings several processes to a step, without a hook
// in any of them and without a sleep.
type gate struct {
	r *os.File

	mu      sync.Mutex    // guards the fields below
	left    int           // lines to let through before the one that is held
	reached chan struct{} // closed when that is in the pipe; nil: nothing is held
	opened  chan struct{} // closed when it is not held any more
}

// newGate returns a gate and the pipe to write to, which the caller closes.
func newGate() (*gate, *os.File, error) {
	var fds [2]int
	// A write is a packet, and a packet takes a page of the pipe.
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil {
		return nil, nil, err
	}
	w := os.NewFile(uintptr(fds[1]), "gate")
	if err := unix.SetNonblock(fds[0], true); err != nil { // the writers' is another file
		return nil, nil, err
	}
	return &gate{r: os.NewFile(uintptr(fds[0]), "gate")}, w, nil
}

// narrow gives the pipe room for one line, once it is empty.
func (g *gate) narrow() error {
	raw, err := g.r.SyscallConn()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; {
		cerr := raw.Control(func(fd uintptr) {
			_, err = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, os.Getpagesize())
		})
		if err != unix.EBUSY || cerr != nil || time.Now().After(deadline) {
			return errors.Join(err, cerr)
		}
	}
}

// hold holds the line after the next n lines. What it returns is closed when
// that has been written. The pipe must be narrow.
func (g *gate) hold(n int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = n
	g.reached, g.opened = make(chan struct{}), make(chan struct{})
	return g.reached
}

// open lets all lines through.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reached != nil {
		close(g.opened)
		g.reached = nil
	}
}

// wait returns when the line in the pipe may be read.
func (g *gate) wait() {
	g.mu.Lock()
	reached, opened := g.reached, g.opened
	if reached != nil && g.left > 0 {
		g.left--
		reached = nil
	}
	g.mu.Unlock()
	if reached != nil {
		close(reached)
		<-opened
	}
}

// readable waits until there is a line to read, or the end.
func (g *gate) readable() error {
	raw, err := g.r.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// lines calls f with each line, until the end.
func (g *gate) lines(f func(string)) {
	defer g.r.Close()
	r, w := io.Pipe() // a long line is several packets, a panic many to a line
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			f(s.Text())
		}
	})
	packet := make([]byte, 64<<10)
	for {
		if g.readable() != nil {
			break
		}
		g.wait()
		n, err := g.r.Read(packet)
		if err != nil {
			break
		}
		w.Write(packet[:n])
	}
	w.Close()
	wg.Wait()
}
