package rpc

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// Limits bound what the other end can make this one hold. A zero field is its
// default.
type Limits struct {
	Calls int           // unanswered calls of the other end, more get core.ErrLimit; 64
	Queue int           // bytes that wait for the other end to read; 1 MiB
	Stall time.Duration // how long the other end may read nothing while something waits; 1 s
	Hello time.Duration // how long its hello may take; 5 s
}

// Bounds on a link's queue besides Limits.Queue, of which they are parts: 4096
// packets and 256 descriptors in the 1 MiB that is the default.
const (
	bytesPerQueuedPacket = 1 << 8
	bytesPerQueuedFile   = 1 << 12
)

// Config says what a link is to its owner.
type Config struct {
	// Mux has the handlers of this side; nil: none.
	Mux *Mux

	// Instance goes to the other end with the hello: which irmd this is, 0
	// for a client.
	Instance uint64

	// Admit says why the link is one too many, else nil: its calls at the other
	// end fail with that, and it ends. New calls it, once; nil admits all.
	Admit func(Peer) error

	// OnEnd is called once, on the link's reader, after the last handler and
	// callback have returned. The error is that of Err. Peer's PIDFD is still open.
	// Done is not closed yet, so OnEnd must not wait for it.
	OnEnd func(l *Link, err error)

	// DownErr is what errors.Is finds in the error of a call that failed because
	// the link ended; 0 is core.ErrIRMd. It is not used where the link ended by
	// Close or by core.ErrVersion.
	DownErr core.Errno

	// Peer, if not nil, is the process at the other end. Else the kernel says
	// which process made the socket. For Pair that is this process itself: only
	// it knows which child holds the other end. PIDFD stays the caller's.
	Peer *Peer

	// NoFiles says that the other end has no reason to send descriptors and is not
	// trusted with any. The kernel closes descriptors that do not fit a message
	// while this process reads it, and their sender can make that take as long as
	// it likes. A kernel from Linux 6.16 on refuses them: the sender gets EPERM.
	NoFiles bool

	// Watch, if not nil, ends the link when the process that made the
	// connection ends, though another one may hold its socket.
	Watch *PeerWatch

	// Shares, if not nil, bound what all links of a user may take together.
	Shares *Shares

	// Limits bound what the other end can make this one hold.
	Limits Limits

	version uint64 // for tests; 0 is Version
}

// Link is one connection. Either side may call the other. Its methods may be
// called from any goroutine, also from handlers and callbacks.
type Link struct {
	conn   *net.UnixConn
	raw    syscall.RawConn
	cfg    Config
	peer   Peer
	pidfd  int    // to be closed with the link; -1: none
	share  *share // of the peer's user; nil: none
	helloT time.Time

	instance atomic.Uint64
	data     atomic.Pointer[any]
	patience atomic.Int64  // see SetPatience; 0: Limits.Stall
	ending   atomic.Bool   // err is set
	ready    chan struct{} // closed when the hello has come, or at the end
	done     chan struct{}
	wg       sync.WaitGroup // blocking handlers and the drain; not the reader

	mu         sync.Mutex          // guards the fields below; never held across a callback
	err        error               // why the link ends, nil while it does not
	torn       bool                // the reader has run its last callback
	calls      map[uint32]receiver // own calls without an answer
	lastID     uint32
	in         map[uint64]*inbound // the other end's calls without an answer
	lastOneway uint64
	blocking   int      // goroutines of HandleBlocking
	waiting    []func() // for the reader to run

	wmu      sync.Mutex // guards the fields below; mu may be taken under it
	wclosed  bool       // nothing can be sent any more
	draining bool       // the drain owns wio, writers only append to queue
	queue    []queued
	qbytes   int
	qfiles   int
	holding  bool   // the reader handles a packet
	held     *frame // messages for one packet; nil: none
	nheld    int
	wio      packetIO
	wfn      func(fd uintptr) bool

	// Only the reader uses the fields below. A packet is fresh if the reader waited
	// for it. The peer of a packet that is not fresh may have gone since.
	stale    int  // packets since the last fresh one
	peerGone bool // the other end has closed
	rio      packetIO
	rbuf     *[MaxMessage + 1]byte
	rfn      func(fd uintptr) bool
	hello    bool // the other end's has come
	resets   int
	last     bool // no new packet will come, only those that are there already
}

