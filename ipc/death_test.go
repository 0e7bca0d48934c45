package ipc_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
	"o7s/ipc/irmctl"
)

// soon bounds what takes far less, such as until a death is known at the other
// end: by what is promised, or, where the machine may be busy with other tests,
// by what only a hang exceeds.
func soon() time.Duration {
	if *long {
		return time.Second
	}
	return 10 * time.Second
}

// When a process at one end of a flow is killed, a call that is blocked at the other end
// returns soon.
func TestPeerKilled(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "victim", "killer")
		l := w.listen(t, "killer")
		for _, tt := range []struct {
			name string
			flow func(t *testing.T) (*process, *ipc.Conn)
		}{
			{"server", func(t *testing.T) (*process, *ipc.Conn) {
				p := w.role(t, "test-hold", "listens", "victim")
				return p, w.dial(t, "victim")
			}},
			{"client", func(t *testing.T) (*process, *ipc.Conn) {
				p := w.role(t, "test-client", "dialed", "killer")
				return p, accept(t, l)
			}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				p, c := tt.flow(t)
				must(t, c.SetDeadline(time.Now().Add(patience)))
				read := async(func() error { _, err := c.Read(make([]byte, 1)); return err })
				write := async(func() error { return flood(c) })
				settle()
				killed := time.Now()
				p.kill()
				fails(t, "read", result(t, "read", read), core.ErrFlowDown)
				fails(t, "write", result(t, "write", write), core.ErrFlowDown)
				if d := time.Since(killed); d > soon() {
					t.Errorf("it took %v until both calls knew", d)
				}
				fails(t, "a read after that", errOf(c.Read(make([]byte, 1))), core.ErrFlowDown)
				must(t, c.Close())
			})
		}
		w.empty(t)
	})
}

func errOf[T any](_ T, err error) error { return err }

// What a process wrote before it was killed is read.
func TestKilledWriter(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "last words")
		l := w.listen(t, "last words")
		p := w.role(t, "test-words", "wrote", "last words")
		c := accept(t, l)
		must(t, c.SetDeadline(time.Now().Add(patience)))
		p.kill()
		b := make([]byte, 100)
		for i := range 10 {
			n, err := c.ReadPacket(b)
			if want := fmt.Sprint("word ", i); string(b[:n]) != want || err != nil {
				t.Fatalf("read %q, %v; want %q", b[:n], err, want)
			}
		}
		fails(t, "the next read", errOf(c.Read(b)), core.ErrFlowDown)
	})
}

// A server that dies with flows that it has not accepted, and with clients
// that wait for it to accept.
func TestServerDies(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "victim")
		p := w.role(t, "test-deaf", "listens", "victim")
		outcomes := make(chan error, 40)
		arrived := make(chan error, cap(outcomes))
		for range cap(outcomes) {
			go func() {
				c, err := w.node.Dial(wait(t), "victim")
				if err == nil {
					defer c.Close()
					arrived <- nil
					_, err = c.Read(make([]byte, 1))
				}
				outcomes <- err
			}()
		}
		must(t, result(t, "dial", arrived))
		_, err := w.line("Flow request arrived for victim", cap(outcomes)) // then all wait
		must(t, err)
		p.kill()
		down := 0
		for range cap(outcomes) {
			err := result(t, "dial", outcomes)
			if errors.Is(err, core.ErrFlowDown) {
				down++ // it had arrived
			} else if !errors.Is(err, core.ErrNotAllocated) {
				t.Errorf("dial to a server that dies: %v", err)
			}
		}
		if down == 0 || down == cap(outcomes) {
			t.Errorf("%d of %d flows had arrived; the backlog is more than none and less than all", down, cap(outcomes))
		}
		w.empty(t)
	})
}

