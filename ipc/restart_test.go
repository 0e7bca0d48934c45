package ipc_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/ipcp/local"
	"o7s/ipc"
	"o7s/ipc/irmctl"
)

// spliced reports whether the flows of the layer live without its IPCP.
func (w *world) spliced() bool { return w.typ == local.Type.Name }

// survives checks that a flow lives on where nothing but memory is in it, and
// has ended where its IPCP carried the packets.
func (w *world) survives(t *testing.T, a, b *ipc.Conn) {
	t.Helper()
	if !w.spliced() {
		for _, c := range []*ipc.Conn{a, b} {
			fails(t, "read", errOf(c.Read(make([]byte, 1))), core.ErrFlowDown)
			fails(t, "write", flood(c), core.ErrFlowDown)
		}
		return
	}
	echoed := async(func() error {
		p := make([]byte, ipc.MaxPacket)
		n, err := b.ReadPacket(p)
		if err == nil {
			err = b.WritePacket(p[:n])
		}
		return err
	})
	must(t, ask(a, "still here"))
	must(t, result(t, "echo", echoed))
}

// The IRMd is killed, and another one started: flows go on, Dial says so, the
// listener comes back.
func TestIRMdKilled(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "service")
		l := w.listen(t, "service")
		a := w.dial(t, "service")
		b := accept(t, l)
		held := w.dial(t, "service") // arrived, and not accepted yet
		for _, c := range []*ipc.Conn{a, b, held} {
			must(t, c.SetDeadline(time.Now().Add(patience)))
		}
		accepted := make(chan error, 1)
		flows := make(chan *ipc.Conn, 1)
		acceptOne := func() {
			c, err := l.AcceptFlow()
			if err == nil {
				flows <- c
			}
			accepted <- err
		}
		must(t, accept(t, l).Close())
		go acceptOne()

		old := w.process
		old.kill()
		killed := time.Now()
		err := result(t, "accept", accepted)
		fails(t, "accept when the IRMd has gone", err, core.ErrIRMd)
		// What net/http asks before it goes on accepting.
		if e, ok := errors.AsType[interface {
			error
			Temporary() bool
			Timeout() bool
		}](err); !ok || !e.Temporary() || e.Timeout() {
			t.Errorf("accept: %v is not temporary, or a time-out", err)
		}
		_, err = w.node.Dial(wait(t), "service")
		fails(t, "dial when the IRMd has gone", err, core.ErrIRMd, `start one with "irmd"`)
		if err := within(soon(), old.gone); err != nil {
			t.Errorf("the IPCPs outlive the IRMd: %v", err)
		}
		if d := time.Since(killed); d > 2*soon() {
			t.Errorf("it took %v", d)
		}
		w.survives(t, a, b)
		must(t, held.Close())

		go acceptOne() // waits
		w.restart(t)
		w.setUp(t)
		w.register(t, "service")
		w.survives(t, a, b)
		c := dialUntil(t, w, "service")
		must(t, result(t, "accept", accepted))
		d := <-flows
		if c.ID() != 0 || d.ID() != 1 || a.ID() != 0 {
			t.Fatalf("new ids %d and %d beside the old %d: this tests nothing", c.ID(), d.ID(), a.ID())
		}
		// Ends of the old IRMd's flows have the new ones' numbers.
		must(t, a.Close())
		must(t, b.Close())
		go echo(d)
		must(t, c.SetDeadline(time.Now().Add(patience)))
		must(t, ask(c, "not closed by another's close"))
		must(t, c.Close())
		must(t, l.Close())
	})
}

// dialUntil dials until the listener has come back.
func dialUntil(t *testing.T, w *world, name string) *ipc.Conn {
	t.Helper()
	for ctx := wait(t); ; {
		c, err := w.node.Dial(ctx, name)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if !errors.Is(err, core.ErrNotAllocated) && !errors.Is(err, core.ErrName) && !errors.Is(err, core.ErrIPCP) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// A listener that registers its name by itself comes back too, though the
// layer comes after the IRMd.
func TestIRMdKilledWithLayer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		l := w.listen(t, "with layer", ipc.WithLayer("*"))
		bound := w.listen(t, "")
		withdrawn := w.listen(t, "withdrawn", ipc.WithLayer("*"))
		must(t, withdrawn.Withdraw(wait(t)))
		w.kill()
		for _, l := range []*ipc.Listener{l, bound, withdrawn} {
			_, err := l.AcceptFlow()
			fails(t, "accept", err, core.ErrIRMd)
		}
		if err := within(patience, w.gone); err != nil {
			t.Fatal(err)
		}
		w.restart(t)
		_, err := w.line("accepts flows", 1) // bound, without a name to register
		must(t, err)
		w.setUp(t)
		c := dialUntil(t, w, "with layer")
		_, err = w.node.Dial(wait(t), "withdrawn")
		fails(t, "dial a name that was withdrawn", err, core.ErrName, "register it")
		must(t, accept(t, l).Close())
		must(t, c.Close())
		w.empty(t)
	})
}

// A listener that is closed while there is no IRMd does not come back.
func TestCloseWithoutIRMd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		l, keeps := w.listen(t, "goes"), w.listen(t, "keeps")
		w.kill()
		for _, l := range []*ipc.Listener{l, keeps} {
			_, err := l.AcceptFlow()
			fails(t, "accept", err, core.ErrIRMd)
		}
		must(t, l.Close())
		_, err := l.AcceptFlow()
		fails(t, "accept", err, net.ErrClosed)
		must(t, within(patience, w.gone))
		w.restart(t)
		w.setUp(t)
		w.register(t, "goes", "keeps")
		c := dialUntil(t, w, "keeps")
		must(t, accept(t, keeps).Close())
		must(t, c.Close())
		_, err = w.node.Dial(wait(t), "goes")
		fails(t, "dial", err, core.ErrNotAllocated)
	})
}

