package ipc_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"o7s/core/ipcp/local"
	"o7s/ipc"
)

// loaded runs f twice in a world, of which nothing may be left: the second
// time, IRMd and IPCP get along with what they had after the first.
func loaded(t *testing.T, typ string, f func(t *testing.T, w *world)) {
	if racing {
		t.Skip("the race detector makes this another load")
	}
	w := newWorld(t, typ, "--log-level", "info")
	w.register(t, "load", "ping")
	w.role(t, "test-echo", "listens", "load")
	server := w.role(t, "oping", "Ouroboros ping server started.", "--listen")
	must(t, w.admin.BindProcess(wait(t), server.pid(), "ping"))
	w.empty(t)
	before := w.holds(t)
	begin := time.Now()
	f(t, w)
	once := w.holds(t)
	f(t, w)
	took := time.Since(begin)
	must(t, server.stop()) // which holds its ends until they have idled
	w.empty(t)
	w.holdsNoMore(t, before)
	after := w.holds(t)
	t.Logf("twice in %v; IRMd and IPCP held %+v, after the first time %+v, now %+v", took.Round(time.Millisecond), before, once, after)
	for i := range after {
		// The threads and the heap of a Go program grow to what it needed
		// at the most, and stay.
		if more := after[i].threads - once[i].threads; more > 8 {
			t.Errorf("%d threads more than after the first time", more)
		}
		if after[i].kB > 128<<10 {
			t.Errorf("%d kB in use", after[i].kB)
		}
	}
}

// 300 ping clients at once are all answered, and the next 300.
func TestPingCrowd(t *testing.T) {
	loaded(t, local.Type.Name, func(t *testing.T, w *world) {
		const clients = 300
		ps := make([]*process, clients)
		for i := range ps {
			var err error
			ps[i], err = start("oping", w.dir, nil, "-n", "ping", "-c", "1")
			must(t, err)
		}
		for _, p := range ps {
			must(t, within(patience, p.gone))
			must(t, within(patience, p.done))
			if p.err != nil {
				t.Errorf("oping: %v %q", p.err, p.lines)
			}
		}
	})
}

// 1,000 flows at a time, from 20 processes, each with packets of 1 kB to and
// fro.
func TestThousandFlows(t *testing.T) {
	loaded(t, local.Type.Name, func(t *testing.T, w *world) {
		var ps []*process
		for range 20 {
			p, err := start("test-flows", w.dir, nil, "load", "50")
			must(t, err)
			ps = append(ps, p)
		}
		for _, word := range []string{"dialed", "echoed", "closed"} {
			for _, p := range ps {
				if _, err := p.line(word, 1); err != nil {
					t.Fatal(err, p.lines)
				}
			}
			for _, p := range ps {
				fmt.Fprintln(p.in, "go on")
			}
		}
		for _, p := range ps {
			must(t, within(patience, p.done))
			must(t, p.stop())
		}
	})
}

// flowsRole dials its name so often, uses all flows at once and closes them.
// It goes from each to the next when the test says so.
func flowsRole(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	conns := make([]*ipc.Conn, n)
	errs := make(chan error, n)
	all := func(word string, f func(i int) error) error {
		for i := range conns {
			go func() { errs <- f(i) }()
		}
		for range conns {
			if err := <-errs; err != nil {
				return fmt.Errorf("%s: %w", word, err)
			}
		}
		fmt.Println(word)
		select {
		case <-said:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err = all("dialed", func(i int) (err error) {
		conns[i], err = ipc.Dial(ctx, args[0])
		return err
	})
	if err != nil {
		return err
	}
	err = all("echoed", func(i int) error {
		if err := conns[i].SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		for k := range 20 {
			if err := ask(conns[i], string(bytes.Repeat([]byte{byte(i), byte(k)}, 512))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return all("closed", func(i int) error { return conns[i].Close() })
}

// Many flows, one after the other in each of several processes: 2,000, or
// 100,000 in the long form. However long that takes, it goes on all the time.
func TestAllocateAndClose(t *testing.T) {
	for _, typ := range types {
		t.Run(typ.Name, func(t *testing.T) {
			loaded(t, typ.Name, func(t *testing.T, w *world) {
				processes, flows := 4, dialStride
				if *long {
					flows = 50 * dialStride
				}
				var wg sync.WaitGroup
				for range processes {
					wg.Go(func() {
						p, err := start("test-dial", w.dir, nil, "load", fmt.Sprint(flows))
						if err != nil {
							t.Error(err)
							return
						}
						for n := dialStride; n <= flows && err == nil; n += dialStride {
							_, err = p.line(fmt.Sprint("so far ", n), 1)
						}
						if err == nil {
							_, err = p.line("done", 1)
						}
						if err != nil {
							t.Errorf("%v: %q", err, p.lines)
							p.kill()
						}
						if err := p.stop(); err != nil && !isSignal(err) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}
