package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
)

// ipcp returns the pid of the world's IPCP.
func (w *world) ipcp(t *testing.T) int {
	t.Helper()
	list, err := w.admin.IPCPs(wait(t))
	must(t, err)
	return list[0].PID
}

// stopped calls f while the process pid is stopped.
func stopped(t *testing.T, pid int, f func()) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer syscall.Kill(pid, syscall.SIGCONT)
	for end := time.Now().Add(patience); !halted(t, pid); {
		if time.Now().After(end) {
			t.Fatalf("process %d runs", pid)
		}
		runtime.Gosched()
	}
	f()
}

// halted reports whether every thread of the process pid is stopped: one that
// runs on another core as the signal is sent goes on for a moment.
func halted(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	must(t, err)
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			return false // it has just ended
		}
		// The state follows the name, which may have any byte in it.
		if after := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(after, []byte(" T")) {
			return false
		}
	}
	return len(threads) > 0
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

// Far more flows are closed at once than a socket takes messages, while the IRMd
// or the IPCP is held up for longer than a link may be that does not move: nobody
// is taken for dead, and nothing is forgotten.
func TestManyAreClosedAtOnce(t *testing.T) {
	for _, who := range []string{"IRMd", "IPCP"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "local")
			w.register(t, "many")
			kept, other := w.pair(t, "kept")
			l := w.listen(t, "many")
			pid := w.pid()
			if who == "IPCP" {
				pid = w.ipcp(t)
			}
			var conns []*ipc.Conn
			for range 400 {
				conns = append(conns, w.dial(t, "many"), accept(t, l))
			}
			done := make(chan error, 1)
			stopped(t, pid, func() {
				go func() {
					var err error
					for _, c := range conns {
						err = errors.Join(err, c.Close())
					}
					done <- err
				}()
				time.Sleep(1300 * time.Millisecond) // the very thing under test
			})
			must(t, result(t, "closing", done))
			must(t, hand(kept, other))
			must(t, l.Close())
			must(t, kept.Deallocate(wait(t)))
			must(t, other.Deallocate(wait(t)))
			w.empty(t)
		})
	}
}

// hand sends a packet from one end to the other.
func hand(from, to *ipc.Conn) error {
	if err := from.WritePacket([]byte("x")); err != nil {
		return err
	}
	_, err := to.ReadPacket(make([]byte, ipc.MaxPacket))
	return err
}

// Close waits for nobody, not even for a Deallocate of the same flow.
func TestCloseBesideDeallocate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		client, _ := w.pair(t, "twice")
		done := make(chan error, 1)
		stopped(t, w.ipcp(t), func() {
			go func() { done <- client.Deallocate(wait(t)) }()
			for { // until that has begun
				if _, err := client.TryReadPacket(make([]byte, ipc.MaxPacket)); errors.Is(err, net.ErrClosed) {
					break
				}
				runtime.Gosched()
			}
			fails(t, "Close", result(t, "Close", async(client.Close)), net.ErrClosed)
		})
		must(t, result(t, "Deallocate", done))
	})
}
