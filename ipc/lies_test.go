package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/ipc"
	"o7s/ipc/flow"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// link is a connection to the IRMd that keeps the rules of package rpc, but
// not those of package irmctl.
func (w *world) link(t *testing.T) *rpc.Link {
	t.Helper()
	l, err := irmctl.ConnectTo(wait(t), w.dir, rpc.Config{})
	must(t, err)
	t.Cleanup(func() { l.Close(); <-l.Done() })
	return l
}

func call[Req, Resp any](t *testing.T, l *rpc.Link, m rpc.Method[Req, Resp], req Req) error {
	t.Helper()
	r, err := rpc.Do(wait(t), l, m, &req, nil)
	if err == nil {
		r.Close()
	}
	return err
}

// The calls of a process come after Announce.
func TestNotAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	l := w.link(t)
	for what, err := range map[string]error{
		"alloc":    call(t, l, irmctl.Alloc, irmctl.AllocReq{Name: "x"}),
		"listen":   call(t, l, irmctl.Listen, irmctl.ListenReq{ID: 1, Name: "x", Credit: 1}),
		"accept":   call(t, l, irmctl.Accept, irmctl.AcceptReq{Listener: 1, Credit: 1}),
		"unlisten": call(t, l, irmctl.Unlisten, irmctl.Listener{ID: 1}),
		"dealloc":  call(t, l, irmctl.Dealloc, irmctl.FlowRef{ID: 0}),
	} {
		fails(t, what, err, core.ErrState, "announced")
	}
	must(t, call(t, l, irmctl.Announce, irmctl.AnnounceReq{Path: "/no/such/file", Applet: "irmd"}))
	fails(t, "announce again", call(t, l, irmctl.Announce, irmctl.AnnounceReq{}), core.ErrState)
	fails(t, "no such method", call(t, l, rpc.Method[rpc.Empty, rpc.Empty]{Name: "x"}, rpc.Empty{}), core.ErrNotSupported)
}

// A process that has announced itself and lies about all else: each call is
// refused, and nothing of it is another's.
func TestLies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	w.register(t, "others")
	w.role(t, "test-hold", "listens", "others")
	p := w.role(t, "test-client", "dialed", "others") // flows 0 and 1
	l := w.link(t)
	must(t, call(t, l, irmctl.Announce, irmctl.AnnounceReq{}))
	for what, tt := range map[string]struct {
		err  error
		want core.Errno
	}{
		"dealloc of another's flow": {call(t, l, irmctl.Dealloc, irmctl.FlowRef{ID: 0}), core.ErrNotFound},
		"dealloc of no flow":        {call(t, l, irmctl.Dealloc, irmctl.FlowRef{ID: 1 << 31}), core.ErrNotFound},
		"alloc of no name":          {call(t, l, irmctl.Alloc, irmctl.AllocReq{}), core.ErrUsage},
		"listen with no credit":     {call(t, l, irmctl.Listen, irmctl.ListenReq{ID: 1, Name: "x"}), core.ErrUsage},
		"listen with much credit":   {call(t, l, irmctl.Listen, irmctl.ListenReq{ID: 2, Name: "x", Credit: 1 << 20}), core.ErrUsage},
		"listen with less credit":   {call(t, l, irmctl.Listen, irmctl.ListenReq{ID: 3, Name: "x", Credit: -1}), core.ErrUsage},
		"accept at no listener":     {call(t, l, irmctl.Accept, irmctl.AcceptReq{Listener: 9, Credit: 1}), core.ErrNotFound},
		"unlisten of none":          {call(t, l, irmctl.Unlisten, irmctl.Listener{ID: 9}), core.ErrNotFound},
	} {
		fails(t, what, tt.err, tt.want)
	}
	if p.count("error") > 0 {
		t.Error("the other process has lost its flow")
	}
}

// A server says that it listens and takes no flow that arrives. A client that dials it has
// a flow without packets, until the client's own deadline or the server's end. Other
// clients are served.
func TestServerThatTakesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	w.register(t, "trap", "others")
	w.role(t, "test-echo", "listens", "others")
	mux := rpc.NewMux()
	var taken []int
	rpc.Handle(mux, irmctl.Arrived, func(call *rpc.Call[irmctl.Credit], _ *irmctl.ArrivedMsg) {
		taken = append(taken, call.TakeFiles()...) // and no answer
	})
	l, err := irmctl.ConnectTo(wait(t), w.dir, rpc.Config{Mux: mux})
	must(t, err)
	must(t, call(t, l, irmctl.Announce, irmctl.AnnounceReq{}))
	must(t, call(t, l, irmctl.Listen, irmctl.ListenReq{ID: 1, Name: "trap", Credit: 100}))
	// The trap is this process: another one dials.
	p := w.role(t, "test-try", "ready", "trap", "100ms")
	if _, err := p.line("read: timed out", 1); err != nil {
		t.Error(err)
	}
	p = w.role(t, "test-dial", "ready", "others", "3")
	if _, err := p.line("done", 1); err != nil {
		t.Error(err)
	}
	// The trap ends, and the clients that wait in it are told.
	p = w.role(t, "test-try", "ready", "trap", "1m")
	if _, err := p.line("dialed", 1); err != nil {
		t.Error(err)
	}
	l.Close()
	<-l.Done()
	for _, fd := range taken {
		unix.Close(fd)
	}
	if _, err := p.line("read: flow is down", 1); err != nil {
		t.Error(err)
	}
	w.empty(t)
}

