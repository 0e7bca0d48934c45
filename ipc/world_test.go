package ipc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
	"o7s/ipc/irmctl"
)

// world is an IRMd with one layer, and this process as one of its processes.
type world struct {
	*system
	typ   string // of the layer
	node  *ipc.Node
	admin *irmctl.Client
}

// each runs f in a world of each layer type, at the same time as other tests.
func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Parallel()
	for _, typ := range types {
		t.Run(typ.Name, func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(t, typ.Name))
		})
	}
}

// newWorld starts one, whose IRMd has args too. At the test's end nothing of it
// may be left.
func newWorld(t testing.TB, typ string, args ...string) *world {
	t.Helper()
	w := newSystem(t, args...)
	w.typ = typ
	w.setUp(t)
	return w
}

// newSystem is newWorld without a layer.
func newSystem(t testing.TB, args ...string) *world {
	t.Helper()
	dir, err := newDir()
	must(t, err)
	p, err := startIRMd(dir, args...)
	must(t, err)
	w := &world{system: &system{p, dir}, node: ipc.NewNode(dir)}
	t.Cleanup(func() {
		w.node.Close()
		if w.admin != nil {
			w.admin.Close()
		}
		if err := w.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Logf("irmd:\n%s", strings.Join(w.lines[max(0, len(w.lines)-60):], "\n"))
		}
	})
	return w
}

// connect makes this process an administrator of it.
func (w *world) connect(t testing.TB) {
	t.Helper()
	var err error
	w.admin, err = client(wait(t), w.dir)
	must(t, err)
}

// setUp makes the layer.
func (w *world) setUp(t testing.TB) {
	t.Helper()
	w.connect(t)
	must(t, w.bootstrap(w.typ))
}

// restart starts an IRMd where there was one, without a layer.
func (w *world) restart(t testing.TB) {
	t.Helper()
	w.admin.Close()
	var err error
	w.process, err = startIRMd(w.dir)
	must(t, err)
}

func (w *world) register(t testing.TB, names ...string) {
	t.Helper()
	for _, n := range names {
		must(t, w.admin.RegisterName(wait(t), irmctl.RegisterReq{Name: n, Layers: []string{"layer"}}))
	}
}

// wait returns a context that ends with the test, or with its patience.
func wait(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// listen listens on a name that is registered; to the test's end.
func (w *world) listen(t testing.TB, name string, opts ...ipc.Option) *ipc.Listener {
	t.Helper()
	l, err := w.node.Listen(wait(t), name, opts...)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func (w *world) dial(t testing.TB, name string, opts ...ipc.Option) *ipc.Conn {
	t.Helper()
	c, err := w.node.Dial(wait(t), name, opts...)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t testing.TB, l *ipc.Listener) *ipc.Conn {
	t.Helper()
	c, err := l.AcceptFlow()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// pair returns the two ends of a flow. Calls of both are bounded.
func (w *world) pair(t testing.TB, name string) (client, server *ipc.Conn) {
	t.Helper()
	w.register(t, name)
	l := w.listen(t, name)
	defer l.Close()
	client = w.dial(t, name)
	server = accept(t, l)
	for _, c := range []*ipc.Conn{client, server} {
		must(t, c.SetDeadline(time.Now().Add(patience)))
	}
	return client, server
}

// empty checks that no flow is left: the next ones get the lowest numbers. A
// client that gave up does not wait until its flow is gone, so it tries for a
// while.
func (w *world) empty(t testing.TB) {
	t.Helper()
	w.register(t, "empty")
	l := w.listen(t, "empty")
	defer l.Close()
	ctx := wait(t)
	for {
		c, err := w.node.Dial(ctx, "empty")
		must(t, err)
		s, err := l.AcceptFlow()
		must(t, err)
		ids := c.ID() == 0 && s.ID() == 1
		fds := min(c.FD(), s.FD()) == core.FirstFD && max(c.FD(), s.FD()) == core.FirstFD+1
		must(t, c.Deallocate(ctx))
		must(t, s.Deallocate(ctx))
		if ids && fds {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("a flow with nothing beside it has the ids %d, %d and fds %d, %d", c.ID(), s.ID(), c.FD(), s.FD())
		}
	}
}

// settle gives a call time to block. A test that needs it is true without.
func settle() { time.Sleep(5 * time.Millisecond) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that err is want and that its text has each of words.
func fails(t testing.TB, what string, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %q does not say %q", what, err, word)
		}
	}
}

// result waits for what a call on another goroutine returns.
func result[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("%s: %v", what, errPatience)
		panic("not reached")
	}
}

// async calls f on another goroutine.
func async(f func() error) <-chan error {
	ch := make(chan error, 1)
	go func() { ch <- f() }()
	return ch
}
