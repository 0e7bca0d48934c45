package ipc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
	"o7s/ipc/irmctl"
)

func TestListen(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, tt := range []struct {
			name string
			run  func(*testing.T, *world)
		}{
			{"a flow has two ends", testTwoEnds},
			{"flow descriptors are the lowest free", testFD},
			{"the acceptor sees the QoS", testQoS},
			{"WithLayer registers", testWithLayer},
			{"a listener without a name serves what is bound", testBound},
			{"a listener's own name is unbound at its end", testUnbound},
			{"two listeners of one name share its flows", testTwoListeners},
			{"close wakes accept", testCloseListener},
			{"flows that nobody accepted are deallocated", testNotAccepted},
			{"accepted flows outlive their listener", testOutlive},
			{"more dials than the backlog wait", testBacklog},
		} {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, w) })
			w.empty(t)
		}
	})
}

func testTwoEnds(t *testing.T, w *world) {
	w.register(t, "two ends")
	l := w.listen(t, "two ends")
	if a := l.Addr(); a.Network() != "o7s" || a.String() != "two ends" {
		t.Errorf("the listener's address is %s %s", a.Network(), a)
	}
	c := w.dial(t, "two ends")
	var nc net.Conn
	nc, err := net.Listener(l).Accept()
	must(t, err)
	s := nc.(*ipc.Conn)
	defer s.Close()
	for _, a := range []struct {
		what      string
		got, want net.Addr
	}{
		{"client local", c.LocalAddr(), ipc.Addr("flow 0")}, {"client remote", c.RemoteAddr(), ipc.Addr("two ends")},
		{"server local", s.LocalAddr(), ipc.Addr("two ends")}, {"server remote", s.RemoteAddr(), ipc.Addr("flow 1")},
	} {
		if a.got != a.want {
			t.Errorf("%s address is %v, want %v", a.what, a.got, a.want)
		}
	}
	if c.ID() != 0 || s.ID() != 1 {
		t.Errorf("flow ids %d and %d, want 0 and 1", c.ID(), s.ID())
	}
	_, err = c.Write([]byte("there"))
	must(t, err)
	p := make([]byte, 10)
	n, err := s.Read(p)
	if string(p[:n]) != "there" || err != nil {
		t.Errorf("read %q, %v", p[:n], err)
	}
	must(t, s.WritePacket([]byte("and back")))
	n, err = c.ReadPacket(p)
	if string(p[:n]) != "and back" || err != nil {
		t.Errorf("read %q, %v", p[:n], err)
	}
	if k := c.Counters(); k.PacketsIn != 1 || k.BytesIn != 8 || k.PacketsOut != 1 || k.BytesOut != 5 {
		t.Errorf("the client has counted %+v", k)
	}
	must(t, c.Close())
	fails(t, "a second close", c.Close(), net.ErrClosed)
	if _, err := s.Read(p); err != io.EOF {
		t.Errorf("read after the client's close: %v, want io.EOF itself", err)
	}
	if _, err := c.Read(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func testFD(t *testing.T, w *world) {
	w.register(t, "fd")
	l := w.listen(t, "fd")
	open := make(map[int]*ipc.Conn)
	flow := func() {
		for _, c := range []*ipc.Conn{w.dial(t, "fd"), accept(t, l)} {
			open[c.FD()] = c
		}
	}
	for range 3 {
		flow()
	}
	for fd := 64; fd < 70; fd++ {
		if open[fd] == nil {
			t.Fatalf("6 ends have not the fds 64 to 69: %v", open)
		}
	}
	for _, fd := range []int{65, 68} {
		must(t, open[fd].Close())
		open[fd] = nil
	}
	flow()
	if open[65] == nil || open[68] == nil {
		t.Errorf("two new ends have not the fds 65 and 68: %v", open)
	}
	for _, c := range open {
		must(t, c.Close())
	}
}

func testQoS(t *testing.T, w *world) {
	w.register(t, "qos")
	l := w.listen(t, "qos")
	for _, q := range []ipc.QoS{core.QoSRaw, core.QoSVoice, core.QoSData} {
		c, err := w.node.Dial(wait(t), "qos", ipc.WithQoS(q))
		must(t, err)
		s := accept(t, l)
		if c.QoS() != q || s.QoS() != q {
			t.Errorf("asked for %+v, the client has %+v, the server %+v", q, c.QoS(), s.QoS())
		}
		c.Close()
		s.Close()
	}
	c := w.dial(t, "qos")
	if c.QoS() != core.QoSRaw {
		t.Errorf("without WithQoS the flow has %+v", c.QoS())
	}
	c.Close()
	accept(t, l).Close()
}

func testWithLayer(t *testing.T, w *world) {
	_, err := w.node.Listen(wait(t), "with layer", ipc.WithLayer("another"))
	fails(t, "listen in a layer that is not there", err, core.ErrNotFound, "another", `"layer"`)
	_, err = w.node.Listen(wait(t), "", ipc.WithLayer("layer"))
	fails(t, "register no name", err, core.ErrUsage)
	l := w.listen(t, "with layer", ipc.WithLayer("la*"))
	c := w.dial(t, "with layer")
	s := accept(t, l)
	must(t, l.Withdraw(wait(t)))
	_, err = w.node.Dial(wait(t), "with layer")
	fails(t, "dial a name that is withdrawn", err, core.ErrIPCP, "register it")
	must(t, c.WritePacket([]byte("a flow that was there")))
	if _, err := s.Read(make([]byte, 100)); err != nil {
		t.Errorf("read from a flow after its name was withdrawn: %v", err)
	}
	must(t, l.Close())
	must(t, l.Withdraw(wait(t))) // again, and after Close
	without := w.listen(t, "without layer")
	must(t, without.Withdraw(wait(t)))
	must(t, w.admin.DestroyName(wait(t), "with layer"))
	fails(t, "withdraw a name that has gone", l.Withdraw(wait(t)), core.ErrName)
}

// An administrator's bind and register may come in any order, before or after
// the process accepts.
func testBound(t *testing.T, w *world) {
	pid := os.Getpid()
	w.node.Dial(wait(t), "makes this process known")
	must(t, w.admin.BindProcess(wait(t), pid, "bound first"))
	l := w.listen(t, "")
	w.register(t, "bound first", "bound last")
	must(t, w.admin.BindProcess(wait(t), pid, "bound last"))
	for _, name := range []string{"bound first", "bound last"} {
		c := w.dial(t, name)
		s := accept(t, l)
		if s.LocalAddr() != ipc.Addr(name) {
			t.Errorf("a flow to %q was accepted for %v", name, s.LocalAddr())
		}
		c.Close()
		s.Close()
	}
	must(t, w.admin.UnbindProcess(wait(t), pid, "bound last"))
	_, err := w.node.Dial(wait(t), "bound last")
	fails(t, "dial a name that is no longer bound", err, core.ErrNotAllocated, "irm bind process")
	must(t, w.admin.UnbindProcess(wait(t), pid, ""))
	_, err = w.node.Dial(wait(t), "bound first")
	fails(t, "dial a name that is no longer bound", err, core.ErrNotAllocated, "irm bind process")
}

func testUnbound(t *testing.T, w *world) {
	w.register(t, "unbound")
	l := w.listen(t, "unbound")
	must(t, l.Close())
	_, err := w.node.Dial(wait(t), "unbound")
	fails(t, "dial a name whose listener is closed", err, core.ErrNotAllocated)
}

func testTwoListeners(t *testing.T, w *world) {
	w.register(t, "twice")
	a, b := w.listen(t, "twice"), w.listen(t, "twice")
	must(t, a.Close())
	c := w.dial(t, "twice")
	s := accept(t, b)
	c.Close()
	s.Close()
}

func testCloseListener(t *testing.T, w *world) {
	l := w.listen(t, "closed")
	blocked := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := l.Accept()
			blocked <- err
		}()
	}
	settle()
	must(t, l.Close())
	for range 2 {
		err := result(t, "accept", blocked)
		fails(t, "a blocked accept", err, net.ErrClosed)
		if _, ok := errors.AsType[*net.OpError](err); !ok {
			t.Errorf("accept: %T is no *net.OpError", err)
		}
	}
	_, err := l.AcceptFlow()
	fails(t, "accept after close", err, net.ErrClosed)
	fails(t, "a second close", l.Close(), net.ErrClosed)
}

