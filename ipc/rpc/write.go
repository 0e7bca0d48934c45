package rpc

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// errGone says that nothing can be sent any more. The reader is about to see the end of
// the link, and fails the calls that wait.
var errGone = errors.New("connection gone")

// queued is a packet that waits until the other end reads. Its descriptors are
// duplicates: the sender may close its own as soon as send has returned.
type queued struct {
	b     []byte
	files []int
}

func (l *Link) sendHello() {
	f := newFrame(kindHello)
	f.str(magic)
	f.uint(l.cfg.version)
	f.uint(l.cfg.Instance)
	l.send(f.b, nil)
	f.free()
}

// sendBody sends a call, a notification or a reply.
func (l *Link) sendBody(kind byte, id uint32, method string, body any, fds []int) error {
	f, err := encode(kind, id, method, body, len(fds))
	if err != nil {
		return err
	}
	err = l.send(f.b, fds)
	f.free()
	return err
}

// encode returns a call, a notification or a reply that says how many descriptors, files,
// come with it.
func encode(kind byte, id uint32, method string, body any, files int) (*frame, error) {
	if files > MaxFiles {
		return nil, fmt.Errorf("%w: %d descriptors, a message carries %d", core.ErrUsage, files, MaxFiles)
	}
	if len(method) > MaxMethod {
		return nil, fmt.Errorf("%w: a method name of %d bytes", core.ErrUsage, len(method))
	}
	f := newFrame(kind)
	f.uint(uint64(id))
	f.uint(uint64(files))
	if kind != kindReply {
		f.str(method)
	}
	if err := f.body(body); err != nil {
		// The encoder may be left in the middle: f does not go back to the pool.
		if errors.Is(err, errTooLarge) {
			return nil, errTooLarge
		}
		return nil, fmt.Errorf("%w: encode: %w", core.ErrInternal, err)
	}
	return f, nil
}

func (l *Link) sendError(id uint32, err error) {
	f := newFrame(kindError)
	f.uint(uint64(id))
	f.uint(uint64(errorCode(err)))
	f.str(errorText(err))
	l.send(f.b, nil) // gone: the caller knows
	f.free()
}

func (l *Link) sendCancel(id uint32) {
	f := newFrame(kindCancel)
	f.uint(uint64(id))
	l.send(f.b, nil)
	f.free()
}

func (l *Link) sendBye(err error) {
	f := newFrame(kindBye)
	f.uint(uint64(errorCode(err)))
	f.str(errorText(err))
	l.send(f.b, nil)
	f.free()
}

// tryWrite is what the poller calls when the socket may be writable.
func (l *Link) tryWrite(fd uintptr) bool {
	return l.wio.call(unix.SYS_SENDMSG, fd, unix.MSG_NOSIGNAL)
}

// write sends one packet. Its errors are unix.EAGAIN, not now; errGone;
// os.ErrDeadlineExceeded, if wait is set; any other error refuses this packet alone.
func (l *Link) write(b []byte, fds []int, wait bool) error {
	l.wio.prepare(b, l.wio.putFiles(fds))
	l.wio.wait = wait
	if err := l.raw.Write(l.wfn); err != nil {
		if wait && errors.Is(err, os.ErrDeadlineExceeded) {
			return os.ErrDeadlineExceeded
		}
		return errGone
	}
	switch errno := l.wio.err; errno {
	case 0:
		return nil
	case unix.EAGAIN:
		return unix.EAGAIN
	case unix.EPIPE, unix.ECONNRESET, unix.ECONNREFUSED, unix.ENOTCONN:
		l.shutdown() // the reader reads what has come, then the end
		return errGone
	case unix.ETOOMANYREFS, unix.ENOBUFS, unix.ENOMEM:
		// The kernel counts descriptors in flight for each user, so the peer of
		// another link may be the cause. Only this message is refused.
		return fmt.Errorf("%w: sendmsg: %w", core.ErrLimit, errno)
	case unix.EMSGSIZE:
		return fmt.Errorf("%w: sendmsg: %w", core.ErrMessage, errno)
	case unix.EBADF:
		return fmt.Errorf("%w: sendmsg: %w", core.ErrUsage, errno)
	default:
		return fmt.Errorf("%w: sendmsg: %w", core.ErrInternal, errno)
	}
}

// send sends or queues a packet, and never waits. It keeps neither b nor fds.
// The error is errGone or a refusal of this packet.
func (l *Link) send(b []byte, fds []int) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	if l.wclosed {
		return errGone
	}
	if l.holding && len(fds) == 0 && l.holdLocked(b) {
		return nil
	}
	l.flushLocked()
	return l.sendLocked(b, fds)
}

