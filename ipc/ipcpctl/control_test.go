package ipcpctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest"
	"o7s/core/ipcp/local"
	"o7s/core/logs"
	"o7s/core/view"
	"o7s/ipc/flow"
	"o7s/ipc/internal/testkit"
	"o7s/ipc/rpc"
)

// The suite of every layer type, with a link between the IRMd and the IPCP:
// Client, HandleControl and Host leave no trace of themselves.
func TestControl(t *testing.T) {
	ipcptest.RunControl(t, func(t *testing.T, host ipcp.Host) ipcp.Control {
		h := NewHost()
		p := ipcp.NewProcess(local.Type, ipcp.Env{Host: h, Log: logs.Discard()})
		ours, theirs := links(t, p, irmdMux(host))
		h.SetLink(theirs)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		return Client{ours}
	})
}

// links returns a link of the IRMd, which has the handlers of mux, to one of
// an IPCP, which does what c does.
func links(t *testing.T, c ipcp.Control, mux *rpc.Mux) (ours, theirs *rpc.Link) {
	t.Helper()
	a, b := pair(t)
	control := rpc.NewMux()
	HandleControl(control, c)
	limits := rpc.Limits{Calls: 1 << 16, Queue: 64 << 20}
	theirs, err := rpc.New(b, rpc.Config{Mux: control, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	ours, err = rpc.New(a, rpc.Config{Mux: mux, DownErr: core.ErrIPCP, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range []*rpc.Link{ours, theirs} {
			l.Close()
			<-l.Done()
		}
	})
	return ours, theirs
}

// pair returns the two ends of a connection within this process.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	a, f, err := rpc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = rpc.Inherit(fd); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// irmdMux returns the IRMd's side of a link: what an IPCP tells goes to host.
func irmdMux(host ipcp.Host) *rpc.Mux {
	m := rpc.NewMux()
	rpc.Handle(m, FlowReqArr, func(call *rpc.Call[FlowReq], r *ipcp.Arrival) {
		host.FlowReqArr(*r, func(id core.FlowID, err error) {
			if err != nil {
				call.Fail(err)
				return
			}
			_ = call.Reply(&FlowReq{id})
		})
	})
	rpc.Handle(m, FlowAllocReply, func(call *rpc.Call[rpc.Empty], r *ipcp.AllocReply) {
		host.FlowAllocReply(*r, answer(call))
	})
	rpc.Handle(m, FlowReleased, func(call *rpc.Call[rpc.Empty], r *FlowReq) {
		host.FlowDealloc(r.Flow, answer(call))
	})
	rpc.Handle(m, Splice, func(_ *rpc.Call[rpc.Empty], r *SpliceMsg) {
		// The FlowAllocReply that follows finds out how that went.
		_ = host.Splice(r.A, r.B)
	})
	return m
}

// attached calls Attach on a link whose other end answers by reply.
func attached(t *testing.T, reply func(*rpc.Call[Memory])) (ipcp.Flow, error) {
	t.Helper()
	m := rpc.NewMux()
	rpc.Handle(m, Attach, func(call *rpc.Call[Memory], _ *FlowReq) { reply(call) })
	h := NewHost()
	_, theirs := links(t, nothing{}, m)
	type outcome struct {
		f   ipcp.Flow
		err error
	}
	got := make(chan outcome, 1)
	go h.Attach(7, func(f ipcp.Flow, err error) { got <- outcome{f, err} })
	h.SetLink(theirs) // which Attach waits for
	select {
	case o := <-got:
		return o.f, o.err
	case <-time.After(10 * time.Second):
		t.Fatal("Attach has no answer")
		panic("not reached")
	}
}

// nothing is a Control that is not called.
type nothing struct{ ipcp.Control }

// attachedFlow returns the two ends of a flow: the process's, and the one that
// its layer gets from Attach.
func attachedFlow(t *testing.T) (process *flow.End, layer ipcp.Flow) {
	t.Helper()
	kit, err := flow.NewKit(flow.MinRing)
	if err != nil {
		t.Fatal(err)
	}
	process, err = kit.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Close() })
	layer, err = attached(t, func(call *rpc.Call[Memory]) {
		_ = call.Reply(&Memory{Side: 1, Ring: kit.Ring}, kit.Mem, kit.Bell[1])
		kit.Close() // an open copy of the bell would hide the other end's death
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { layer.Close() })
	return process, layer
}

func TestAttach(t *testing.T) {
	ours, theirs := attachedFlow(t)
	if ok, err := theirs.Put([]byte("from "), []byte("the layer")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	theirs.Publish()
	p := make([]byte, core.MaxPacket)
	if n, err := ours.ReadPacket(p); string(p[:n]) != "from the layer" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	if err := theirs.Abort(); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(p); !errors.Is(err, core.ErrFlowDown) {
		t.Errorf("read after Abort: %v", err)
	}
}

// A layer serves attached flows by a Set: it learns of packets, room and ends.
func TestSetOfAttachedFlows(t *testing.T) {
	process, layer := attachedFlow(t)
	set, err := NewHost().NewSet()
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := set.Add(layer, 7); err != nil {
		t.Fatal(err)
	}
	wait := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if v, err := set.Wait(ctx); v != 7 || err != nil {
			t.Fatalf("%s: Wait returned %v, %v", what, v, err)
		}
	}
	if v, ok := set.Next(); ok {
		t.Fatalf("%v has news before there is any", v)
	}

	if err := process.WritePacket([]byte("to the layer")); err != nil {
		t.Fatal(err)
	}
	wait("a packet")
	set.Park(layer)
	if v, ok := set.Next(); ok {
		t.Fatalf("%v has news while it is parked", v)
	}
	set.Unpark(layer)
	wait("the packet, after Unpark")
	lent := make([][]byte, 4)
	if n, err := layer.Look(lent); n != 1 || err != nil || string(lent[0]) != "to the layer" {
		t.Fatalf("Look: %d, %v, %q", n, err, lent[0])
	}
	layer.Drop(1)

	body := make([]byte, 1000)
	for ok := true; ok; {
		if ok, err = layer.Put([]byte("head"), body); err != nil {
			t.Fatal(err)
		}
	}
	layer.Publish()
	full := layer.Unread()
	set.Room(layer, len(body))
	if v, ok := set.Next(); ok {
		t.Fatalf("%v has news while its memory is full", v)
	}
	p := make([]byte, core.MaxPacket)
	for n := 1; n > 0; {
		if n, err = process.TryReadPacket(p); err != nil || n > 0 && (n != 1004 || string(p[:4]) != "head") {
			t.Fatalf("the process read %d bytes %q, %v", n, p[:4], err)
		}
	}
	wait("room")
	if left := layer.Unread(); full == 0 || left != 0 {
		t.Errorf("%d bytes unread when full, %d when empty", full, left)
	}

	if err := process.Close(); err != nil {
		t.Fatal(err)
	}
	wait("the end")
	if n, err := layer.Look(lent); n != 0 || err != io.EOF {
		t.Errorf("Look after the end: %d, %v", n, err)
	}
	set.Remove(layer)
	if v, ok := set.Next(); ok {
		t.Errorf("%v has news after Remove", v)
	}
	if err := set.Add(otherFlow{}, 8); !errors.Is(err, core.ErrUsage) {
		t.Errorf("Add of a flow that is not of this host: %v", err)
	}
}

// otherFlow is a Flow that no Host gave.
type otherFlow struct{ ipcp.Flow }

// Descriptors that are not what they should be are refused, and closed.
func TestAttachRefuses(t *testing.T) {
	kit, err := flow.NewKit(flow.MinRing)
	if err != nil {
		t.Fatal(err)
	}
	defer kit.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	before := descriptors()
	for name, tt := range map[string]struct {
		msg  Memory
		fds  []int
		want core.Errno
	}{
		"none":             {Memory{1, kit.Ring}, nil, core.ErrLimit},
		"one":              {Memory{1, kit.Ring}, []int{kit.Mem}, core.ErrMessage},
		"three":            {Memory{1, kit.Ring}, []int{kit.Mem, kit.Bell[1], fd}, core.ErrMessage},
		"no memory":        {Memory{1, kit.Ring}, []int{fd, kit.Bell[1]}, core.ErrUsage},
		"no bell":          {Memory{1, kit.Ring}, []int{kit.Mem, fd}, core.ErrUsage},
		"the wrong order":  {Memory{1, kit.Ring}, []int{kit.Bell[1], kit.Mem}, core.ErrUsage},
		"no such side":     {Memory{2, kit.Ring}, []int{kit.Mem, kit.Bell[1]}, core.ErrUsage},
		"another size":     {Memory{1, 2 * kit.Ring}, []int{kit.Mem, kit.Bell[1]}, core.ErrUsage},
		"a size of no use": {Memory{1, -1}, []int{kit.Mem, kit.Bell[1]}, core.ErrUsage},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := attached(t, func(call *rpc.Call[Memory]) { _ = call.Reply(&tt.msg, tt.fds...) })
			if f != nil || !errors.Is(err, tt.want) {
				t.Errorf("Attach: %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := attached(t, func(call *rpc.Call[Memory]) { call.Fail(core.ErrState) }); !errors.Is(err, core.ErrState) {
		t.Errorf("Attach: %v", err)
	}
	runtime.GC()
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// descriptors counts this process's, but for those of links, which are closed
// at the test's end.
func descriptors() (n int) {
	for _, what := range testkit.Files() {
		if what == os.DevNull || strings.HasPrefix(what, "/memfd:") {
			n++
		}
	}
	return n
}

// The calls of an administrator block, and end when the caller gives up.
func TestClientGivesUp(t *testing.T) {
	slow := slowControl{begun: make(chan bool, 1), ended: make(chan error, 1)}
	ours, _ := links(t, slow, nil)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan error, 1)
	go func() { got <- (Client{ours}).Query(ctx, "hash") }()
	<-slow.begun
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("Query: %v", err)
	}
	if err := <-slow.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("at the other side: %v", err)
	}
}

// slowControl answers a query when its caller gives up.
type slowControl struct {
	ipcp.Control
	begun chan bool
	ended chan error
}

func (c slowControl) Query(ctx context.Context, _ core.Hash) error {
	c.begun <- true
	<-ctx.Done()
	c.ended <- ctx.Err()
	return ctx.Err()
}

// An IPCP that dies fails all calls with core.ErrIPCP.
func TestClientOfTheDead(t *testing.T) {
	slow := slowControl{begun: make(chan bool, 1), ended: make(chan error, 1)}
	ours, theirs := links(t, slow, nil)
	c := Client{ours}
	got := make(chan error, 1)
	go func() { got <- c.Query(context.Background(), "hash") }()
	<-slow.begun
	theirs.Close()
	if err := <-got; !errors.Is(err, core.ErrIPCP) {
		t.Errorf("Query while it dies: %v", err)
	}
	<-ours.Done()
	if _, err := c.Bootstrap(context.Background(), ipcp.Config{}); !errors.Is(err, core.ErrIPCP) {
		t.Errorf("Bootstrap: %v", err)
	}
	c.FlowAlloc(ipcp.AllocRequest{}, func(err error) { got <- err })
	if err := <-got; !errors.Is(err, core.ErrIPCP) {
		t.Errorf("FlowAlloc: %v", err)
	}
}

// memberControl answers what an administrator asks beyond bootstrap.
type memberControl struct {
	ipcp.Control
	asked []string
}

func (c *memberControl) Enroll(_ context.Context, e ipcp.Enrollment) (ipcp.Config, error) {
	c.asked = append(c.asked, fmt.Sprint("enroll ", e))
	return ipcp.Config{Layer: "net", Hash: hash.MD5, Settings: ipcp.Settings{{Name: "dev", Value: "eth0"}}}, nil
}

func (c *memberControl) Connect(_ context.Context, x ipcp.Connection) error {
	c.asked = append(c.asked, fmt.Sprint("connect ", x))
	return nil
}

func (c *memberControl) Disconnect(_ context.Context, x ipcp.Connection) error {
	c.asked = append(c.asked, fmt.Sprint("disconnect ", x))
	return fmt.Errorf("%w: no such connection", core.ErrNotFound)
}

func (c *memberControl) Show(context.Context) ([]view.Fact, error) {
	return []view.Fact{{Name: "neighbour", Value: "m"}}, nil
}

func (c *memberControl) ShowFlow(_ context.Context, id core.FlowID) ([]view.Fact, error) {
	return []view.Fact{{Name: "flow", Value: fmt.Sprint(id)}}, nil
}

// Enrolling, connecting and showing cross the link as they are.
func TestMember(t *testing.T) {
	c := &memberControl{}
	ours, _ := links(t, c, nil)
	ctl, ctx := Client{ours}, context.Background()
	e, x := ipcp.Enrollment{Layer: "net", Dst: "m"}, ipcp.Connection{Dst: "m", Component: "dt", QoS: core.QoSVoice}
	cfg, err := ctl.Enroll(ctx, e)
	if err != nil || cfg.Layer != "net" || cfg.Hash != hash.MD5 || cfg.Settings.Text("dev") != "eth0" {
		t.Errorf("enroll: %v, %v", cfg, err)
	}
	if err := ctl.Connect(ctx, x); err != nil {
		t.Error(err)
	}
	if err := ctl.Disconnect(ctx, x); !errors.Is(err, core.ErrNotFound) {
		t.Errorf("disconnect: %v", err)
	}
	facts, err := ctl.Show(ctx)
	if err != nil || len(facts) != 1 || facts[0] != (view.Fact{Name: "neighbour", Value: "m"}) {
		t.Errorf("show: %v, %v", facts, err)
	}
	facts, err = ctl.ShowFlow(ctx, 7)
	if err != nil || len(facts) != 1 || facts[0] != (view.Fact{Name: "flow", Value: "7"}) {
		t.Errorf("show a flow: %v, %v", facts, err)
	}
	if want := []string{fmt.Sprint("enroll ", e), fmt.Sprint("connect ", x), fmt.Sprint("disconnect ", x)}; !slices.Equal(c.asked, want) {
		t.Errorf("asked %q, want %q", c.asked, want)
	}
}