func testNotAccepted(t *testing.T, w *world) {
	w.register(t, "not accepted")
	l := w.listen(t, "not accepted")
	var cs []*ipc.Conn
	for range 5 {
		cs = append(cs, w.dial(t, "not accepted"))
	}
	must(t, l.Close())
	for _, c := range cs {
		must(t, c.SetDeadline(time.Now().Add(patience)))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read of a flow that nobody accepted: %v, want io.EOF", err)
		}
		must(t, c.Close())
	}
}

func testOutlive(t *testing.T, w *world) {
	client, server := w.pair(t, "outlive") // which closes the listener
	must(t, client.WritePacket([]byte("still")))
	p := make([]byte, 10)
	if n, err := server.Read(p); string(p[:n]) != "still" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	client.Close()
	server.Close()
}

// A server that is busy gets so many flows ahead; the others wait until it
// accepts, and none is lost.
func testBacklog(t *testing.T, w *world) {
	w.register(t, "busy")
	l := w.listen(t, "busy")
	const n = 30
	dialed := make(chan error, n)
	read := func(c *ipc.Conn) {
		_, err := c.Read(make([]byte, 1))
		c.Close()
		dialed <- err
	}
	for range 16 { // as the documentation of Listener says: they do not wait
		go read(w.dial(t, "busy"))
	}
	for range n - 16 {
		go func() {
			c, err := w.node.Dial(wait(t), "busy")
			if err != nil {
				dialed <- err
				return
			}
			read(c)
		}()
	}
	for range n {
		s := accept(t, l)
		must(t, s.WritePacket([]byte{1}))
		s.Close()
	}
	for range n {
		must(t, result(t, "dial", dialed))
	}
}

