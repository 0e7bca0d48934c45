package ipc_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core/ipcp/local"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// raw is a connection to the IRMd of one that keeps no rules.
func (w *world) raw(t *testing.T) *net.UnixConn {
	t.Helper()
	c, err := rpc.Dial(wait(t), w.dir, irmctl.Socket)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// hello is the first packet of a link: an array of 4, as package rpc says.
var hello = []byte("\x94\x00\xa3o7s" + string(rune(rpc.Version)) + "\x00")

// ended reads until the IRMd has closed c.
func ended(c *net.UnixConn) error {
	p := make([]byte, rpc.MaxMessage)
	for {
		n, err := c.Read(p)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errPatience
		}
		if n == 0 || err != nil {
			return nil
		}
	}
}

// Who sends the IRMd what it does not understand loses the connection, and
// nobody else anything: flows are allocated all the while.
func TestRubbish(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "others")
		w.role(t, "test-echo", "listens", "others")
		stop := make(chan struct{})
		others := async(func() error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					if i >= 10 {
						return nil
					}
				default:
				}
				c, err := w.node.Dial(wait(t), "others")
				if err != nil {
					return err
				}
				c.SetDeadline(time.Now().Add(patience))
				err = ask(c, "x")
				c.Close()
				if err != nil {
					return err
				}
			}
		})
		null, err := os.Open(os.DevNull)
		must(t, err)
		defer null.Close()
		many := make([]int, 100)
		for i := range many {
			many[i] = int(null.Fd())
		}
		big := make([]byte, rpc.MaxMessage+1)
		for name, packets := range map[string][]struct {
			data []byte
			fds  []int
		}{
			"nothing at all":       {},
			"an empty packet":      {{nil, nil}},
			"text":                 {{[]byte("GET / HTTP/1.1\r\n\r\n"), nil}},
			"another version":      {{[]byte("\x94\x00\xa3o7s\x7f\x00"), nil}},
			"a hello with files":   {{hello, many[:1]}},
			"two hellos":           {{hello, nil}, {hello, nil}},
			"an oversized packet":  {{hello, nil}, {big, nil}},
			"oversized with files": {{hello, nil}, {big, many}},
			"files and no message": {{hello, nil}, {[]byte("x"), many}},
			"files nobody declared": {{hello, nil},
				{[]byte("\x95\x01\x01\x00\xa8announce\x92\xa1x\xa0"), many[:2]}},
			"files that are too many": {{hello, nil},
				{[]byte("\x95\x01\x01\xcc\x64\xa8announce\x92\xa1x\xa0"), many}},
			"a reply to nothing": {{hello, nil}, {[]byte("\x94\x03\x01\x00\x90"), nil}},
		} {
			c := w.raw(t)
			refused := false
			for _, p := range packets {
				var oob []byte
				if len(p.fds) > 0 {
					oob = unix.UnixRights(p.fds...)
				}
				_, _, err := c.WriteMsgUnix(p.data, oob, nil)
				if oob != nil && errors.Is(err, unix.EPERM) {
					refused = true // since Linux 6.16 descriptors don't get there
				} else if err != nil {
					t.Logf("%s: %v", name, err) // closed before the last one
				}
			}
			if refused || name == "nothing at all" {
				c.CloseWrite()
			}
			if err := ended(c); err != nil {
				t.Errorf("%s: the IRMd keeps the connection: %v", name, err)
			}
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			c := w.raw(t)
			c.Write(hello)
			for range 5 {
				p := make([]byte, 2+random.IntN(60))
				for i := range p {
					p[i] = byte(random.Uint32())
				}
				if random.IntN(2) == 0 {
					p[0], p[1] = 0x95, 1 // a call
				}
				c.Write(p)
			}
			c.Close()
		}
		close(stop)
		must(t, result(t, "the others", others))
		// The last of them may still be on their way out.
		for ctx := wait(t); descriptors(t, w.pid()) > 40; settle() {
			if ctx.Err() != nil {
				t.Fatalf("the IRMd has %d descriptors", descriptors(t, w.pid()))
			}
		}
		w.empty(t)
	})
}

// descriptors counts those of a process.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	fds, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(pid), "fd"))
	must(t, err)
	return len(fds)
}

// Connections that say nothing do not disturb, and are closed in the end.
func TestSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	const n = 100
	w.register(t, "others")
	w.role(t, "test-echo", "listens", "others")
	conns := make([]*net.UnixConn, n)
	for i := range conns {
		conns[i] = w.raw(t)
	}
	for range 5 {
		c := w.dial(t, "others")
		must(t, ask(c, "x"))
		must(t, c.Close())
	}
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			if err := ended(c); err != nil {
				t.Errorf("a connection that says nothing stays: %v", err)
			}
		})
	}
	wg.Wait()
	w.empty(t)
}
