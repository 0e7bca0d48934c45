package ipc_test

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"

	"o7s/core"
	"o7s/ipc"
)

// ipcp returns the pid of the world's IPCP.
func (w *world) ipcp(t *testing.T) int {
	t.Helper()
	list, err := w.admin.ListIPCPs(wait(t))
	must(t, err)
	return list[0].PID
}

// stopped calls f while the process pid is stopped.
func stopped(t *testing.T, pid int, f func()) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer syscall.Kill(pid, syscall.SIGCONT)
	f()
}

// shows reports whether the IRMd lists the flow id.
func (w *world) shows(t *testing.T, id core.FlowID) bool {
	t.Helper()
	flows, err := w.admin.Flows(wait(t))
	must(t, err)
	for _, f := range flows {
		if f.ID == id {
			return true
		}
	}
	return false
}

// Close does not wait for the IPCP. What it leaves to do is done.
func TestCloseDoesNotWaitForTheIPCP(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		client, server := w.pair(t, "quick")
		stopped(t, w.ipcp(t), func() {
			must(t, client.Close())
			if !w.shows(t, client.ID()) {
				t.Error("the flow has gone, though its IPCP is stopped")
			}
			fails(t, "Close again", client.Close(), net.ErrClosed)
			fails(t, "Deallocate after Close", client.Deallocate(wait(t)), net.ErrClosed)
		})
		must(t, server.Close())
		w.empty(t)
	})
}

// When Deallocate returns the end is gone everywhere.
func TestDeallocateWaitsForTheIPCP(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		client, server := w.pair(t, "thorough")
		done := make(chan error, 1)
		stopped(t, w.ipcp(t), func() {
			go func() { done <- client.Deallocate(wait(t)) }()
			settle()
			select {
			case err := <-done:
				t.Errorf("Deallocate returned, though the IPCP is stopped: %v", err)
				done <- err
			default:
			}
		})
		must(t, result(t, "Deallocate", done))
		for _, c := range []*ipc.Conn{client, server} {
			if c == server {
				must(t, c.Deallocate(wait(t)))
			}
			if w.shows(t, c.ID()) {
				t.Errorf("flow %d is still there", c.ID())
			}
		}
		fails(t, "Deallocate again", client.Deallocate(wait(t)), net.ErrClosed)
		fails(t, "Close after Deallocate", client.Close(), net.ErrClosed)
		w.empty(t)
	})
}

// A caller that waits no more has closed its end all the same.
func TestDeallocateGivesUp(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		client, server := w.pair(t, "hasty")
		over, cancel := context.WithCancel(t.Context())
		cancel()
		stopped(t, w.ipcp(t), func() {
			fails(t, "Deallocate", client.Deallocate(over), context.Canceled)
		})
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("at the other end: %v", err)
		}
		must(t, server.Close())
		w.empty(t)
	})
}

// Where the IRMd has gone there is nobody to wait for.
func TestDeallocateWithoutAnIRMd(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		client, server := w.pair(t, "alone")
		w.kill()
		must(t, client.Deallocate(wait(t)))
		must(t, server.Close())
	})
}

// Far more flows are closed at once than an IRMd that is held up for a moment
// takes: none is forgotten, and the link lives.
func TestManyAreClosedAtOnce(t *testing.T) {
	w := newWorld(t, "local")
	w.register(t, "many")
	l := w.listen(t, "many")
	const n = 700
	conns := make([]*ipc.Conn, 0, 2*n)
	for range n {
		conns = append(conns, w.dial(t, "many"), accept(t, l))
	}
	var wg sync.WaitGroup
	stopped(t, w.pid(), func() {
		for part := range slices.Chunk(conns, 100) {
			wg.Go(func() {
				for _, c := range part {
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		settle()
	})
	wg.Wait()
	must(t, l.Close())
	w.empty(t)
}
