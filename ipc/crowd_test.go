package ipc_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
)

// Many dials at once, each with a packet and its echo: all are served, and
// what they used is used anew.
func TestCrowd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const clients, flows = 8, 50
		w.register(t, "crowd")
		w.role(t, "test-echo", "listens", "crowd")
		highest := make(chan core.FlowID, clients*flows)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				for j := range flows {
					c, err := w.node.Dial(wait(t), "crowd")
					if err != nil {
						t.Errorf("client %d, flow %d: %v", i, j, err)
						return
					}
					highest <- c.ID()
					c.SetDeadline(time.Now().Add(patience))
					if err := ask(c, fmt.Sprintf("client %d, flow %d", i, j)); err != nil {
						t.Errorf("client %d, flow %d: %v", i, j, err)
					}
					c.Close()
				}
			})
		}
		wg.Wait()
		close(highest)
		top := core.FlowID(0)
		for id := range highest {
			top = max(top, id)
		}
		// A server's end lives on until it has seen that the client's is
		// gone, so there are some more than clients; but no number for each
		// flow that there was.
		if top > clients*flows/2 {
			t.Errorf("%d clients used flow ids up to %d", clients, top)
		}
		w.empty(t)
	})
}

// ask sends text and waits for its echo.
func ask(c *ipc.Conn, text string) error {
	if err := c.WritePacket([]byte(text)); err != nil {
		return err
	}
	p := make([]byte, ipc.MaxPacket)
	n, err := c.ReadPacket(p)
	if err != nil {
		return err
	}
	if string(p[:n]) != text {
		return fmt.Errorf("sent %q, got back %q", text, p[:n])
	}
	return nil
}

// Many flows at once: more than the IRMd answers calls at a time by default,
// all closed at once, twice.
func TestManyFlows(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const n = 150
		w.register(t, "many")
		l := w.listen(t, "many")
		for range 2 {
			conns := make([]*ipc.Conn, 2*n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					var err error
					if conns[i], err = w.node.Dial(wait(t), "many"); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					var err error
					if conns[n+i], err = l.AcceptFlow(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			fds := make(map[int]bool)
			ids := make(map[core.FlowID]bool)
			for _, c := range conns {
				fds[c.FD()], ids[c.ID()] = true, true
				if c.FD() >= core.FirstFD+2*n || c.ID() >= 2*n {
					t.Errorf("with %d ends there are fd %d and flow id %d", 2*n, c.FD(), c.ID())
				}
			}
			if len(fds) != 2*n || len(ids) != 2*n {
				t.Errorf("%d ends have %d fds and %d ids", 2*n, len(fds), len(ids))
			}
			for _, c := range conns {
				wg.Go(func() {
					if err := c.Deallocate(wait(t)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		must(t, l.Close())
		w.empty(t)
	})
}

// Several client processes at once.
func TestManyProcesses(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "processes")
		w.role(t, "test-echo", "listens", "processes")
		var ps []*process
		for range 5 {
			ps = append(ps, w.role(t, "test-dial", "ready", "processes", "20"))
		}
		for _, p := range ps {
			if _, err := p.line("done", 1); err != nil {
				t.Error(err)
			}
		}
		w.empty(t)
	})
}

// Of two processes that serve one name, one is killed at any moment while
// clients dial: each client is served by the other, or told.
func TestServersComeAndGo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "service")
		w.role(t, "test-echo", "listens", "service")
		served := make(chan error, 4)
		for i := range cap(served) {
			go func() {
				for range 30 {
					c, err := w.node.Dial(wait(t), "service")
					if errors.Is(err, core.ErrNotAllocated) {
						continue // the one that accepted has died
					} else if err != nil {
						served <- err
						return
					}
					c.SetDeadline(time.Now().Add(patience))
					_ = ask(c, fmt.Sprint(i)) // whose server may be the one that dies
					c.Close()
				}
				served <- nil
			}()
		}
		for range 4 {
			p := w.role(t, "test-echo", "listens", "service")
			p.kill()
		}
		for range cap(served) {
			must(t, result(t, "dial", served))
		}
		w.empty(t)
	})
}
