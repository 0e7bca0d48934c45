package rpc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// readBufs holds buffers of one byte more than a packet may have. A link has
// one only while it handles a packet: most links are idle most of the time.
var readBufs = sync.Pool{New: func() any { return new([MaxMessage + 1]byte) }}

// tryRead is what the poller calls when the socket may be readable.
func (l *Link) tryRead(fd uintptr) bool {
	buf := readBufs.Get().(*[MaxMessage + 1]byte)
	l.rio.wait = !l.last
	l.rio.prepare(buf[:], controlSpace)
	if !l.rio.call(unix.SYS_RECVMSG, fd, unix.MSG_CMSG_CLOEXEC) {
		readBufs.Put(buf)
		l.stale = 0
		return false
	}
	l.rbuf = buf
	return true
}

// staleCheck is how many packets the reader takes without a wait before it checks
// whether the other end has closed. If it has, calls are dropped, since nobody waits for
// their answers.
const staleCheck = 16

// read handles packets until the link ends, and returns why.
func (l *Link) read() error {
	for {
		err := l.raw.Read(l.rfn)
		switch {
		case err == nil:
			if l.share != nil {
				l.share.packets <- struct{}{}
			}
			if l.stale++; l.stale%staleCheck == 0 && !l.peerGone {
				l.peerGone = l.PeerClosed()
			}
			l.hold()
			err = l.packet()
			l.release()
			if l.share != nil {
				<-l.share.packets
			}
			readBufs.Put(l.rbuf)
			l.rbuf = nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = l.woken()
		}
		if err != nil {
			return err
		}
		if l.ending.Load() {
			return l.Err()
		}
	}
}

// woken runs the functions that were given to onReader. It ends a link whose hello does
// not come in time.
func (l *Link) woken() error {
	var deadline time.Time
	if !l.hello {
		if !time.Now().Before(l.helloT) {
			err := fmt.Errorf("%w: no hello in %v", core.ErrTimeout, l.cfg.Limits.Hello)
			l.sendBye(err)
			return err
		}
		deadline = l.helloT
	}
	// First the deadline, then the list: a goroutine that appends to the list after
	// this sets the deadline again.
	l.conn.SetReadDeadline(deadline)
	l.mu.Lock()
	waiting, err := l.waiting, l.err
	l.waiting = nil
	l.mu.Unlock()
	for _, f := range waiting {
		f()
	}
	return err
}

// packet handles what tryRead has received. An error ends the link.
func (l *Link) packet() error {
	p := &l.rio
	if p.err == unix.ECONNRESET && l.resets < 8 {
		// The other end closed and had not read all that this end sent. The packets
		// that it sent before come after this error.
		l.resets++
		return nil
	}
	if p.err == unix.EAGAIN { // only where it does not wait
		return io.EOF
	}
	if p.err != 0 {
		return os.NewSyscallError("recvmsg", p.err)
	}
	// The kernel has installed the descriptors, even if the packet is refused below.
	fds, bad := p.takeFiles()
	// Of those that fit, the kernel installed as many as this process had
	// free descriptors for. That is not the other end's fault.
	short := p.flags&unix.MSG_CTRUNC != 0 && len(fds) < MaxFiles
	var err error
	switch {
	case p.flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("%w: a packet of more than %d bytes", core.ErrMessage, MaxMessage)
	case p.flags&unix.MSG_CTRUNC != 0 && !short:
		err = fmt.Errorf("%w: more than %d descriptors in a packet", core.ErrMessage, MaxFiles)
	case bad:
		err = malformed("control data that are no descriptors")
	case p.n == 0:
		// An empty packet, or the end. The kernel first finds the queue empty, and
		// then that the other end has closed. Packets that came in between are still
		// there, so read once more.
		closeAll(fds)
		if l.last {
			return io.EOF
		}
		l.last = true
		return nil
	case l.ending.Load():
		closeAll(fds)
		return l.Err()
	}
	if err == nil {
		if l.hello {
			err = l.message(l.rbuf[:p.n], fds, short)
		} else {
			err = l.gotHello(l.rbuf[:p.n], fds)
		}
	} else {
		closeAll(fds)
	}
	if errors.Is(err, core.ErrMessage) {
		l.sendBye(err)
	}
	return err
}