// The IRMd is killed and started over and over, while clients dial and a
// server serves: nothing hangs, and in the end all is as it was.
func TestIRMdKilledOften(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		l := w.listen(t, "often")
		var irmds int
		served := async(func() error {
			for {
				c, err := l.AcceptFlow()
				if errors.Is(err, core.ErrIRMd) {
					continue
				} else if err != nil {
					return err
				}
				go echo(c)
			}
		})
		ctx, cancel := context.WithCancel(wait(t))
		dials := make(chan error, 4)
		for range cap(dials) {
			go func() {
				for ctx.Err() == nil {
					c, err := w.node.Dial(ctx, "often")
					if err != nil {
						continue
					}
					c.SetDeadline(time.Now().Add(patience))
					if err := ask(c, "x"); err != nil && !errors.Is(err, core.ErrFlowDown) && err != io.EOF {
						dials <- err
						return
					}
					c.Close()
				}
				dials <- nil
			}()
		}
		for range 4 {
			w.register(t, "often")
			_, err := w.line("Completed deallocation", 10)
			must(t, err)
			w.kill()
			irmds++
			must(t, within(patience, w.gone))
			w.restart(t)
			w.setUp(t)
		}
		cancel()
		for range cap(dials) {
			must(t, result(t, "dial", dials))
		}
		w.register(t, "often")
		must(t, dialUntil(t, w, "often").Close())
		must(t, l.Close())
		fails(t, "accept", result(t, "accept", served), net.ErrClosed)
		w.empty(t)
	})
}

// A server lives through the deaths of many IRMds, while clients dial it, and in
// the end has no more descriptors and mappings than before.
func TestServerOutlivesManyIRMds(t *testing.T) {
	kills := 5
	if *long {
		kills = 100
	}
	each(t, func(t *testing.T, w *world) {
		w.register(t, "service")
		server := w.role(t, "test-echo", "listens", "service", "stays")
		c := w.dial(t, "service")
		must(t, ask(c, "x"))
		must(t, c.Deallocate(wait(t)))
		before, err := possessionOf(server.pid())
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for ctx.Err() == nil {
					c, err := w.node.Dial(ctx, "service")
					if err != nil {
						continue
					}
					c.SetDeadline(time.Now().Add(patience))
					if err := ask(c, "x"); err != nil && !errors.Is(err, core.ErrFlowDown) && err != io.EOF {
						t.Errorf("ask: %v", err)
					}
					c.Close()
				}
			})
		}
		for range kills {
			_, err := w.line("Completed deallocation", 10+rand.N(20))
			must(t, err)
			w.kill()
			must(t, within(patience, w.gone))
			w.restart(t)
			w.setUp(t)
			w.register(t, "service")
		}
		cancel()
		clients.Wait()
		c = dialUntil(t, w, "service")
		must(t, ask(c, "x"))
		must(t, c.Deallocate(wait(t)))
		for ctx := wait(t); ; settle() {
			after, err := possessionOf(server.pid())
			must(t, err)
			if after.descriptors <= before.descriptors && after.memories <= before.memories {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("the server held %+v, now %+v", before, after)
			}
		}
	})
}

// The IRMd is told to end, with flows up: it goes with its IPCPs and its
// socket, and with nothing to say about the flows.
func TestIRMdStopped(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "service")
		l := w.listen(t, "service")
		a := w.dial(t, "service")
		b := accept(t, l)
		w.dial(t, "service") // arrives
		for _, c := range []*ipc.Conn{a, b} {
			must(t, c.SetDeadline(time.Now().Add(patience)))
		}
		// A dial that waits for a process that does not accept.
		must(t, w.admin.BindProcess(wait(t), os.Getpid(), "deaf"))
		w.register(t, "deaf")
		waiting := async(func() error { _, err := w.node.Dial(wait(t), "deaf"); return err })
		_, err := w.line("Flow request arrived for deaf", 1)
		must(t, err)

		old := w.process
		must(t, old.cmd.Process.Signal(syscall.SIGTERM))
		if err := within(2*time.Second, old.gone); err != nil {
			t.Errorf("irmd and its IPCPs are not gone within two seconds")
		}
		must(t, within(patience, old.done))
		if _, err := os.Lstat(filepath.Join(w.dir, irmctl.Socket)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
		fails(t, "dial that waits", result(t, "dial", waiting), core.ErrIRMd)
		if c, err := l.AcceptFlow(); err == nil { // the one that had arrived
			must(t, c.Close())
		} else {
			fails(t, "accept", err, core.ErrIRMd)
		}
		w.survives(t, a, b)
	})
}

// A second irmd in the same directory says so and leaves the first alone.
func TestSecondIRMd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, types[0].Name)
	p, err := start("irmd", w.dir, nil, "--stdout")
	must(t, err)
	_, err = p.line("IRMd already running (", 1)
	must(t, err)
	must(t, within(patience, p.done))
	if s := p.cmd.ProcessState.ExitCode(); s != 1 {
		t.Errorf("it ended with status %d, want 1", s)
	}
	w.empty(t)
}