// The IPCP of a flow dies: that ends both ends, also where it carried no
// packet.
func TestIPCPKilled(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.pair(t, "ipcp")
		list, err := w.admin.IPCPs(wait(t))
		must(t, err)
		var calls []<-chan error
		for _, c := range []*ipc.Conn{a, b} {
			calls = append(calls,
				async(func() error { return errOf(c.Read(make([]byte, 1))) }),
				async(func() error { return flood(c) }))
		}
		settle()
		killed := time.Now()
		must(t, syscall.Kill(list[0].PID, syscall.SIGKILL))
		for i, ch := range calls {
			// Each read had something to read.
			if err := result(t, "call", ch); i%2 == 1 || err != nil {
				fails(t, "call", err, core.ErrFlowDown)
			}
		}
		if d := time.Since(killed); d > soon() {
			t.Errorf("it took %v", d)
		}
		for _, c := range []*ipc.Conn{a, b} {
			fails(t, "write", flood(c), core.ErrFlowDown)
		}
		for _, c := range []*ipc.Conn{a, b} {
			must(t, c.Close())
		}
		_, err = w.line("died", 1)
		must(t, err)
		_, err = w.node.Dial(wait(t), "ipcp")
		fails(t, "dial without a layer", err, core.ErrIPCP, "irm ipcp bootstrap")
		must(t, w.bootstrap(w.typ))
		w.empty(t)
	})
}

// An IPCP dies in the middle of many allocations. Whatever each Dial returns,
// no flow is left, and none stays that nobody ends.
func TestIPCPKilledInAllocations(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for i := range 5 {
			w.register(t, "busy")
			l := w.listen(t, "busy")
			go func() {
				for {
					c, err := l.AcceptFlow()
					if err != nil {
						return
					}
					go echo(c)
				}
			}()
			done := make(chan error, 8)
			for range cap(done) {
				go func() {
					for {
						c, err := w.node.Dial(wait(t), "busy")
						if err != nil {
							done <- err
							return
						}
						c.Close()
					}
				}()
			}
			list, err := w.admin.IPCPs(wait(t))
			must(t, err)
			_, err = w.line("Flow request arrived for busy", w.count("Flow request arrived for busy")+10)
			must(t, err)
			must(t, syscall.Kill(list[0].PID, syscall.SIGKILL))
			for range cap(done) {
				err := result(t, "dial", done)
				if !errors.Is(err, core.ErrIPCP) && !errors.Is(err, core.ErrFlowDown) && !errors.Is(err, core.ErrNotAllocated) {
					t.Errorf("dial while the IPCP dies: %v", err)
				}
			}
			must(t, l.Close())
			_, err = w.line("died", i+1)
			must(t, err)
			must(t, w.bootstrap(w.typ))
		}
		w.empty(t)
	})
}

// DestroyIPCP and an administrator's destroy of a name: flows of the first end,
// of the second go on.
func TestDestroy(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.pair(t, "doomed")
		must(t, w.admin.DestroyName(wait(t), "doomed"))
		must(t, a.WritePacket([]byte("x")))
		_, err := b.Read(make([]byte, 1))
		must(t, err)
		_, err = w.node.Dial(wait(t), "doomed")
		fails(t, "dial", err, core.ErrName)
		must(t, w.admin.DestroyIPCP(wait(t), "ipcp"))
		for _, c := range []*ipc.Conn{a, b} {
			fails(t, "read", errOf(c.Read(make([]byte, 1))), core.ErrFlowDown)
		}
		for _, c := range []*ipc.Conn{a, b} {
			must(t, c.Close())
		}
		list, err := w.admin.IPCPs(wait(t))
		if len(list) != 0 || err != nil {
			t.Errorf("there are %v, %v", list, err)
		}
		fails(t, "destroy it again", w.admin.DestroyIPCP(wait(t), "ipcp"), core.ErrNotFound)
		err = w.admin.RegisterName(wait(t), irmctl.RegisterReq{Name: "doomed", Layers: []string{"layer"}})
		fails(t, "register", err, core.ErrNotFound, "irm ipcp bootstrap")
		must(t, w.bootstrap(w.typ))
		w.empty(t)
	})
}