// The process's own Dial and Listen, with the errors of their doors.
func TestProcess(t *testing.T) {
	ctx := wait(t)
	l, err := ipc.Listen(ctx, "process", ipc.WithLayer("*"))
	must(t, err)
	defer l.Close()
	c, err := ipc.Dial(ctx, "process")
	must(t, err)
	defer c.Close()
	accept(t, l).Close()

	for _, name := range []string{"", strings.Repeat("x", 256), "n\x00l"} {
		_, err := ipc.Dial(ctx, name)
		fails(t, "dial", err, core.ErrUsage, "dial o7s")
		if name != "" {
			_, err = ipc.Listen(ctx, name)
			fails(t, "listen", err, core.ErrUsage, "listen o7s")
		}
	}
	past, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	_, err = ipc.Dial(past, "process")
	fails(t, "dial too late", err, os.ErrDeadlineExceeded)
	_, err = ipc.Listen(past, "too late")
	fails(t, "listen too late", err, os.ErrDeadlineExceeded)
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		t.Errorf("%v is no time-out of package net", err)
	}
}

// An IRMd that judges by uid lets everybody listen, and administrators
// register.
func TestListenPermission(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		if os.Geteuid() != 0 {
			t.Skip("only root can be somebody else")
		}
		w.register(t, "held")
		l := w.listen(t, "held")
		nobody := asNobody()
		p, err := start("test-echo", w.dir, nobody, "held")
		must(t, err)
		if _, err := p.line("uid 0 holds the name", 1); err != nil {
			t.Error(err)
		}
		_ = p.stop()

		must(t, w.admin.RegisterName(wait(t), irmctl.RegisterReq{Name: "everybody", IPCPs: []string{"*"}}))
		w.roleAs(t, "test-echo", "listens", nobody, "everybody")
		c := w.dial(t, "everybody")
		must(t, c.SetDeadline(time.Now().Add(patience)))
		must(t, c.WritePacket([]byte("x")))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("a flow to another uid: %v", err)
		}
		w.roleAs(t, "test-client", "dialed", nobody, "held")
		accept(t, l)
	})
}

// A server that is held up for a moment still has its backlog: who dials does
// not wait for it.
func TestDialDoesNotWaitForTheServer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.register(t, "busy")
		p := w.role(t, "test-echo", "listens", "busy")
		var conns []*ipc.Conn
		stopped(t, p.pid(), func() {
			for range 4 {
				c := w.dial(t, "busy")
				must(t, c.SetDeadline(time.Now().Add(patience)))
				if w.spliced() { // else its first packet waits in the IPCP
					must(t, c.WritePacket([]byte("before")))
				}
				conns = append(conns, c)
			}
		})
		for _, c := range conns {
			if w.spliced() {
				p := make([]byte, ipc.MaxPacket)
				if n, err := c.ReadPacket(p); string(p[:n]) != "before" {
					t.Errorf("got back %q, %v", p[:n], err)
				}
			}
			must(t, ask(c, "after"))
		}
	})
}
