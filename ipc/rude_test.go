package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/ipcp/local"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// A server that has stopped holds up its own flows, and nobody else's. It goes
// on where it was.
func TestStoppedServer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "stopped")
		p := w.role(t, "test-echo", "listens", "stopped")
		c := w.dial(t, "stopped")
		must(t, syscall.Kill(p.pid(), syscall.SIGSTOP))

		// Its flow: back-pressure, then the deadline.
		const after = 100 * time.Millisecond
		must(t, c.SetDeadline(time.Now().Add(after)))
		fails(t, "write", flood(c), os.ErrDeadlineExceeded)
		fails(t, "read", errOf(c.Read(make([]byte, 1))), os.ErrDeadlineExceeded)

		// Its name: who dials waits for the own deadline, or gets a flow that
		// the layer has already, and is not kept from giving up.
		waiting := make([]<-chan error, 50)
		for i := range waiting {
			waiting[i] = async(func() error {
				ctx, cancel := context.WithTimeout(wait(t), after)
				defer cancel()
				c, err := w.node.Dial(ctx, "stopped")
				if err == nil {
					err = c.Close()
				}
				return err
			})
		}
		w.served(t)
		for _, ch := range waiting {
			if err := result(t, "dial", ch); err != nil {
				fails(t, "dial", err, os.ErrDeadlineExceeded)
			}
		}
		w.served(t)
		must(t, c.Close())

		must(t, syscall.Kill(p.pid(), syscall.SIGCONT))
		c = w.dial(t, "stopped")
		must(t, c.SetDeadline(time.Now().Add(patience)))
		must(t, ask(c, "again"))
		must(t, c.Close())
		w.empty(t)
	})
}

// A client that has stopped, with a flow in hand, holds up nobody: not even
// the server's other flows.
func TestStoppedClient(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "busy")
		l := w.listen(t, "busy")
		p := w.role(t, "test-client", "dialed", "busy")
		c := accept(t, l)
		must(t, syscall.Kill(p.pid(), syscall.SIGSTOP))
		must(t, c.SetDeadline(time.Now().Add(100*time.Millisecond)))
		fails(t, "write", flood(c), os.ErrDeadlineExceeded)
		other := async(func() error { return server(l).err })
		if is := w.client(wait(t), "busy"); is.err != nil {
			t.Errorf("another client's %s: %v", is.what, is.err)
		}
		must(t, result(t, "server", other))
		w.served(t)
		begin := time.Now()
		must(t, c.Close())
		if d := time.Since(begin); d > soon() {
			t.Errorf("it took %v to close the flow", d)
		}
	})
}

// Who connects to the IRMd without end gets so many connections, and a word
// on why there are no more; others are served.
func TestConnectionFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	w.served(t)
	before := w.holds(t)
	p := w.role(t, "test-connect", "refused", w.dir)
	line, err := p.line("refused", 1)
	must(t, err)
	t.Log(line)
	w.served(t)
	if n := descriptors(t, w.pid()) - before[0].descriptors; n > 600 {
		t.Errorf("the IRMd holds %d descriptors for it", n)
	}
	if _, err := p.line("refused", 2); err != nil { // 1,000 more
		t.Error(err)
	}
	p.kill()
	w.holdsNoMore(t, before)
	w.empty(t)
}

// connectRole connects until it is refused, and then some more.
func connectRole(ctx context.Context, args []string) error {
	connect := func() error {
		l, err := irmctl.ConnectTo(ctx, args[0], rpc.Config{})
		if err != nil {
			return err
		}
		_, err = rpc.Do(ctx, l, irmctl.ShowIPCPs, &irmctl.Page{}, nil)
		return err
	}
	for n := range 2000 {
		if err := connect(); errors.Is(err, core.ErrLimit) {
			fmt.Println("refused after", n, "connections:", err)
			for more := range 1000 {
				if err := connect(); !errors.Is(err, core.ErrLimit) {
					return fmt.Errorf("%d more: %v", more, err)
				}
			}
			fmt.Println("refused again")
			<-ctx.Done()
			return nil
		} else if err != nil {
			return err
		}
	}
	return errors.New("2,000 connections and no end")
}

// Who asks the IRMd without end, and without waiting for answers, is told
// that it is too much; others are served.
func TestCallFlood(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "deaf")
		p := w.role(t, "test-deaf", "listens", "deaf")
		link := w.link(t)
		must(t, call(t, link, irmctl.Announce, irmctl.AnnounceReq{}))
		const calls = irmctl.MaxCalls + 500
		answers := make(chan error, calls)
		for range calls {
			rpc.Go(link, irmctl.Alloc, &irmctl.AllocReq{Name: "deaf"}, func(r *rpc.Reply[irmctl.Flow], err error) {
				if err == nil {
					r.Close()
				}
				answers <- err
			})
		}
		refused := 0
		for refused < 100 {
			if err := result(t, "answer", answers); err != nil {
				fails(t, "an allocation of too many", err, core.ErrLimit)
				refused++
			}
		}
		echo := w.role(t, "test-echo", "listens", "free")
		w.register(t, "free")
		others := w.role(t, "test-dial", "ready", "free", "10")
		if _, err := others.line("done", 1); err != nil {
			t.Errorf("others are not served: %v %q", err, others.lines)
		}
		link.Close()
		<-link.Done()
		p.kill()
		echo.kill()
		w.empty(t)
	})
}
