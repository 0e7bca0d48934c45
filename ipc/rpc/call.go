package rpc

import (
	"fmt"

	"o7s/core"
)

// Call is one incoming call, or a notification, for which Reply and Fail do
// nothing. Its methods may be called from any goroutine.
type Call[Resp any] struct{ in inbound }

// Link returns the link that the call came by.
func (c *Call[Resp]) Link() *Link { return c.in.link }

// Reply answers the call; nil is the zero Resp. The descriptors are borrowed:
// when Reply returns they are sent, or duplicated into the link's queue, and
// the caller may close them. A second answer is ignored, with a nil error.
//
// An error says that the other end gets neither this reply nor its descriptors, so the
// handler can take back what they stand for. Either the link has ended, or the reply
// could not be sent: core.ErrMessage, it is too large; core.ErrLimit, too many
// descriptors are in flight. Then the caller gets that error instead. A nil error does
// not say that a reply without descriptors was sent: it may be held or queued.
func (c *Call[Resp]) Reply(resp *Resp, fds ...int) error {
	if ok, err := c.in.finish(); !ok {
		return err
	}
	if resp == nil {
		resp = new(Resp)
	}
	l := c.in.link
	err := l.sendBody(kindReply, c.in.id, "", resp, fds)
	if err == nil {
		return nil
	}
	if err == errGone {
		return l.downError()
	}
	l.sendError(c.in.id, fmt.Errorf("reply: %w", err))
	return err
}

// Fail answers the call with an error. The caller gets the text of err and the
// code of the core.Errno that errors.As finds in it; context errors become
// core.ErrTimeout and core.ErrCanceled, everything else core.ErrInternal. A
// second answer is ignored.
func (c *Call[Resp]) Fail(err error) { c.in.fail(err) }

// OnCancel names a function that is called at most once, if the caller cancels or the
// link ends before the call is answered. The link's reader calls it, or OnCancel itself
// if that has happened already. The call must still be answered. An answer from another
// goroutine may be sent at the same moment. A second OnCancel replaces the first.
func (c *Call[Resp]) OnCancel(f func()) { c.in.setCancel(f) }

// TakeFiles returns the descriptors that came with the request, which are the
// caller's from now on. Those not taken when the handler returns are closed.
func (c *Call[Resp]) TakeFiles() []int { return c.in.files.take() }

// inbound is what a link keeps of a call until it is answered. Its fields
// after files are guarded by the link's mu.
type inbound struct {
	link   *Link
	id     uint32
	oneway bool
	files  *files

	key      uint64 // in link.in; 0: a notification, not kept
	blocking bool   // counts in link.blocking until release
	canceled bool
	onCancel func()
}

// Notifications with a goroutine are kept in link.in too, so that their
// context ends with the link, under keys that are no 32 bit id.
const firstOnewayKey = 1 << 32

// admit enters c into the link's table. If it returns false, the handler must not run:
// the call was answered, or the link was ended.
func (l *Link) admit(c *inbound, name string, blocking bool) bool {
	l.mu.Lock()
	var over error
	if !c.oneway && len(l.in) >= l.cfg.Limits.Calls || blocking && l.blocking >= l.cfg.Limits.Calls {
		over = fmt.Errorf("%w: %d calls of one connection are unanswered", core.ErrLimit, l.cfg.Limits.Calls)
	}
	_, dup := l.in[uint64(c.id)]
	dup = dup && !c.oneway
	if over == nil && !dup && blocking && l.share != nil {
		over = l.share.begin(l)
	}
	if over == nil && !dup {
		switch {
		case !c.oneway:
			c.key = uint64(c.id)
		case blocking:
			l.lastOneway++
			c.key = firstOnewayKey + l.lastOneway
		}
		if c.key != 0 {
			l.in[c.key] = c
		}
		if blocking {
			l.blocking++
			c.blocking = true
		}
	}
	l.mu.Unlock()

	switch {
	case dup:
		l.protocolError(fmt.Errorf("%w: call %d is under way already", core.ErrMessage, c.id))
		return false
	case over != nil:
		c.reject(name, over)
		return false
	}
	return true
}

// reject answers a call that its handler never sees. A notification has no answer, so
// that the other end would not learn of it: it ends the link.
func (c *inbound) reject(name string, err error) {
	err = fmt.Errorf("%s: %w", name, err)
	if c.oneway {
		c.finish()
		c.release()
		c.link.protocolError(err)
		return
	}
	if c.key == 0 { // not admitted
		c.link.sendError(c.id, err)
		return
	}
	c.release()
	c.fail(err)
}

// finish takes c out of the table. It returns true to its first caller, which then
// sends the answer. It returns false and the link's error if the link has ended.
func (c *inbound) finish() (bool, error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.key == 0 || l.in[c.key] != c {
		if c.canceled && l.err != nil && !c.oneway {
			return false, l.downErrorLocked()
		}
		return false, nil
	}
	delete(l.in, c.key)
	c.onCancel = nil
	return !c.oneway, nil
}

func (c *inbound) fail(err error) {
	if ok, _ := c.finish(); ok {
		c.link.sendError(c.id, err)
	}
}

// release gives back the goroutine that admit counted.
func (c *inbound) release() {
	if c.blocking {
		c.link.mu.Lock()
		c.link.blocking--
		c.link.mu.Unlock()
		if c.link.share != nil {
			c.link.share.end()
		}
		c.blocking = false
	}
}

func (c *inbound) setCancel(f func()) {
	l := c.link
	l.mu.Lock()
	if c.canceled {
		l.mu.Unlock()
		f()
		return
	}
	if c.key != 0 && l.in[c.key] == c {
		c.onCancel = f
	}
	l.mu.Unlock()
}

// cancelLocked marks c and returns what is to be called without the lock.
func (c *inbound) cancelLocked() func() {
	f := c.onCancel
	c.canceled, c.onCancel = true, nil
	return f
}
