package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// Each refusal of Dial has its sentinel, and says what to do about it.
func TestDialRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ctx := wait(t)
		must(t, w.admin.CreateName(ctx, "created", ""))
		w.register(t, "registered")
		for _, tt := range []struct {
			name string
			want error
			says string
		}{
			{"unknown", core.ErrName, "irm name register unknown layer LAYER"},
			{"created", core.ErrIPCP, "irm name register created layer LAYER"},
			{"registered", core.ErrNotAllocated, "irm bind process PID name registered"},
		} {
			_, err := w.node.Dial(ctx, tt.name)
			fails(t, "dial "+tt.name, err, tt.want, "dial o7s "+tt.name+": ", tt.says)
			if e, ok := errors.AsType[*net.OpError](err); !ok || e.Op != "dial" || e.Net != "o7s" || e.Addr != ipc.Addr(tt.name) {
				t.Errorf("dial %s: %#v is no *net.OpError that says so", tt.name, err)
			}
		}
		w.empty(t)
	})
}

func TestDialWithoutIRMd(t *testing.T) {
	t.Parallel()
	dir, err := newDir()
	must(t, err)
	defer os.RemoveAll(dir)
	for _, dir := range []string{dir, filepath.Join(dir, "not", "there")} {
		begin := time.Now()
		n := ipc.NewNode(dir)
		_, err := n.Dial(wait(t), "name")
		fails(t, "dial", err, core.ErrIRMd, filepath.Join(dir, irmctl.Socket), `start one with "irmd"`)
		_, err = n.Listen(wait(t), "name")
		fails(t, "listen", err, core.ErrIRMd, filepath.Join(dir, irmctl.Socket), `start one with "irmd"`)
		if e, ok := errors.AsType[net.Error](err); !ok || e.Timeout() {
			t.Errorf("%v is a time-out, or nothing of package net's", err)
		}
		if d := time.Since(begin); d > soon() {
			t.Errorf("it took %v", d)
		}
	}
}

func TestDialWithoutLayer(t *testing.T) {
	t.Parallel()
	dir, err := newDir()
	must(t, err)
	p, err := startIRMd(dir)
	must(t, err)
	s := &system{p, dir}
	t.Cleanup(func() { must(t, s.stop()) })
	n := ipc.NewNode(dir)
	defer n.Close()
	_, err = n.Dial(wait(t), "name")
	fails(t, "dial", err, core.ErrIPCP, "irm ipcp bootstrap")
	_, err = n.Listen(wait(t), "name", ipc.WithLayer("layer"))
	fails(t, "listen", err, core.ErrNotFound, "irm ipcp bootstrap")
}

// A server that does not accept: Dial waits until its deadline, or until it is
// told not to, and nothing stays behind.
func TestDialWaits(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		// A binding without a listener, so that nothing arrives ahead.
		w.node.Dial(wait(t), "makes this process known")
		w.register(t, "deaf")
		must(t, w.admin.BindProcess(wait(t), os.Getpid(), "deaf"))

		const after = 100 * time.Millisecond
		begin := time.Now()
		ctx, cancel := context.WithTimeout(wait(t), after)
		defer cancel()
		_, err := w.node.Dial(ctx, "deaf")
		fails(t, "dial with a deadline", err, os.ErrDeadlineExceeded, "no process accepted")
		fails(t, "dial with a deadline", err, context.DeadlineExceeded)
		if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
			t.Errorf("%v is no time-out", err)
		}
		if d := time.Since(begin); d < after-time.Millisecond || d > after+soon() {
			t.Errorf("it took %v, not %v", d, after)
		}

		ctx, cancel = context.WithCancel(wait(t))
		seen := w.count("Flow request arrived for deaf")
		dials := make(chan error, 20)
		for range cap(dials) {
			go func() {
				_, err := w.node.Dial(ctx, "deaf")
				dials <- err
			}()
		}
		_, err = w.line("Flow request arrived for deaf", seen+cap(dials))
		must(t, err)
		begin = time.Now()
		cancel()
		for range cap(dials) {
			fails(t, "dial that is canceled", result(t, "dial", dials), context.Canceled)
		}
		if d := time.Since(begin); d > soon() {
			t.Errorf("it took %v until all knew", d)
		}
		_, err = w.node.Dial(ctx, "deaf")
		fails(t, "dial that was canceled before", err, context.Canceled)

		w.empty(t)
		l := w.listen(t, "")
		c := w.dial(t, "deaf")
		accept(t, l).Close()
		c.Close()
		must(t, l.Close())
		must(t, w.admin.UnbindProcess(wait(t), os.Getpid(), ""))
	})
}

// Dials that are canceled at any moment leave nothing behind, at either end.
func TestDialCanceledAnywhere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "canceled")
		l := w.listen(t, "canceled")
		go func() {
			for {
				c, err := l.AcceptFlow()
				if err != nil {
					return
				}
				go echo(c)
			}
		}()
		begin := time.Now()
		must(t, w.dial(t, "canceled").Close())
		long := 2 * time.Since(begin)
		whole, broken := 0, 0
		const n = 200
		for i := range n {
			ctx, cancel := context.WithTimeout(wait(t), long*time.Duration(i)/n)
			c, err := w.node.Dial(ctx, "canceled")
			cancel()
			if err != nil {
				fails(t, "dial", err, core.ErrTimeout)
				broken++
				continue
			}
			whole++
			must(t, c.Close())
		}
		t.Logf("%d dials in time, %d not", whole, broken)
		must(t, l.Close())
		w.empty(t)
	})
}

