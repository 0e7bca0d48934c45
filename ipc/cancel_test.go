package ipc_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
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

// diallers dial name in w until stop is called, and read each flow to its end,
// which must come.
func (w *world) diallers(t *testing.T, name string) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var flows atomic.Int32
	for range 16 {
		all.Go(func() {
			for ctx.Err() == nil {
				c, err := w.node.Dial(ctx, name)
				if err != nil {
					continue
				}
				flows.Add(1)
				c.SetDeadline(time.Now().Add(patience))
				if _, err := c.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, core.ErrFlowDown) {
					t.Errorf("a flow that nobody accepts: read: %v", err)
					cancel()
				}
				c.Close()
			}
		})
	}
	return func() int {
		cancel()
		all.Wait()
		return int(flows.Load())
	}
}

// A flow that was given to a listener whose Listen is canceled, or that is
// closed, ends at once at both ends: no Accept will take it.
func TestCanceledListen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		listen func(t *testing.T, w *world) // and end it, one way or another
	}{
		{"cancel", func(t *testing.T, w *world) {
			ctx, cancel := cut(t, upTo)
			defer cancel()
			l, err := w.node.Listen(ctx, "unheard")
			notCanceled(t, "listen", err)
			if err == nil {
				l.Close()
			}
		}},
		{"close while Accept waits", func(t *testing.T, w *world) {
			l, err := w.node.Listen(wait(t), "unheard")
			must(t, err)
			accepted := async(func() error {
				c, err := l.AcceptFlow()
				if err == nil {
					c.Close()
				}
				return err
			})
			time.Sleep(rand.N(upTo))
			l.Close()
			<-accepted
		}},
		{"cancel a second listener", func(t *testing.T, w *world) {
			l, err := w.node.Listen(wait(t), "unheard")
			must(t, err)
			ctx, cancel := cut(t, upTo)
			defer cancel()
			second, err := w.node.Listen(ctx, "unheard")
			notCanceled(t, "listen", err)
			if err == nil {
				second.Close()
			}
			l.Close()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "local")
			w.register(t, "unheard")
			// So that dials wait for a listener, and arrive before Listen returns.
			must(t, w.listen(t, "announce").Close())
			must(t, w.admin.BindProcess(wait(t), os.Getpid(), "unheard"))
			stop := w.diallers(t, "unheard")
			for range rounds() {
				tt.listen(t, w)
				if t.Failed() {
					break
				}
			}
			t.Logf("%d flows were dialled", stop())
			w.empty(t)
		})
	}
}

// A flow arrives at a listener whose Listen is under way, and is canceled then:
// the flow ends at once at both ends.
func TestFlowOfCanceledListen(t *testing.T) {
	t.Parallel()
	mux := rpc.NewMux()
	listening := make(chan *rpc.Call[rpc.Empty])
	var id uint32
	rpc.Handle(mux, irmctl.Listen, func(c *rpc.Call[rpc.Empty], r *irmctl.ListenReq) {
		id = r.ID
		c.OnCancel(func() { c.Fail(core.ErrCanceled) })
		go func() { listening <- c }()
	})
	f := newFakeIRMd(t, mux)
	for i := range core.FlowID(rounds()) {
		ctx, cancel := context.WithCancel(t.Context())
		returned := async(func() error { _, err := f.node.Listen(ctx, "name"); return err })
		given := make(chan error, 1)
		other := f.give(t, (<-listening).Link(), id, i, func(err error) { given <- err })
		must(t, result(t, "give a flow", given))
		cancel()
		fails(t, "listen", result(t, "listen", returned), core.ErrCanceled)
		f.isOver(t, i, other)
	}
}

// A listener that an IRMd hears of in the same moment as those that come back
// to it is heard of once.
func TestListenWhileOthersComeBack(t *testing.T) {
	t.Parallel()
	mux := rpc.NewMux()
	asked := make(chan uint32, 10)
	var slow atomic.Pointer[rpc.Call[rpc.Empty]]
	rpc.Handle(mux, irmctl.Listen, func(c *rpc.Call[rpc.Empty], r *irmctl.ListenReq) {
		if r.Name == "slow" {
			slow.Store(c)
		} else {
			_ = c.Reply(nil)
		}
		asked <- r.ID
	})
	f := newFakeIRMd(t, mux)
	l, err := f.node.Listen(wait(t), "first")
	must(t, err)
	defer l.Close()
	<-asked
	second := async(func() error {
		l, err := f.node.Listen(wait(t), "slow")
		if err == nil {
			err = l.Close()
		}
		return err
	})
	<-asked
	f.goAway()
	fails(t, "listen", result(t, "listen", second), core.ErrIRMd)
	second = async(func() error {
		l, err := f.node.Listen(wait(t), "slow")
		if err == nil {
			err = l.Close()
		}
		return err
	})
	for range 2 { // the first one comes back
		result(t, "listen", asked)
	}
	select {
	case id := <-asked:
		t.Errorf("the IRMd hears of listener %d again", id)
	case <-time.After(100 * time.Millisecond): // more than the pause between two attempts
	}
	must(t, slow.Load().Reply(nil))
	must(t, result(t, "listen", second))
}
