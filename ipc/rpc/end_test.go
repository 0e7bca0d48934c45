package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/core"
)

func TestCloseInHandlersAndCallbacks(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	Handle(m, hang, func(c *Call[Empty], _ *Empty) { c.Link().Close() })
	HandleBlocking(m, open, func(_ context.Context, l *Link, _ *Empty) (*Empty, error) {
		return nil, l.Close()
	})
	for _, method := range []Method[Empty, Empty]{hang, open} {
		ends := make(chan error, 2)
		onEnd := func(l *Link, err error) { l.Close(); ends <- err }
		s, c := links(t, Config{Mux: m, OnEnd: onEnd}, Config{OnEnd: onEnd})
		answer := make(chan error, 1)
		Go(c, method, &Empty{}, func(_ *Reply[Empty], err error) { c.Close(); answer <- err })
		if err := get(t, answer, "answer"); err == nil {
			t.Error("answered")
		}
		get(t, s.Done(), "server's end")
		get(t, c.Done(), "client's end")
		if err := get(t, ends, "OnEnd"); err != core.ErrClosed && err != io.EOF {
			t.Error(err)
		}
	}
}

func TestLinkWaitsForItsBlockingHandlers(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	started, release := make(chan bool), make(chan bool)
	var left atomic.Bool
	HandleBlocking(m, hang, func(context.Context, *Link, *Empty) (*Empty, error) {
		started <- true
		<-release
		left.Store(true)
		return nil, nil
	})
	s, c := links(t, Config{Mux: m, OnEnd: func(*Link, error) {
		if !left.Load() {
			t.Error("OnEnd before the handler returned")
		}
	}}, Config{})
	Go(c, hang, &Empty{}, func(*Reply[Empty], error) {})
	get(t, started, "handler")
	s.Close()
	get(t, c.Done(), "the other end sees the end though a handler runs")
	select {
	case <-s.Done():
		t.Error("done before the handler returned")
	default:
	}
	close(release)
	get(t, s.Done(), "end")
}

func TestEndOfTheLinkFailsItsCalls(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	calls := make(chan bool, 3)
	Handle(m, hang, func(*Call[Empty], *Empty) { calls <- true })
	s, c := links(t, Config{Mux: m}, Config{DownErr: core.ErrIPCP})
	answers := make(chan error, 4)
	for range 3 {
		Go(c, hang, &Empty{}, func(_ *Reply[Empty], err error) { answers <- err })
		get(t, calls, "call")
	}
	s.Close()
	for range 3 {
		if err := get(t, answers, "answer"); !errors.Is(err, core.ErrIPCP) || !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
	}
	get(t, c.Done(), "end")
	// Once it is over, Go calls done itself and Do returns at once.
	Go(c, hang, &Empty{}, func(_ *Reply[Empty], err error) { answers <- err })
	if err := <-answers; !errors.Is(err, core.ErrIPCP) {
		t.Error(err)
	}
	if _, err := Do(background(t), c, hang, &Empty{}, nil); !errors.Is(err, core.ErrIPCP) {
		t.Error(err)
	}
	if err := c.Handshake(background(t)); !errors.Is(err, core.ErrIPCP) {
		t.Error(err)
	}
	if s.Err() != core.ErrClosed || c.Err() != io.EOF {
		t.Errorf("%v, %v", s.Err(), c.Err())
	}
}

