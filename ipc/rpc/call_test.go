package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"o7s/core"
)

// abandoned makes a call that its caller gives up once it has arrived, and
// returns it, canceled.
func abandoned(t *testing.T, late func(*Reply[Empty])) *Call[Empty] {
	t.Helper()
	ctx, cancel := context.WithCancel(background(t))
	defer cancel()
	canceled := make(chan *Call[Empty], 1)
	m := NewMux()
	Handle(m, hang, func(c *Call[Empty], _ *Empty) {
		c.OnCancel(func() { canceled <- c })
		cancel()
	})
	_, c := links(t, Config{Mux: m}, Config{})
	if _, err := Do(ctx, c, hang, &Empty{}, late); err != core.ErrCanceled {
		t.Fatal(err)
	}
	// It has returned, though nobody has answered.
	return get(t, canceled, "OnCancel")
}

func TestLateReplyIsSeen(t *testing.T) {
	noLeaks(t)
	late := make(chan []int, 1)
	call := abandoned(t, func(r *Reply[Empty]) { late <- r.TakeFiles() })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := call.Reply(nil, int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	closeAll(get(t, late, "late reply"))
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the late reply's descriptor: %v", err)
	}
}

func TestLateReplyThatNobodyWantsIsClosed(t *testing.T) {
	noLeaks(t)
	for name, late := range map[string]func(*Reply[Empty]){"not seen": nil, "not taken": func(*Reply[Empty]) {}} {
		t.Run(name, func(t *testing.T) {
			call := abandoned(t, late)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			call.Reply(nil, int(w.Fd()))
			w.Close()
			if _, err := r.Read(make([]byte, 1)); err != io.EOF { // waits for the close
				t.Error(err)
			}
		})
	}
}