// New makes conn a link and takes it over, also where it fails. It sends a hello and
// does not wait for the other end's. Handlers run only once that hello has come. Calls
// may be made at once: they are sent behind this end's hello. An other end that sends
// no hello in time loses its link.
//
// The link lives until Close, or until the other end closes or breaks the
// protocol. Its owner waits for Done or OnEnd: until then goroutines may run.
// Where New fails, OnEnd is not called.
func New(conn *net.UnixConn, cfg Config) (*Link, error) {
	l := &Link{
		conn:  conn,
		cfg:   cfg,
		pidfd: -1,
		ready: make(chan struct{}),
		done:  make(chan struct{}),
		calls: make(map[uint32]receiver),
		in:    make(map[uint64]*inbound),
	}
	l.cfg.setDefaults()
	l.rfn, l.wfn = l.tryRead, l.tryWrite
	if err := l.start(); err != nil {
		conn.Close()
		if l.pidfd >= 0 {
			unix.Close(l.pidfd)
		}
		return nil, fmt.Errorf("link: %w", err)
	}
	return l, nil
}

func (c *Config) setDefaults() {
	if c.Mux == nil {
		c.Mux = NewMux()
	}
	c.Mux.frozen.Store(true)
	if c.DownErr == 0 {
		c.DownErr = core.ErrIRMd
	}
	if c.version == 0 {
		c.version = Version
	}
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.Limits.Calls, 64)
	def(&c.Limits.Queue, 1<<20)
	if c.Limits.Stall <= 0 {
		c.Limits.Stall = time.Second
	}
	if c.Limits.Hello <= 0 {
		c.Limits.Hello = 5 * time.Second
	}
}

func (l *Link) start() error {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return err
	}
	l.raw = raw
	if err := checkSeqpacket(raw); err != nil {
		return err
	}
	if l.cfg.NoFiles {
		l.rio.told = RefuseFiles(l.conn) != nil
	}
	if l.cfg.Peer != nil {
		l.peer = *l.cfg.Peer
	} else {
		if l.peer, err = peerOf(raw); err != nil {
			return err
		}
		if l.peer.PIDFD > 0 {
			l.pidfd = l.peer.PIDFD
		}
	}
	l.helloT = time.Now().Add(l.cfg.Limits.Hello)
	if err := l.conn.SetReadDeadline(l.helloT); err != nil {
		return err
	}
	l.sendHello()
	if l.cfg.Admit != nil {
		if err := l.cfg.Admit(l.peer); err != nil {
			l.protocolError(err)
		}
	}
	if l.cfg.Shares != nil {
		l.share = l.cfg.Shares.join(l.peer.UID)
	}
	if l.cfg.Watch != nil {
		l.cfg.Watch.add(l)
	}
	go l.run() // Done tells
	return nil
}

// Peer returns the process that made the connection.
func (l *Link) Peer() Peer { return l.peer }

// PeerClosed reports whether the other end, or this one, has closed. Packets that the
// other end sent before may be unread.
func (l *Link) PeerClosed() bool {
	closed := true
	l.raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, err := poll(fds)
		closed = err != nil || fds[0].Revents&unix.POLLHUP != 0
	})
	return closed
}

// Instance returns the instance in the other end's hello; 0 before that has come.
// Handlers, and callbacks of answered calls, run after it has come.
func (l *Link) Instance() uint64 { return l.instance.Load() }

