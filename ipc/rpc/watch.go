package rpc

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/sys"
)

// PeerWatch ends links whose peer has ended. A socket outlives the process that made it
// if another process holds it too, by fork or because it was passed on. The number of
// the dead process may then be another's. A link whose other end is closed is left to
// its reader, which first reads the packets that came before.
type PeerWatch struct {
	file *os.File // an epoll of pidfds
	raw  syscall.RawConn
	done chan struct{}

	mu      sync.Mutex // guards the fields below
	links   map[int32]*Link
	keys    map[*Link]int32
	lastKey int32
}

// WatchPeers returns a PeerWatch without links, for Config.Watch. It takes one
// descriptor and one goroutine, whatever it watches. The caller must Close it.
func WatchPeers() (*PeerWatch, error) {
	file, raw, err := sys.NewEpoll("peer watch")
	if err != nil {
		return nil, fmt.Errorf("%w: watch peers: %w", core.ErrLimit, err)
	}
	w := &PeerWatch{
		file: file, raw: raw, done: make(chan struct{}),
		links: make(map[int32]*Link), keys: make(map[*Link]int32),
	}
	go w.run()
	return w, nil
}

// Close ends the watch. Links that use it live on without it.
func (w *PeerWatch) Close() error {
	err := w.file.Close()
	<-w.done
	return err
}

// add watches the peer of l. A peer that has no pidfd has ended already.
func (w *PeerWatch) add(l *Link) {
	if l.peer.PIDFD <= 0 {
		l.peerEnded()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.links[w.lastKey] != nil {
		w.lastKey++
	}
	err := w.control(unix.EPOLL_CTL_ADD, l.peer.PIDFD, w.lastKey)
	if errors.Is(err, os.ErrClosed) {
		return
	}
	if err != nil { // a link that is not watched is not safe
		l.protocolError(fmt.Errorf("%w: watch process %d: %w", core.ErrLimit, l.peer.PID, err))
		return
	}
	w.links[w.lastKey], w.keys[l] = l, w.lastKey
	w.lastKey++
}

// remove forgets l. It comes before the pidfd is closed.
func (w *PeerWatch) remove(l *Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if key, ok := w.keys[l]; ok {
		_ = w.control(unix.EPOLL_CTL_DEL, l.peer.PIDFD, key)
		delete(w.links, key)
		delete(w.keys, l)
	}
}

func (w *PeerWatch) control(op, pidfd int, key int32) error {
	var err error
	cerr := w.raw.Control(func(ep uintptr) {
		err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(ep), op, pidfd, &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: key,
		}))
	})
	return errors.Join(cerr, err)
}

// run is the watch's goroutine.
func (w *PeerWatch) run() {
	defer close(w.done)
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := w.raw.Read(func(ep uintptr) bool {
			for {
				var err error
				if n, err = unix.EpollWait(int(ep), events, 0); err != unix.EINTR {
					return n > 0
				}
			}
		})
		if err != nil {
			return // closed
		}
		for _, e := range events[:n] {
			w.mu.Lock()
			l := w.links[e.Fd]
			w.mu.Unlock()
			if l != nil {
				l.peerEnded()
			}
		}
	}
}

// peerEnded ends the link, unless its other end is closed. A process closes its
// descriptors before its pidfd says that it has ended.
func (l *Link) peerEnded() {
	if !l.PeerClosed() {
		l.protocolError(fmt.Errorf("%w: process %d, which made the connection, has ended", core.ErrClosed, l.peer.PID))
	}
}