// sendLocked sends or queues a packet of its own.
func (l *Link) sendLocked(b []byte, fds []int) error {
	if l.wclosed {
		return errGone
	}
	if !l.draining {
		err := l.write(b, fds, false)
		l.wclosed = err == errGone
		if err != unix.EAGAIN {
			return err
		}
	}
	return l.enqueueLocked(b, fds)
}

// enqueueLocked queues a packet behind all earlier ones.
func (l *Link) enqueueLocked(b []byte, fds []int) error {
	room := l.cfg.Limits.Queue
	if len(l.queue) >= room/bytesPerQueuedPacket || l.qbytes+len(b) > room || l.qfiles+len(fds) > room/bytesPerQueuedFile {
		l.fail(fmt.Errorf("%w: the other end does not read: %d packets of %d bytes with %d descriptors wait", core.ErrLimit, len(l.queue), l.qbytes, l.qfiles))
		return errGone
	}
	if err := l.takeFiles(len(fds)); err != nil {
		return err
	}
	dups, err := dupAll(fds)
	if err != nil {
		l.giveFiles(len(fds))
		return fmt.Errorf("%w: duplicate a descriptor: %w", core.ErrLimit, err)
	}
	l.queue = append(l.queue, queued{slices.Clone(b), dups})
	l.qbytes += len(b)
	l.qfiles += len(fds)
	if !l.draining {
		l.draining = true
		l.wg.Go(l.drain) // wclosed is false, so nobody waits for wg yet
	}
	return nil
}

// takeFiles counts descriptors that are about to wait.
func (l *Link) takeFiles(n int) error {
	if n == 0 || l.cfg.Shares == nil || l.cfg.Shares.Files == nil {
		return nil
	}
	return l.cfg.Shares.Files.Take(l.peer, n)
}

func (l *Link) giveFiles(n int) {
	if n > 0 && l.cfg.Shares != nil && l.cfg.Shares.Files != nil {
		l.cfg.Shares.Files.Give(l.peer, n)
	}
}

// drain writes the queue until it is empty or the link ends.
func (l *Link) drain() {
	l.wmu.Lock()
	for len(l.queue) > 0 && !l.wclosed {
		p := l.queue[0]
		l.wmu.Unlock()
		err := l.writeWait(p)
		if err != nil && err != errGone {
			l.refused(p.b, err)
		}
		l.wmu.Lock()
		if err == errGone {
			l.wclosed = true // what is left is dropped at the end
			break
		}
		closeAll(p.files)
		l.giveFiles(len(p.files))
		l.queue[0] = queued{}
		l.queue = l.queue[1:]
		l.qbytes -= len(p.b)
		l.qfiles -= len(p.files)
	}
	l.queue = slices.Clip(l.queue)
	l.conn.SetWriteDeadline(time.Time{})
	l.draining = false
	l.wmu.Unlock()
}

// writeWait writes one packet, for as long as the other end reads something.
func (l *Link) writeWait(p queued) error {
	l.conn.SetWriteDeadline(time.Now().Add(l.stall()))
	if l.ending.Load() { // fail may have set its deadline before this one
		return errGone
	}
	err := l.write(p.b, p.files, true)
	if err != os.ErrDeadlineExceeded {
		return err
	}
	// The kernel calls a socket writable once a good part of it is free. A
	// slow reader may have made room for this packet without that.
	l.conn.SetWriteDeadline(time.Time{})
	if err = l.write(p.b, p.files, false); err != unix.EAGAIN {
		return err
	}
	l.fail(fmt.Errorf("%w: the other end has read nothing for %v", core.ErrLimit, l.stall()))
	return errGone
}

// SetPatience sets how long the other end may read nothing while a packet waits for it.
// It replaces Limits.Stall from now on; 0 brings Limits.Stall back.
func (l *Link) SetPatience(d time.Duration) { l.patience.Store(int64(d)) }

func (l *Link) stall() time.Duration {
	if d := time.Duration(l.patience.Load()); d > 0 {
		return d
	}
	return l.cfg.Limits.Stall
}

// refused is called where the kernel has refused a queued packet. A call in it fails at
// this end, and a reply in it becomes an error at the other end.
func (l *Link) refused(b []byte, err error) {
	m, perr := parse(b)
	if perr != nil {
		l.fail(err)
		return
	}
	switch m.kind {
	case kindSeveral:
		_ = several(b, func(one []byte) error { l.refused(one, err); return nil })
	case kindReply:
		l.sendError(m.id, fmt.Errorf("reply: %w", err))
	case kindCall:
		if r := l.answeredCall(m.id); r != nil {
			l.onReader(func() { r.receive(nil, nil, err) })
		}
	default:
		l.fail(err)
	}
}
