package rpc

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"o7s/core"
)

func TestManyCallersBothWays(t *testing.T) {
	// Calls of all sorts from many goroutines on both sides, some given up,
	// some with descriptors; in the second half the link goes away under them.
	noLeaks(t)
	fds := memfds(t, 2)
	for round := range 6 {
		ends := round >= 3
		m := testMux()
		Handle(m, hang, func(c *Call[Empty], _ *Empty) {
			c.OnCancel(func() { c.Fail(core.ErrCanceled) })
		})
		Handle(m, open, func(c *Call[Empty], _ *Empty) {
			got := c.TakeFiles()
			if err := c.Reply(nil, got...); err != nil && !ends {
				t.Error(err)
			}
			closeAll(got)
		})
		a, b := links(t, Config{Mux: m}, Config{Mux: m})
		var wg sync.WaitGroup
		for g := range 12 {
			l := []*Link{a, b}[g%2]
			wg.Go(func() {
				for i := range 150 {
					if ends && i == 100 && g == round {
						l.Close()
					}
					if err := anyCall(t, l, fds); err != nil && !ends {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if !ends && (a.Err() != nil || b.Err() != nil) {
			t.Fatal(a.Err(), b.Err())
		}
		for _, l := range []*Link{a, b} {
			l.Close()
			get(t, l.Done(), "end")
			if len(l.calls)+len(l.in)+len(l.waiting)+l.blocking > 0 {
				t.Errorf("left: %d calls, %d handlers, %d callbacks, %d goroutines", len(l.calls), len(l.in), len(l.waiting), l.blocking)
			}
		}
	}
}

func anyCall(t *testing.T, l *Link, fds []int) error {
	ctx := background(t)
	switch rand.IntN(5) {
	case 0, 1:
		m := []Method[addReq, addResp]{add, addSlow}[rand.IntN(2)]
		note := strings.Repeat("n", rand.IntN(3000))
		r, err := Do(ctx, l, m, &addReq{A: 1, B: 2, Note: note}, nil)
		if err == nil && (r.Body.Sum != 3 || r.Body.Note != note) {
			t.Errorf("got %+v", r.Body)
		}
		return err
	case 2:
		ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(300))*time.Microsecond)
		defer cancel()
		if _, err := Do(ctx, l, hang, &Empty{}, nil); !errors.Is(err, core.ErrTimeout) && !errors.Is(err, core.ErrCanceled) {
			return err
		}
		return nil
	case 3:
		r, err := Do(ctx, l, open, &Empty{}, nil, fds...)
		if err != nil {
			return err
		}
		got := r.TakeFiles()
		if len(got) != len(fds) {
			t.Errorf("%d descriptors", len(got))
		}
		closeAll(got)
		return nil
	default:
		answer := make(chan error, 1)
		p := Go(l, hang, &Empty{}, func(_ *Reply[Empty], err error) { answer <- err })
		p.Cancel()
		if err := get(t, answer, "answer"); err != core.ErrCanceled {
			return err
		}
		return nil
	}
}

func TestReplyThatNobodyClosesIsClosedWithIt(t *testing.T) {
	noLeaks(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m, fd := NewMux(), int(w.Fd())
	Handle(m, open, func(c *Call[Empty], _ *Empty) { c.Reply(nil, fd) })
	_, c := links(t, Config{Mux: m}, Config{})
	if _, err := Do(background(t), c, open, &Empty{}, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	closed := make(chan error, 1)
	go func() {
		_, err := r.Read(make([]byte, 1))
		closed <- err
	}()
	for {
		runtime.GC()
		select {
		case err := <-closed:
			if err != io.EOF {
				t.Error(err)
			}
			return
		case <-background(t).Done():
			t.Fatal("still open")
		default:
		}
	}
}

func TestPacketRefusedInTheQueueFailsItsCallAlone(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	calls := make(chan *Call[Empty], 1)
	Handle(m, hang, func(c *Call[Empty], _ *Empty) { calls <- c })
	l, r := rawLink(t, Config{Mux: m, Limits: Limits{Stall: timeout}})
	r.hello()
	r.send(callFrame(kindCall, 5, 0, hang.Name, &Empty{}))
	call := get(t, calls, "call")
	// Fill the socket, so that what follows is queued; then spoil it.
	n := 0
	for ; ; n++ {
		if err := Notify(l, tell, &addReq{Note: strings.Repeat("x", 1000)}); err != nil {
			t.Fatal(err)
		}
		l.wmu.Lock()
		waiting := len(l.queue)
		l.wmu.Unlock()
		if waiting > 0 {
			break
		}
	}
	fd := memfds(t, 1)[0]
	answer := make(chan error, 1)
	Go(l, open, &Empty{}, func(_ *Reply[Empty], err error) { answer <- err }, fd)
	if err := call.Reply(nil, fd); err != nil {
		t.Fatal(err)
	}
	l.wmu.Lock()
	for _, p := range l.queue {
		if len(p.files) > 0 {
			closeAll(p.files)
			p.files[0] = -1
		}
	}
	l.wmu.Unlock()
	for range n + 1 {
		if m := r.recv(); m == nil || m.kind != kindNotify {
			t.Fatalf("%+v", m)
		}
	}
	if m := r.recv(); m == nil || m.kind != kindError || m.id != 5 {
		t.Errorf("the refused reply: %+v", m)
	}
	if err := get(t, answer, "answer"); !errors.Is(err, core.ErrUsage) {
		t.Errorf("the refused call: %v", err)
	}
	if l.Err() != nil {
		t.Error(l.Err())
	}
}

func TestBlockingNotificationEndsWithTheLink(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	started := make(chan bool, 10)
	HandleBlocking(m, hang, func(ctx context.Context, _ *Link, _ *Empty) (*Empty, error) {
		started <- true
		<-ctx.Done()
		return nil, ctx.Err()
	})
	const limit = 3
	s, c := links(t, Config{Mux: m, Limits: Limits{Calls: limit}}, Config{})
	for range limit {
		if err := Notify(c, hang, &Empty{}); err != nil {
			t.Fatal(err)
		}
		get(t, started, "handler")
	}
	// One more cannot be refused in an answer, nor lost in silence.
	if err := Notify(c, hang, &Empty{}); err != nil {
		t.Fatal(err)
	}
	get(t, s.Done(), "end")
	get(t, c.Done(), "end")
	if !errors.Is(c.Err(), core.ErrLimit) {
		t.Error(c.Err())
	}
}

func TestLimitIsExact(t *testing.T) {
	// A caller that keeps as many calls under way as it may is never refused.
	noLeaks(t)
	const limit = 4
	_, c := links(t, Config{Mux: testMux(), Limits: Limits{Calls: limit}}, Config{})
	var wg sync.WaitGroup
	for range limit {
		wg.Go(func() {
			for i := range 500 {
				m := []Method[addReq, addResp]{add, addSlow}[i%2]
				if _, err := Do(background(t), c, m, &addReq{}, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
