package ipc_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// The contexts of these tests end within this time: long enough to reach each
// step of a call, short enough to end it at most of them.
const upTo = 600 * time.Microsecond

// cut returns a context that ends at a random moment.
func cut(t testing.TB, upTo time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), rand.N(upTo))
}

// rounds is how often a test of this file cancels.
func rounds() int {
	if testing.Short() || racing {
		return 200
	}
	return 1000
}

// notCanceled reports an error that is none of a canceled call.
func notCanceled(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, core.ErrTimeout) && !errors.Is(err, core.ErrCanceled) {
		t.Errorf("%s: %v", what, err)
	}
}

// The first calls of a process are canceled at any moment. The next call works.
func TestCanceledFirstCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "local")
	w.register(t, "first")
	for i := range rounds() {
		n := ipc.NewNode(w.dir)
		var calls sync.WaitGroup
		for range 6 {
			calls.Go(func() {
				ctx, cancel := cut(t, upTo)
				defer cancel()
				c, err := n.Dial(ctx, "nobody")
				if err == nil {
					c.Close()
				}
			})
		}
		calls.Wait()
		l, err := n.Listen(wait(t), "first")
		if err == nil {
			var c *ipc.Conn
			if c, err = n.Dial(wait(t), "first"); err == nil {
				c.Close()
			}
			l.Close()
		}
		n.Close()
		if err != nil {
			t.Fatalf("round %d: after the canceled calls: %v", i, err)
		}
	}
}

// announce announces this process to the IRMd once more.
func (w *world) announce(t *testing.T, l *rpc.Link) error {
	program := irmctl.ThisProgram()
	_, err := rpc.Do(wait(t), l, irmctl.Announce, &program, nil)
	return err
}

// A process that closes a connection whose announcement is under way, and makes
// another, is what the other one says: the IRMd may handle the two in any order.
func TestAnnouncementOfClosedConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "local")
	program := irmctl.ThisProgram()
	for i := range rounds() {
		var old []*rpc.Link
		for range 1 + i%4 {
			l, err := irmctl.ConnectTo(wait(t), w.dir, rpc.Config{})
			must(t, err)
			rpc.Go(l, irmctl.Announce, &program, func(*rpc.Reply[rpc.Empty], error) {})
			l.Close()
			old = append(old, l)
		}
		l, err := irmctl.ConnectTo(wait(t), w.dir, rpc.Config{})
		must(t, err)
		if err = w.announce(t, l); err == nil {
			_, err = rpc.Do(wait(t), l, irmctl.Listen, &irmctl.ListenReq{ID: 1, Name: "one", Credit: 1}, nil)
		}
		for _, l := range append(old, l) {
			l.Close()
			<-l.Done()
		}
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}

// An announced process that lives is not replaced: a second announcement of the
// same process is refused, and the first one goes on.
func TestSecondAnnouncement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "local")
	w.register(t, "first")
	l := w.listen(t, "first")
	for range 3 {
		second, err := irmctl.ConnectTo(wait(t), w.dir, rpc.Config{})
		must(t, err)
		fails(t, "a second announcement", w.announce(t, second), core.ErrExists, "process", "another connection")
		second.Close()
		<-second.Done()
		c := w.dial(t, "first")
		must(t, accept(t, l).Close())
		must(t, c.Close())
	}
}