// Handshake waits for the other end's hello. The error is core.ErrTimeout or
// core.ErrCanceled where ctx is done first, or why the link has ended.
func (l *Link) Handshake(ctx context.Context) error {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
	if l.Err() != nil {
		return l.downError()
	}
	return nil
}

// SetData keeps the owner's state for this link.
func (l *Link) SetData(v any) { l.data.Store(&v) }

// Data returns what SetData kept last, or nil.
func (l *Link) Data() any {
	if p := l.data.Load(); p != nil {
		return *p
	}
	return nil
}

// Done is closed when the link has ended, its handlers and OnEnd have returned
// and its socket is closed. Neither a handler nor a callback of this link may
// wait for it.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err returns nil while the link lives, else why it ends:
//   - core.ErrClosed after Close
//   - io.EOF when the other end has closed or died
//   - an error that wraps core.ErrVersion, core.ErrMessage (the other end broke the
//     protocol), core.ErrLimit (it did not read) or core.ErrTimeout (it sent no hello)
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close begins the end of the link and returns at once. Calls without an answer fail
// with core.ErrClosed, handlers are canceled, and Done closes when all have returned.
// Packets that the socket has taken are still delivered, those in the queue are not.
// Close may be called anywhere, and again.
func (l *Link) Close() error {
	l.flush()
	l.fail(core.ErrClosed)
	return nil
}

// past is a deadline that wakes the goroutines that wait for the socket.
var past = time.Unix(1, 0)

// fail begins the end of the link for the reason err. Only the first reason counts.
func (l *Link) fail(err error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
		l.ending.Store(true)
	}
	l.mu.Unlock()
	if first {
		l.conn.SetDeadline(past)
		l.shutdown()
	}
}

// shutdown lets the other end see the end now, though handlers may still run. The
// reader reads the packets that have arrived, and then the end.
func (l *Link) shutdown() {
	l.raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}

// protocolError ends the link and says why to the other end.
func (l *Link) protocolError(err error) {
	l.sendBye(err)
	l.flush()
	l.fail(err)
}

// onReader runs f on the reader, or here if the reader has gone.
func (l *Link) onReader(f func()) {
	l.mu.Lock()
	if l.torn {
		l.mu.Unlock()
		f()
		return
	}
	l.waiting = append(l.waiting, f)
	l.mu.Unlock()
	l.conn.SetReadDeadline(past)
}

// run is the link's goroutine.
func (l *Link) run() {
	l.fail(l.read())
	if !l.hello {
		close(l.ready)
	}
	for l.sweep() {
	}
	l.wmu.Lock()
	l.wclosed = true
	l.wmu.Unlock()
	l.wg.Wait()
	for _, p := range l.queue {
		closeAll(p.files)
		l.giveFiles(len(p.files))
	}
	l.conn.Close()
	if l.cfg.Watch != nil {
		l.cfg.Watch.remove(l)
	}
	if l.cfg.OnEnd != nil {
		l.cfg.OnEnd(l, l.Err())
	}
	if l.share != nil {
		l.cfg.Shares.leave(l.peer.UID)
	}
	if l.pidfd >= 0 {
		unix.Close(l.pidfd)
	}
	close(l.done)
}

// sweep fails the calls and cancels the handlers of a link that has ended. It
// reports false when none is left and none can come.
func (l *Link) sweep() bool {
	l.mu.Lock()
	err := l.downErrorLocked()
	calls, waiting := l.calls, l.waiting
	l.calls, l.waiting = nil, nil
	var cancels []func()
	for key, c := range l.in {
		if f := c.cancelLocked(); f != nil {
			cancels = append(cancels, f)
		}
		delete(l.in, key)
	}
	more := len(calls)+len(waiting)+len(cancels) > 0
	l.torn = !more
	l.mu.Unlock()

	for _, f := range waiting {
		f()
	}
	for _, r := range calls {
		r.receive(nil, nil, err)
	}
	for _, f := range cancels {
		f()
	}
	return more
}