func TestRefusedGoCallsDoneOnTheReader(t *testing.T) {
	noLeaks(t)
	_, c := links(t, Config{}, Config{})
	var mu sync.Mutex // done would deadlock here if Go called it
	mu.Lock()
	answer := make(chan error, 1)
	Go(c, tell, &addReq{Note: strings.Repeat("x", MaxMessage)}, func(_ *Reply[Empty], err error) {
		mu.Lock()
		defer mu.Unlock()
		answer <- err
	})
	mu.Unlock()
	if err := get(t, answer, "answer"); !errors.Is(err, core.ErrMessage) {
		t.Error(err)
	}
	five := make([]int, MaxFiles+1)
	if _, err := Do(background(t), c, hang, &Empty{}, nil, five...); !errors.Is(err, core.ErrUsage) {
		t.Error(err)
	}
	if _, err := Do(background(t), c, hang, &Empty{}, nil, -1); !errors.Is(err, core.ErrUsage) || !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func TestFailMapsErrors(t *testing.T) {
	noLeaks(t)
	tests := []struct {
		name string
		err  error
		want core.Errno
		text string
	}{
		{"a sentinel", core.ErrExists, core.ErrExists, core.ErrExists.Error()},
		{"wrapped", fmt.Errorf("create a: %w", core.ErrExists), core.ErrExists, "create a: exists already"},
		{"a deadline", context.DeadlineExceeded, core.ErrTimeout, core.ErrTimeout.Error()},
		{"a canceled context", fmt.Errorf("x: %w", context.Canceled), core.ErrCanceled, "x: context canceled"},
		{"anything else", errors.New("disk on fire"), core.ErrInternal, "disk on fire"},
		{"no error", nil, core.ErrInternal, "the handler failed without an error"},
		{"an unknown code", core.Errno(4242), core.Errno(4242), "error 4242"},
		{"a negative code", core.Errno(-1), core.ErrInternal, "error -1"},
		{"a long text", errors.New(strings.Repeat("x", 3*MaxMessage)), core.ErrInternal, strings.Repeat("x", maxErrorText)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMux()
			Handle(m, hang, func(c *Call[Empty], _ *Empty) { c.Fail(tt.err) })
			_, c := links(t, Config{Mux: m}, Config{})
			_, err := Do(background(t), c, hang, &Empty{}, nil)
			var code core.Errno
			if !errors.As(err, &code) || code != tt.want || err.Error() != tt.text {
				t.Errorf("got code %d, %.80v", code, err)
			}
			// Through a second link it is still the same.
			if got := answered(errorCode(err), errorText(err)); got.Error() != tt.text || !errors.Is(got, tt.want) {
				t.Errorf("passed on: %.80v", got)
			}
		})
	}
}

func TestDescriptorsTravelWithTheirMessage(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	Handle(m, open, func(c *Call[Empty], _ *Empty) {
		// What the caller sent goes back, so it crosses twice.
		fds := c.TakeFiles()
		for _, fd := range fds {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("received descriptor: flags %#x, %v", flags, err)
			}
		}
		c.Reply(nil, fds...)
		closeAll(fds)
	})
	Handle(m, hang, func(c *Call[Empty], _ *Empty) { c.Reply(nil) }) // takes none
	HandleBlocking(m, addSlow, func(context.Context, *Link, *addReq) (*addResp, error) { return nil, nil })
	_, c := links(t, Config{Mux: m}, Config{})
	for n := range MaxFiles + 1 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fds := make([]int, n)
		for i := range fds {
			fds[i] = int(w.Fd())
		}
		reply, err := Do(background(t), c, open, &Empty{}, nil, fds...)
		if err != nil {
			t.Fatal(err)
		}
		back := reply.TakeFiles()
		if len(back) != n || len(reply.TakeFiles()) != 0 {
			t.Fatalf("%d descriptors came back, want %d", len(back), n)
		}
		reply.Close() // of nothing
		if n > 0 {
			unix.Write(back[0], []byte("x"))
			b := make([]byte, 2)
			if k, err := r.Read(b); k != 1 || err != nil {
				t.Error(k, err)
			}
		}
		closeAll(back)
		// Those that a handler or a caller does not take are closed.
		if _, err := Do(background(t), c, hang, &Empty{}, nil, fds...); err != nil {
			t.Fatal(err)
		}
		if _, err := Do(background(t), c, addSlow, &addReq{}, nil, fds...); err != nil {
			t.Fatal(err)
		}
		reply, err = Do(background(t), c, open, &Empty{}, nil, fds...)
		if err != nil {
			t.Fatal(err)
		}
		reply.Close()
		done := make(chan bool, 1)
		Go(c, open, &Empty{}, func(*Reply[Empty], error) { done <- true }, fds...)
		get(t, done, "answer")
		w.Close()
		if _, err := r.Read(make([]byte, 1)); err != io.EOF { // waits for all of them
			t.Error(err)
		}
		r.Close()
	}
}

// What the other end said last is read, also where it comes between the
// kernel's look into the queue and its look whether there is an end.
func TestReasonOfTheEndIsRead(t *testing.T) {
	noLeaks(t)
	refuse := Config{Admit: func(Peer) error { return core.ErrLimit }}
	const want = "the other end ended the connection: limit reached"
	for n := range 3000 {
		ours, theirs, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		theirs.Close()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := Inherit(fd)
		if err != nil {
			t.Fatal(err)
		}
		refused := make(chan *Link)
		go func() {
			s, err := New(ours, refuse)
			if err != nil {
				t.Error(err)
			}
			refused <- s
		}()
		c := newLink(t, conn, Config{})
		s := get(t, refused, "refusing end")
		_, err = Do(background(t), c, hang, &Empty{}, nil)
		if !errors.Is(err, core.ErrLimit) || !errors.Is(err, core.ErrIRMd) || err.Error() != want {
			t.Fatalf("link %d: %v", n, err)
		}
		get(t, s.Done(), "end of the refusing end")
		get(t, c.Done(), "end of the refused end")
	}
}