// tryRole dials once, and reads from the flow, with a time-out for both. It says
// what came of it.
func tryRole(ctx context.Context, args []string) error {
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	c, err := ipc.Dial(short, args[0])
	if err != nil {
		fmt.Println("dial:", err)
	} else {
		fmt.Println("dialed")
		_ = c.SetDeadline(time.Now().Add(d))
		_, err = c.Read(make([]byte, 1))
		fmt.Println("read:", errors.Unwrap(err))
		c.Close()
	}
	<-ctx.Done()
	return nil
}

// fresh returns a descriptor of a key.
func fresh(t *testing.T) int {
	fd, err := irmctl.KeyFile(new(crypt.Key))
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// An encrypted flow is opened with its key, and tells what the other end has proved.
func TestSealedFlow(t *testing.T) {
	kit, err := flow.NewKit(flow.MinRing)
	must(t, err)
	defer kit.Close()
	mem, bell, ring := kit.Mem, kit.Bell[0], kit.Ring // the kit is closed beside the handler
	m := rpc.NewMux()
	rpc.Handle(m, irmctl.Alloc, func(c *rpc.Call[irmctl.Flow], _ *irmctl.AllocReq) {
		f := irmctl.Flow{Ring: ring, QoS: core.QoSRaw, Path: ipcp.Path{MPL: time.Second, Max: 1400, Best: 1400}, Cipher: crypt.AES256GCM, CN: "srv", Ours: true}
		c.Reply(&f, mem, bell, fresh(t))
	})
	f := newFakeIRMd(t, m)
	c, err := f.node.Dial(wait(t), "name")
	must(t, err)
	defer c.Close()
	if c.Peer() != "srv" || c.Cipher() != "aes-256-gcm" || c.MaxPacket() != 1400-28 {
		t.Errorf("peer %q, cipher %q, packets of %d bytes", c.Peer(), c.Cipher(), c.MaxPacket())
	}
	must(t, c.WritePacket([]byte("a secret")))
	layer, err := kit.Open(1)
	must(t, err)
	defer layer.Close()
	var packets [1][]byte
	if n, err := layer.Look(packets[:]); n != 1 || err != nil || bytes.Contains(packets[0], []byte("secret")) {
		t.Errorf("in shared memory is %q, %v", packets, err)
	}
	layer.Drop(1)
}

// What comes from the IRMd's socket as a flow is checked: an IRMd that passes
// anything else makes Dial fail, and crashes nobody.
func TestFlowThatIsNone(t *testing.T) {
	t.Parallel()
	kit, err := flow.NewKit(flow.MinRing)
	must(t, err)
	defer kit.Close()
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	fd := int(null.Fd())
	key, err := irmctl.KeyFile(new(crypt.Key))
	must(t, err)
	defer unix.Close(key)
	far := ipcp.Path{MPL: time.Second, Max: 1400, Best: 1400}
	for name, tt := range map[string]struct {
		flow irmctl.Flow
		fds  []int
		want core.Errno
	}{
		"no key":            {irmctl.Flow{Ring: kit.Ring, Path: far, Cipher: crypt.AES256GCM}, []int{kit.Mem, kit.Bell[0]}, core.ErrMessage},
		"a key too many":    {irmctl.Flow{Ring: kit.Ring, Path: far, Cipher: crypt.AES256GCM}, []int{kit.Mem, kit.Bell[0], fd, fd}, core.ErrMessage},
		"a short key":       {irmctl.Flow{Ring: kit.Ring, Path: far, Cipher: crypt.AES256GCM}, []int{kit.Mem, kit.Bell[0], fd}, core.ErrMessage},
		"an unknown cipher": {irmctl.Flow{Ring: kit.Ring, Path: far, Cipher: 1}, []int{kit.Mem, kit.Bell[0], key}, core.ErrCrypt},
		"encrypted at home": {irmctl.Flow{Ring: kit.Ring, Cipher: crypt.AES256GCM}, []int{kit.Mem, kit.Bell[0], fresh(t)}, core.ErrMessage},
		"no descriptors":    {irmctl.Flow{Ring: kit.Ring}, nil, core.ErrLimit},
		"one descriptor":    {irmctl.Flow{Ring: kit.Ring}, []int{kit.Mem}, core.ErrMessage},
		"three descriptors": {irmctl.Flow{Ring: kit.Ring}, []int{kit.Mem, kit.Bell[0], fd}, core.ErrMessage},
		"no memory":         {irmctl.Flow{Ring: kit.Ring}, []int{fd, kit.Bell[0]}, core.ErrUsage},
		"no bell":           {irmctl.Flow{Ring: kit.Ring}, []int{kit.Mem, fd}, core.ErrUsage},
		"another size":      {irmctl.Flow{Ring: 2 * kit.Ring}, []int{kit.Mem, kit.Bell[0]}, core.ErrUsage},
		"no size":           {irmctl.Flow{}, []int{kit.Mem, kit.Bell[0]}, core.ErrUsage},
		"another side":      {irmctl.Flow{Side: -1, Ring: kit.Ring}, []int{kit.Mem, kit.Bell[0]}, core.ErrUsage},
	} {
		t.Run(name, func(t *testing.T) {
			m := rpc.NewMux()
			rpc.Handle(m, irmctl.Alloc, func(c *rpc.Call[irmctl.Flow], _ *irmctl.AllocReq) {
				tt.flow.ID = 7
				c.Reply(&tt.flow, tt.fds...)
			})
			f := newFakeIRMd(t, m)
			_, err := f.node.Dial(wait(t), "name")
			fails(t, "dial", err, tt.want, "flow 7")
			if err := within(patience, f.end(7)); err != nil {
				t.Errorf("flow 7 is not given back: %v", err)
			}
		})
	}
}