func TestDoHeedsItsContext(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	Handle(m, hang, func(c *Call[Empty], _ *Empty) { c.OnCancel(func() { c.Fail(core.ErrCanceled) }) })
	_, c := links(t, Config{Mux: m}, Config{})
	canceled, cancel := context.WithCancel(background(t))
	cancel()
	for _, tt := range []struct {
		after time.Duration
		want  core.Errno
	}{{0, core.ErrTimeout}, {time.Millisecond, core.ErrTimeout}, {timeout, core.ErrCanceled}} {
		ctx, cancel := context.WithTimeout(canceled, tt.after)
		if tt.want == core.ErrTimeout {
			ctx, cancel = context.WithTimeout(background(t), tt.after)
		}
		defer cancel()
		if _, err := Do(ctx, c, hang, &Empty{}, nil); err != tt.want {
			t.Errorf("%v: %v", tt.after, err)
		}
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func TestBlockingHandlerIsCanceled(t *testing.T) {
	noLeaks(t)
	for _, by := range []string{"the caller", "the end of the link"} {
		t.Run(by, func(t *testing.T) {
			m := NewMux()
			started, ended := make(chan bool, 1), make(chan error, 1)
			HandleBlocking(m, hang, func(ctx context.Context, _ *Link, _ *Empty) (*Empty, error) {
				started <- true
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			})
			_, c := links(t, Config{Mux: m}, Config{})
			answer := make(chan error, 1)
			p := Go(c, hang, &Empty{}, func(_ *Reply[Empty], err error) { answer <- err })
			get(t, started, "handler")
			want := core.ErrCanceled
			if by == "the caller" {
				p.Cancel()
			} else {
				c.Close()
				want = core.ErrClosed
			}
			if err := get(t, ended, "handler's end"); err != context.Canceled {
				t.Error(err)
			}
			if err := get(t, answer, "answer"); err != want {
				t.Errorf("answer %v, want %v", err, want)
			}
			p.Cancel() // harmless
		})
	}
}

func TestSecondAnswerIsIgnored(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	Handle(m, add, func(c *Call[addResp], req *addReq) {
		c.Reply(&addResp{Sum: 1})
		c.Reply(&addResp{Sum: 2})
		c.Fail(core.ErrState)
		c.OnCancel(func() { t.Error("canceled after the answer") })
	})
	_, c := links(t, Config{Mux: m}, Config{})
	for range 3 {
		r, err := Do(background(t), c, add, &addReq{}, nil)
		if err != nil || r.Body.Sum != 1 {
			t.Fatal(r, err)
		}
	}
}

func TestOnCancelAfterTheCancelIsCalledAtOnce(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	calls := make(chan *Call[Empty], 1)
	Handle(m, hang, func(c *Call[Empty], _ *Empty) { calls <- c })
	s, c := links(t, Config{Mux: m}, Config{})
	Go(c, hang, &Empty{}, func(*Reply[Empty], error) {})
	call := get(t, calls, "call")
	c.Close()
	get(t, s.Done(), "end")
	called := false
	call.OnCancel(func() { called = true })
	if !called {
		t.Error("not called")
	}
	if err := call.Reply(nil); !errors.Is(err, core.ErrIRMd) || !errors.Is(err, io.EOF) {
		t.Errorf("Reply on a dead link: %v", err)
	}
}

func TestUnansweredCallsAreBounded(t *testing.T) {
	noLeaks(t)
	for _, blocking := range []bool{false, true} {
		t.Run(fmt.Sprint("blocking ", blocking), func(t *testing.T) {
			m := NewMux()
			const limit = 5
			calls := make(chan *Call[Empty], 100)
			release := make(chan struct{})
			if blocking {
				HandleBlocking(m, hang, func(context.Context, *Link, *Empty) (*Empty, error) {
					<-release
					return nil, nil
				})
			} else {
				Handle(m, hang, func(c *Call[Empty], _ *Empty) { calls <- c })
			}
			_, c := links(t, Config{Mux: m, Limits: Limits{Calls: limit}}, Config{})
			answers := make(chan error, 100)
			for range 12 {
				Go(c, hang, &Empty{}, func(_ *Reply[Empty], err error) { answers <- err })
			}
			for range 12 - limit {
				if err := get(t, answers, "refusal"); !errors.Is(err, core.ErrLimit) {
					t.Fatalf("got %v", err)
				}
			}
			close(release)
			for range limit {
				if !blocking {
					get(t, calls, "call").Reply(nil)
				}
				if err := get(t, answers, "answer"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestNotifications(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	got := make(chan int64, 100)
	Handle(m, tell, func(c *Call[Empty], req *addReq) {
		if err := c.Reply(nil); err != nil {
			t.Error(err)
		}
		c.Fail(core.ErrState)
		got <- req.A
	})
	s, c := links(t, Config{Mux: m}, Config{})
	for i := range int64(50) {
		if err := Notify(c, tell, &addReq{A: i}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(50) {
		if a := get(t, got, "notification"); a != i {
			t.Fatalf("got %d, want %d", a, i)
		}
	}
	// One that nobody handles is not lost in silence.
	if err := Notify(c, nowhere, &Empty{}); err != nil {
		t.Fatal(err)
	}
	get(t, c.Done(), "end")
	if err := c.Err(); !errors.Is(err, core.ErrNotSupported) || !strings.Contains(err.Error(), "test.nowhere") {
		t.Errorf("got %v", err)
	}
	get(t, s.Done(), "end")
	if err := Notify(c, tell, &addReq{}); !errors.Is(err, core.ErrIRMd) {
		t.Errorf("on a dead link: %v", err)
	}
}

func TestMessageTooLargeRefusesThatCallAlone(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	Handle(m, add, func(c *Call[addResp], req *addReq) {
		err := c.Reply(&addResp{Note: strings.Repeat("x", int(req.A))})
		if tooLarge := req.A > MaxMessage; errors.Is(err, core.ErrMessage) != tooLarge {
			t.Errorf("Reply: %v", err)
		}
	})
	_, c := links(t, Config{Mux: m}, Config{})
	if _, err := Do(background(t), c, add, &addReq{Note: strings.Repeat("x", MaxMessage)}, nil); !errors.Is(err, core.ErrMessage) {
		t.Errorf("large request: %v", err)
	}
	if _, err := Do(background(t), c, add, &addReq{A: MaxMessage + 1}, nil); !errors.Is(err, core.ErrMessage) {
		t.Errorf("large reply: %v", err)
	}
	if r, err := Do(background(t), c, add, &addReq{A: 60000, Note: strings.Repeat("y", 60000)}, nil); err != nil || len(r.Body.Note) != 60000 {
		t.Errorf("almost large: %v", err)
	}
	// The largest packet of all arrives.
	n := MaxMessage - len(callFrame(kindCall, 1, 0, add.Name, &addReq{})) - 4
	found := false
	for ; ; n++ {
		_, err := Do(background(t), c, add, &addReq{Note: strings.Repeat("z", n)}, nil)
		if err != nil {
			if !errors.Is(err, core.ErrMessage) || !found {
				t.Errorf("at %d: %v", n, err)
			}
			break
		}
		found = true
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
}

func TestEitherSideCalls(t *testing.T) {
	noLeaks(t)
	// The server answers a call only after it has called the client back:
	// inline handlers on both sides, by continuation.
	m := NewMux()
	Handle(m, add, func(c *Call[addResp], req *addReq) {
		Go(c.Link(), addSlow, req, func(r *Reply[addResp], err error) {
			if err != nil {
				c.Fail(err)
				return
			}
			c.Reply(&r.Body)
		})
	})
	_, c := links(t, Config{Mux: m}, Config{Mux: testMux()})
	r, err := Do(background(t), c, add, &addReq{A: 1, B: 2}, nil)
	if err != nil || r.Body.Sum != 3 {
		t.Fatal(r, err)
	}
}
