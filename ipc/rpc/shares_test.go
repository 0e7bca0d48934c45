package rpc

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"o7s/core"
)

// linkOf returns a link to a user of that uid, and the user's end.
func linkOf(t *testing.T, uid int, m *Mux, s *Shares) (server, client *Link) {
	t.Helper()
	return links(t, Config{Mux: m, Shares: s, Peer: &Peer{UID: uid}}, Config{})
}

// Calls in turn: one of each user at a time, whatever the number of links, and
// another user's does not wait for them.
func TestUsersTakeTurns(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	var running [3]atomic.Int32
	entered, release := make(chan int, 100), make(chan struct{})
	HandleInTurn(m, add, func(_ context.Context, l *Link, _ *addReq) (*addResp, error) {
		uid := l.Peer().UID
		if n := running[uid].Add(1); n > 1 {
			t.Errorf("%d calls of uid %d run at a time", n, uid)
		}
		defer running[uid].Add(-1)
		entered <- uid
		<-release
		return nil, nil
	})
	s := NewShares(2, 100)
	const calls = 10
	done := make(chan error, 3*calls)
	for _, uid := range []int{1, 1, 2} {
		_, c := linkOf(t, uid, m, s)
		for range calls {
			Go(c, add, &addReq{}, func(_ *Reply[addResp], err error) { done <- err })
		}
	}
	var turns [3]int
	for range 2 { // one of each user, at once
		turns[get(t, entered, "turn")]++
	}
	if turns != [3]int{0, 1, 1} {
		t.Errorf("the first turns are %v, want one of each user", turns)
	}
	close(release)
	for range cap(done) {
		if err := get(t, done, "answer"); err != nil {
			t.Error(err)
		}
	}
}

// The calls of a user that are under way are bounded over all links. A user
// without links is forgotten.
func TestCallsOfAUserAreBounded(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	entered := make(chan struct{}, 10)
	HandleBlocking(m, add, func(ctx context.Context, _ *Link, _ *addReq) (*addResp, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, nil
	})
	s := NewShares(2, 4)
	ctx, cancel := context.WithCancel(background(t))
	defer cancel()
	var all []*Link
	call := func(uid int) <-chan error {
		server, c := linkOf(t, uid, m, s)
		all = append(all, server, c)
		got := make(chan error, 1)
		go func() { _, err := Do(ctx, c, add, &addReq{}, nil); got <- err }()
		return got
	}
	for range 4 {
		call(7)
		get(t, entered, "call")
	}
	if err := get(t, call(7), "refusal"); !errors.Is(err, core.ErrLimit) || !strings.Contains(err.Error(), "4 calls of uid 7") {
		t.Errorf("one call more: %v", err)
	}
	call(8)
	get(t, entered, "another user's call")
	cancel()
	for _, l := range all {
		l.Close()
		get(t, l.Done(), "end")
	}
	if len(s.users) > 0 {
		t.Errorf("%d users are remembered", len(s.users))
	}
}

// A call that waits for its turn when its link ends is not run.
func TestTurnOfAClosedLinkIsDropped(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	entered, release := make(chan struct{}, 100), make(chan struct{})
	HandleInTurn(m, add, func(context.Context, *Link, *addReq) (*addResp, error) {
		entered <- struct{}{}
		<-release
		return nil, nil
	})
	server, c := linkOf(t, 1, m, NewShares(2, 100))
	for range 50 {
		Go(c, add, &addReq{}, func(*Reply[addResp], error) {})
	}
	get(t, entered, "the first turn")
	c.Close()
	for server.Err() == nil {
		runtime.Gosched()
	}
	close(release)
	get(t, server.Done(), "end")
	if n := len(entered); n > 0 {
		t.Errorf("%d calls of a closed link are run", n)
	}
}

// Calls that wait in the socket of a peer that has closed are dropped; what is
// no call counts.
func TestCallsOfAClosedPeerAreDropped(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	var calls, notes atomic.Int32
	Handle(m, add, func(c *Call[addResp], _ *addReq) { calls.Add(1); c.Reply(nil) })
	Handle(m, tell, func(*Call[Empty], *addReq) { notes.Add(1) })
	a, b := socketpair(t)
	r := raw{t, b, new([][]byte)}
	r.hello()
	const sent = 100
	for i := range sent {
		r.send(callFrame(kindCall, uint64(i+1), 0, add.Name, &addReq{}))
		r.send(callFrame(kindNotify, 0, 0, tell.Name, &addReq{}))
	}
	b.Close()
	l := newLink(t, a, Config{Mux: m})
	get(t, l.Done(), "end")
	if l.Err() != io.EOF {
		t.Errorf("the link ended with %v", l.Err())
	}
	if calls.Load() > staleCheck || notes.Load() != sent {
		t.Errorf("%d calls and %d of %d notifications of a closed peer are handled", calls.Load(), notes.Load(), sent)
	}
}

// A notification that is encoded once says what Notify says, to each link.
func TestNotificationForMany(t *testing.T) {
	noLeaks(t)
	n, err := NewNotification(tell, &addReq{A: 1, Note: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l, r := rawLink(t, Config{})
		if err := errors.Join(l.Notify(n), Notify(l, tell, &addReq{A: 1, Note: "x"})); err != nil {
			t.Fatal(err)
		}
		first, second := r.recv(), r.recv()
		if first == nil || second == nil || first.kind != kindNotify || string(first.method) != tell.Name || string(first.body) != string(second.body) {
			t.Errorf("got %+v, then %+v", first, second)
		}
		l.Close()
		if err := l.Notify(n); !errors.Is(err, core.ErrClosed) {
			t.Errorf("notify by a closed link: %v", err)
		}
	}
	if _, err := NewNotification(tell, &addReq{Note: strings.Repeat("x", MaxMessage)}); !errors.Is(err, core.ErrMessage) {
		t.Errorf("a notification that is too large: %v", err)
	}
}
