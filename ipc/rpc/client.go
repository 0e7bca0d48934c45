package rpc

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"o7s/core"
)

// Reply is the answer to a call.
type Reply[Resp any] struct {
	Body  Resp
	files *files
}

// TakeFiles returns the descriptors that came with the reply, which are the
// caller's from now on.
func (r *Reply[Resp]) TakeFiles() []int { return r.files.take() }

// Close closes the descriptors that nobody has taken. A reply without
// descriptors needs no Close.
func (r *Reply[Resp]) Close() { r.files.close() }

// receiver is a call that waits for its answer. receive is called once, by the link's
// reader unless the link has ended; it owns f and must not keep body.
type receiver interface {
	receive(body []byte, f *files, err error)
}

// Pending is a call that Go has sent.
type Pending struct {
	link *Link
	id   uint32
	r    receiver
}

// Cancel tells the other end that the answer is not needed any more. done is still
// called, with the answer that comes. After the answer, and on the zero Pending, Cancel
// does nothing.
func (p Pending) Cancel() {
	if p.link == nil {
		return
	}
	p.link.mu.Lock()
	waiting := p.link.calls[p.id] == p.r
	p.link.mu.Unlock()
	if waiting {
		p.link.sendCancel(p.id)
	}
}

// Go calls m and returns at once. done is called exactly once, with the reply or an
// error. The link's reader calls it, or Go itself if the link has ended already. done
// must not block. Descriptors of the reply that done does not take are closed when it
// returns.
//
// The error is what the other end answered (see Error), or core.ErrMessage
// (too large, or a reply that does not parse), core.ErrLimit (too many
// descriptors in flight; the link lives), core.ErrUsage (more than MaxFiles),
// or why the link ended: core.ErrClosed after an own Close, core.ErrVersion,
// else Config.DownErr.
//
// The descriptors are borrowed, as in Call.Reply.
func Go[Req, Resp any](l *Link, m Method[Req, Resp], req *Req, done func(reply *Reply[Resp], err error), fds ...int) Pending {
	g := &async[Resp]{done: done}
	id, err := l.register(g)
	if err == nil {
		err = l.sendCall(id, m.Name, req, fds)
		if err == nil || !l.unregister(id, g) {
			return Pending{l, id, g}
		}
	}
	l.onReader(func() { done(nil, err) })
	return Pending{}
}

type async[Resp any] struct {
	reply Reply[Resp]
	done  func(*Reply[Resp], error)
}

func (g *async[Resp]) receive(body []byte, f *files, err error) {
	defer f.close()
	if err == nil {
		err = decode(body, &g.reply.Body)
	}
	if err != nil {
		g.done(nil, err)
		return
	}
	g.reply.files = f
	g.done(&g.reply, nil)
}

// Do calls m and waits for the answer; the errors are those of Go. When ctx is done Do
// cancels the call at the other end and returns core.ErrTimeout or core.ErrCanceled at
// once. A reply may come all the same. Then the link's reader calls late with it, if
// late is not nil, so that the caller can give back what the other end has allocated.
// late must not block.
//
// Do must not be called on the link's reader: not from a handler registered
// with Handle, nor from a done function. The caller takes the reply's
// descriptors, or Closes it.
func Do[Req, Resp any](ctx context.Context, l *Link, m Method[Req, Resp], req *Req, late func(*Reply[Resp]), fds ...int) (*Reply[Resp], error) {
	if err := ctx.Err(); err != nil {
		return nil, core.ContextError(err)
	}
	w := &waiter[Resp]{late: late, got: gotPool.Get().(chan struct{})}
	id, err := l.register(w)
	if err != nil {
		return nil, err
	}
	if err := l.sendCall(id, m.Name, req, fds); err != nil && l.unregister(id, w) {
		return nil, err
	}
	select {
	case <-w.got:
	case <-ctx.Done():
		if l.abandon(id, w, &w.abandoned) {
			l.sendCancel(id)
			return nil, core.ContextError(ctx.Err())
		}
		<-w.got // the answer is here, about to be decoded
	}
	gotPool.Put(w.got)
	if w.err != nil {
		return nil, w.err
	}
	return &w.reply, nil
}

// gotPool holds channels on which a waiter learns that its answer is here. A channel goes
// back when it is empty again.
var gotPool = sync.Pool{New: func() any { return make(chan struct{}, 1) }}

type waiter[Resp any] struct {
	reply     Reply[Resp]
	err       error
	late      func(*Reply[Resp])
	got       chan struct{}
	abandoned bool // guarded by the link's mu until the answer is here
}

func (w *waiter[Resp]) receive(body []byte, f *files, err error) {
	if w.abandoned {
		defer f.close()
		if err == nil && w.late != nil && decode(body, &w.reply.Body) == nil {
			w.reply.files = f
			w.late(&w.reply)
		}
		return
	}
	if err == nil {
		err = decode(body, &w.reply.Body)
	}
	if err != nil {
		f.close()
		w.err = err
	} else {
		f.closeWithOwner()
		w.reply.files = f
	}
	w.got <- struct{}{}
}

// Notify tells the other end, which does not answer. The error says that the
// message was not sent; nil does not say that it arrived.
func Notify[Req any](l *Link, m Method[Req, Empty], req *Req, fds ...int) error {
	if l.Err() != nil {
		return l.downError()
	}
	return l.notified(l.sendBody(kindNotify, 0, m.Name, req, fds))
}

func (l *Link) notified(err error) error {
	if err == errGone {
		return l.downError()
	}
	return err
}

// Notification is a notification that is encoded once, for many links.
type Notification struct{ packet []byte }

// NewNotification encodes what Notify would send. The error says that it is
// too large, or cannot be encoded.
func NewNotification[Req any](m Method[Req, Empty], req *Req) (Notification, error) {
	f, err := encode(kindNotify, 0, m.Name, req, 0)
	if err != nil {
		return Notification{}, err
	}
	defer f.free()
	return Notification{bytes.Clone(f.b)}, nil
}

// Notify sends n as the function Notify does.
func (l *Link) Notify(n Notification) error {
	if l.Err() != nil {
		return l.downError()
	}
	return l.notified(l.send(n.packet, nil))
}

// register enters r as a call that waits, under an id of its own.
func (l *Link) register(r receiver) (uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.downErrorLocked()
	}
	for {
		l.lastID++
		if _, used := l.calls[l.lastID]; !used && l.lastID != 0 {
			break
		}
	}
	l.calls[l.lastID] = r
	return l.lastID, nil
}

// unregister reports whether r still waited.
func (l *Link) unregister(id uint32, r receiver) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls[id] != r {
		return false
	}
	delete(l.calls, id)
	return true
}

// abandon sets *mark if r still waits, and reports whether it does.
func (l *Link) abandon(id uint32, r receiver, mark *bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls[id] != r {
		return false
	}
	*mark = true
	return true
}

// sendCall sends a call. It returns nil also if the connection is gone: the reader is
// about to see that, and fails the call with the reason.
func (l *Link) sendCall(id uint32, name string, req any, fds []int) error {
	err := l.sendBody(kindCall, id, name, req, fds)
	if err == nil || err == errGone {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}