func (l *Link) gotHello(b []byte, fds []int) error {
	if len(fds) > 0 {
		closeAll(fds)
		return malformed("a hello with descriptors")
	}
	version, instance, err := parseHello(b)
	if err != nil {
		return err
	}
	if version != l.cfg.version {
		return fmt.Errorf("%w: this end speaks version %d, the other end version %d", core.ErrVersion, l.cfg.version, version)
	}
	l.instance.Store(instance)
	l.hello = true
	close(l.ready)
	return l.woken() // and no more deadline
}

// message dispatches a packet. It owns fds. short says that fewer descriptors came
// than were sent. Then the message is handled without any of them, and its handler
// refuses a message that needs them.
func (l *Link) message(b []byte, fds []int, short bool) error {
	m, err := parse(b)
	if short {
		closeAll(fds)
		if fds = nil; m.files <= MaxFiles {
			m.files = 0
		}
	}
	if err == nil && m.files != len(fds) {
		err = malformed(fmt.Sprintf("%d descriptors declared, %d came", m.files, len(fds)))
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	var f *files
	if len(fds) > 0 {
		f = &files{fds: fds}
	}
	switch m.kind {
	case kindSeveral:
		return several(b, l.oneOfSeveral)
	case kindCall, kindNotify:
		return l.serve(m, f)
	case kindReply:
		r := l.answeredCall(m.id)
		if r == nil {
			f.close()
			return malformed(fmt.Sprintf("a reply to call %d, which does not wait", m.id))
		}
		r.receive(m.body, f, nil)
	case kindError:
		r := l.answeredCall(m.id)
		if r == nil {
			return malformed(fmt.Sprintf("an error for call %d, which does not wait", m.id))
		}
		r.receive(nil, nil, answered(m.code, m.text))
	case kindCancel:
		l.cancel(m.id)
	case kindBye:
		// Not a core.ErrMessage of the other end: a bye is not answered.
		l.fail(&byeError{reason: answered(m.code, m.text)})
	}
	return nil
}

// oneOfSeveral dispatches a message that came in a packet with others.
func (l *Link) oneOfSeveral(b []byte) error {
	if l.ending.Load() {
		return l.Err()
	}
	if len(b) > 1 && b[1] == kindSeveral {
		return malformed("several messages in one of several")
	}
	return l.message(b, nil, false)
}

func (l *Link) serve(m message, f *files) error {
	oneway := m.kind == kindNotify
	if !oneway && m.id == 0 {
		f.close()
		return malformed("a call with id 0")
	}
	if l.peerGone && !oneway {
		f.close()
		return nil
	}
	s := l.cfg.Mux.handlers[string(m.method)]
	if s == nil {
		f.close()
		err := fmt.Errorf("%w: method %.*q", core.ErrNotSupported, MaxMethod, m.method)
		if oneway {
			l.protocolError(err)
			return nil
		}
		l.sendError(m.id, err)
		return nil
	}
	s(l, m.id, oneway, m.body, f)
	return nil
}

// answeredCall takes the call out of the table; nil: none waits under id.
func (l *Link) answeredCall(id uint32) receiver {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.calls[id]
	delete(l.calls, id)
	return r
}

// cancel tells the handler of the call id that the caller does not wait any more. If
// there is no such call, it was answered meanwhile.
func (l *Link) cancel(id uint32) {
	var f func()
	l.mu.Lock()
	if c := l.in[uint64(id)]; c != nil {
		f = c.cancelLocked()
	}
	l.mu.Unlock()
	if f != nil {
		f()
	}
}
