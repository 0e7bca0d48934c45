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
