package ipc_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
	"o7s/ipc/flow"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// fakeIRMd is an IRMd whose answers the test gives, so that they come when it
// wants them.
type fakeIRMd struct {
	node *ipc.Node

	mu    sync.Mutex // guards the fields below
	links []*rpc.Link
	ended map[core.FlowID]chan struct{} // closed when the node gives up the flow
}

// newFakeIRMd makes one that has the handlers of mux beside those of announce
// and of the end of flows.
func newFakeIRMd(t *testing.T, mux *rpc.Mux) *fakeIRMd {
	t.Helper()
	dir, err := newDir()
	must(t, err)
	ln, err := rpc.Listen(dir, irmctl.Socket, 0o600)
	must(t, err)
	f := &fakeIRMd{node: ipc.NewNode(dir), ended: make(map[core.FlowID]chan struct{})}
	rpc.Handle(mux, irmctl.Announce, func(c *rpc.Call[rpc.Empty], _ *irmctl.AnnounceReq) { _ = c.Reply(nil) })
	rpc.Handle(mux, irmctl.Unlisten, func(c *rpc.Call[rpc.Empty], _ *irmctl.Listener) { _ = c.Reply(nil) })
	rpc.Handle(mux, irmctl.Dealloc, func(c *rpc.Call[rpc.Empty], r *irmctl.FlowRef) {
		close(f.end(r.ID))
		_ = c.Reply(nil)
	})
	var accepts sync.WaitGroup
	accepts.Go(func() {
		for {
			conn, err := ln.AcceptUnix()
			if err != nil {
				return // closed below
			}
			l, err := rpc.New(conn, rpc.Config{Mux: mux})
			if err != nil {
				t.Error(err)
				return
			}
			f.mu.Lock()
			f.links = append(f.links, l)
			f.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		f.node.Close()
		ln.Close()
		accepts.Wait()
		f.goAway()
		os.RemoveAll(dir)
	})
	return f
}

// goAway closes all connections, as the end of an IRMd does.
func (f *fakeIRMd) goAway() {
	f.mu.Lock()
	links := f.links
	f.links = nil
	f.mu.Unlock()
	for _, l := range links {
		l.Close()
		<-l.Done()
	}
}

// end returns what is closed when the node has given up the flow id.
func (f *fakeIRMd) end(id core.FlowID) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended[id] == nil {
		f.ended[id] = make(chan struct{})
	}
	return f.ended[id]
}

// give hands a listener a flow, and returns the flow's other end. done is
// called with the answer.
func (f *fakeIRMd) give(t *testing.T, l *rpc.Link, listener uint32, id core.FlowID, done func(error)) *flow.End {
	t.Helper()
	kit, err := flow.NewKit(flow.MinRing)
	must(t, err)
	defer kit.Close()
	other, err := kit.Open(0)
	must(t, err)
	msg := irmctl.ArrivedMsg{Listener: listener, Name: "name", Flow: irmctl.Flow{ID: id, Side: 1, Ring: flow.MinRing}}
	rpc.Go(l, irmctl.Arrived, &msg, func(_ *rpc.Reply[irmctl.Credit], err error) { done(err) }, kit.Mem, kit.Bell[1])
	return other
}

// isOver checks that the flow id has ended at both ends.
func (f *fakeIRMd) isOver(t *testing.T, id core.FlowID, other *flow.End) {
	t.Helper()
	must(t, other.SetDeadline(time.Now().Add(patience)))
	if n, err := other.Read(make([]byte, 1)); err == nil || fmt.Sprint(err) == core.ErrTimeout.Error() {
		t.Fatalf("the other end of flow %d reads %d bytes, %v", id, n, err)
	}
	if err := within(patience, f.end(id)); err != nil {
		t.Fatalf("flow %d is not given up: %v", id, err)
	}
	other.Close()
}