// An administrator's acts are refused to others, with a word on who may.
func TestPermission(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	w := newWorld(t, types[0].Name)
	w.node.Dial(wait(t), "makes this process known")
	p := w.roleAs(t, "test-admin", "done", asNobody())
	for _, what := range []string{"create", "bootstrap", "destroy", "register", "name", "layer"} {
		if _, err := p.line(what+": permission denied for uid 65534: this is for root", 1); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.line("is of uid 0, so that uid or an administrator may do this", 1); err != nil {
		t.Error(err)
	}
}

// adminRole tries what only administrators may, and says what came of it.
func adminRole(ctx context.Context, _ []string) error {
	c, err := irmctl.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.CreateIPCP(ctx, "mine", "local")
	fmt.Println("create:", err)
	_, err = c.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: "mine", Type: "local", Draft: ipcp.Draft{Layer: "mine"}})
	fmt.Println("bootstrap:", err)
	fmt.Println("destroy:", c.DestroyIPCP(ctx, "ipcp"))
	fmt.Println("register:", c.RegisterName(ctx, irmctl.RegisterReq{Name: "x", Layers: []string{"*"}}))
	fmt.Println("name:", c.CreateName(ctx, "x", ""))
	_, err = ipc.Listen(ctx, "x", ipc.WithLayer("*"))
	fmt.Println("layer:", errors.Unwrap(err))
	fmt.Println("bind:", c.BindProcess(ctx, os.Getppid(), "x"))
	if _, err := c.IPCPs(ctx); err != nil {
		return err
	}
	fmt.Println("done")
	<-ctx.Done()
	return nil
}

// A process whose descriptors run out is told so; what it gives back is there
// again.
func TestDialLimit(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "limit")
		w.role(t, "test-echo", "listens", "limit")
		p := w.role(t, "test-limit", "done", "limit")
		p.stop()
		w.empty(t)
	})
}

// More flows than the IRMd may have descriptors are given all the same, and it
// can still be reached: it counts what passes in some of them only.
func TestIRMdWithFewDescriptors(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const descriptors = 80
		w.register(t, "few")
		l := w.listen(t, "few")
		must(t, unix.Prlimit(w.pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: descriptors, Max: descriptors}, nil))
		counted := func() (n int) {
			c, err := client(wait(t), w.dir)
			must(t, err)
			defer c.Close()
			rows, err := c.Flows(wait(t))
			must(t, err)
			for _, f := range rows {
				if f.Counted {
					n++
				}
			}
			return n
		}
		var conns []*ipc.Conn
		for range 2 * descriptors {
			conns = append(conns, w.dial(t, "few"), accept(t, l))
		}
		// The two ends of a flow have one memory; two, where the layer carries.
		if n := counted(); n < descriptors/8 || n > descriptors {
			t.Errorf("with %d descriptors, what passes is counted at %d ends of %d", descriptors, n, len(conns))
		}
		must(t, pass(conns[len(conns)-2], conns[len(conns)-1]))
		for _, c := range conns {
			must(t, c.Close())
		}
		a, b := w.dial(t, "few"), accept(t, l)
		if n := counted(); n != 2 {
			t.Errorf("when they have ended, what passes is counted at %d ends of 2", n)
		}
		must(t, pass(a, b))
	})
}

// pass sends a packet from a to b.
func pass(a, b *ipc.Conn) error {
	p := make([]byte, 10)
	if err := a.WritePacket([]byte("hello")); err != nil {
		return err
	}
	n, err := b.ReadPacket(p)
	if err == nil && string(p[:n]) != "hello" {
		err = fmt.Errorf("read %q", p[:n])
	}
	return err
}

// limitRole dials until there are no descriptors left, gives back what it has
// and dials again.
func limitRole(ctx context.Context, args []string) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 40, Max: 40}); err != nil {
		return err
	}
	first, err := ipc.Dial(ctx, args[0])
	if err != nil {
		return err
	}
	for range 3 {
		var conns []*ipc.Conn
		for {
			c, err := ipc.Dial(ctx, args[0])
			if err != nil {
				if !errors.Is(err, core.ErrLimit) {
					return fmt.Errorf("dial without descriptors: %w", err)
				}
				fmt.Println(err)
				break
			}
			conns = append(conns, c)
		}
		fmt.Println(len(conns), "flows")
		if len(conns) < 10 || len(conns) > 40 {
			return fmt.Errorf("%d flows with 40 descriptors", len(conns))
		}
		var wg sync.WaitGroup
		for _, c := range conns {
			wg.Go(func() { c.Close() })
		}
		wg.Wait()
	}
	if err := first.WritePacket([]byte("x")); err != nil {
		return fmt.Errorf("a flow from before: %w", err)
	}
	if _, err := first.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("a flow from before: %w", err)
	}
	fmt.Println("done")
	return nil
}

// Who runs as another user than root or this one is nobody to talk to.
func TestPoser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	dir, err := newDir()
	must(t, err)
	must(t, os.Chmod(dir, 0o777))
	w := &world{system: &system{dir: dir}}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w.roleAs(t, "test-poser", "listens", asNobody(), dir)
	_, err = ipc.NewNode(dir).Dial(wait(t), "name")
	fails(t, "dial", err, core.ErrPermission, "belongs to uid 65534, which is neither root nor you")
}

// poserRole listens where an IRMd would.
func poserRole(ctx context.Context, args []string) error {
	l, err := rpc.Listen(args[0], irmctl.Socket, 0o666)
	if err != nil {
		return err
	}
	fmt.Println("listens")
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return err
		}
		if _, err := rpc.New(c, rpc.Config{Instance: 1}); err != nil {
			return err
		}
	}
}
