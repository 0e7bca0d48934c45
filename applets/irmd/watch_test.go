package irmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/logs"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// watching returns a link whose other end watches ws, and what that end is told.
func watching(t *testing.T, ws *watchers) (end func(), told <-chan view.Event, over <-chan error) {
	t.Helper()
	ours, theirs, err := rpc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan view.Event, 2*maxEvents)
	m := rpc.NewMux()
	rpc.Handle(m, irmctl.Event, func(_ *rpc.Call[rpc.Empty], e *view.Event) { events <- *e })
	conn, err := net.FileConn(theirs)
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	other, err := rpc.New(conn.(*net.UnixConn), rpc.Config{Mux: m})
	if err != nil {
		t.Fatal(err)
	}
	l, err := rpc.New(ours, rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ws.watch(ctx, l) }()
	if e := <-events; e.Event != irmctl.Watching {
		t.Fatalf("the first event is %+v", e)
	}
	if err := ws.watch(ctx, l); !errors.Is(err, core.ErrExists) {
		t.Errorf("watch again: %v", err)
	}
	end = func() { cancel(); l.Close(); <-l.Done(); <-other.Done() }
	t.Cleanup(end)
	return end, events, done
}

// nobody is the administrators of a test.
func nobody(rpc.Peer) bool { return false }

// All who watch are told of each event, in order; a user has so many of them.
func TestWatchers(t *testing.T) {
	ws := newWatchers(irm.New(irm.Config{Log: logs.Discard(), UID: os.Geteuid()}), nobody)
	defer ws.close()
	var ends []func()
	var told []<-chan view.Event
	for range maxWatchers {
		end, events, _ := watching(t, ws)
		ends, told = append(ends, end), append(told, events)
	}
	if err := ws.add(&watcher{link: linkOfMine(t)}); !errors.Is(err, core.ErrLimit) {
		t.Errorf("one more: %v", err)
	}
	if b := ws.bound(); b.Used != maxWatchers || b.Most != maxWatchers || b.MostUID != os.Geteuid() {
		t.Errorf("shown: %+v", b)
	}
	const n = 100
	for i := range n {
		ws.tell(view.Event{Event: fmt.Sprint(i)})
	}
	for _, events := range told {
		for i := range n {
			if e := <-events; e.Event != fmt.Sprint(i) {
				t.Fatalf("event %d is %+v", i, e)
			}
		}
	}
	for _, end := range ends {
		end()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		ws.mu.Lock()
		left := len(ws.all) + len(ws.count)
		ws.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d watchers are remembered", left)
		}
	}
}

func linkOfMine(t *testing.T) *rpc.Link {
	t.Helper()
	ours, theirs, err := rpc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	l, err := rpc.New(ours, rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); <-l.Done(); theirs.Close() })
	return l
}

// Where events come faster than they can be sent, whoever watches hears that
// some are missing.
func TestTooManyEvents(t *testing.T) {
	ws := newWatchers(irm.New(irm.Config{Log: logs.Discard(), UID: os.Geteuid()}), nobody)
	defer ws.close()
	_, _, over := watching(t, ws)
	ws.mu.Lock() // nothing is sent meanwhile
	for range maxEvents {
		ws.queue = append(ws.queue, view.Event{})
	}
	ws.mu.Unlock()
	ws.tell(view.Event{})
	if err := <-over; !errors.Is(err, core.ErrLimit) {
		t.Errorf("the watch ended with %v", err)
	}
}
