package rpc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

func TestClientThatDoesNotReadStopsNobody(t *testing.T) {
	noLeaks(t)
	for _, tt := range []struct {
		name  string
		limit Limits
		text  string
	}{
		{"too much waits", Limits{Queue: 100 << 10, Stall: timeout}, "packets"},
		{"nothing is read for too long", Limits{Stall: 50 * time.Millisecond}, "nothing for 50ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, r := rawLink(t, Config{Limits: tt.limit})
			r.hello()
			if err := l.Handshake(background(t)); err != nil {
				t.Fatal(err)
			}
			note := strings.Repeat("x", 1000)
			start := time.Now()
			for range 300 { // more than the socket takes, less than fills 1 MiB
				if err := Notify(l, tell, &addReq{Note: note}); err != nil {
					break
				}
			}
			if d := time.Since(start); d > timeout/2 {
				t.Errorf("writing took %v", d)
			}
			get(t, l.Done(), "end")
			if !errors.Is(l.Err(), core.ErrLimit) || !strings.Contains(l.Err().Error(), tt.text) {
				t.Error(l.Err())
			}
		})
	}
}

// A link may have more patience than others; what may wait in it stays bounded.
func TestPatience(t *testing.T) {
	noLeaks(t)
	const stall = 50 * time.Millisecond
	l, r := rawLink(t, Config{Limits: Limits{Stall: stall}})
	r.hello()
	if err := l.Handshake(background(t)); err != nil {
		t.Fatal(err)
	}
	l.SetPatience(timeout)
	note := strings.Repeat("x", 1000)
	for range 600 { // more than the socket takes, less than fills 1 MiB
		if err := Notify(l, tell, &addReq{Note: note}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-l.Done():
		t.Fatalf("the link ends: %v", l.Err())
	case <-time.After(10 * stall):
	}
	for l.Err() == nil {
		_ = Notify(l, tell, &addReq{Note: note})
	}
	get(t, l.Done(), "end")
	if !errors.Is(l.Err(), core.ErrLimit) || !strings.Contains(l.Err().Error(), "packets") {
		t.Error(l.Err())
	}
}

func TestSlowReaderGetsEverythingInOrder(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Limits: Limits{Stall: timeout}})
	r.hello()
	const n = 900
	note := strings.Repeat("x", 1000)
	for i := range n { // far more than the socket takes
		if err := Notify(l, tell, &addReq{A: int64(i), Note: note}); err != nil {
			t.Fatal(err)
		}
	}
	l.wmu.Lock()
	waiting := len(l.queue)
	l.wmu.Unlock()
	if waiting == 0 {
		t.Fatal("nothing was queued: this tests nothing")
	}
	next := func(want int64) {
		t.Helper()
		m := r.recv()
		if m == nil {
			t.Fatalf("at %d: the link ended: %v", want, l.Err())
		}
		var req addReq
		if err := decode(m.body, &req); err != nil || req.A != want {
			t.Fatalf("got %d, want %d (%v)", req.A, want, err)
		}
	}
	for i := range int64(n) {
		next(i)
	}
	// And once the queue is empty, packets go straight out again.
	for i := range int64(10) {
		if err := Notify(l, tell, &addReq{A: i}); err != nil {
			t.Fatal(err)
		}
		next(i)
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

func TestReaderThatNeverFreesTheSocketIsNotStalled(t *testing.T) {
	// The kernel wakes a writer when most of the socket is free. One that
	// reads a packet now and then makes progress all the same.
	noLeaks(t)
	l, r := rawLink(t, Config{Limits: Limits{Stall: 500 * time.Millisecond}})
	r.hello()
	for i := range 300 {
		if err := Notify(l, tell, &addReq{A: int64(i), Note: strings.Repeat("x", 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(300) {
		if i < 12 {
			time.Sleep(60 * time.Millisecond) // slow is the thing under test
		}
		m := r.recv()
		if m == nil {
			t.Fatalf("at %d: %v", i, l.Err())
		}
	}
}

// budget is a Budget of so many descriptors.
type budget struct{ left, taken atomic.Int32 }

func (b *budget) Take(_ Peer, n int) error {
	if b.left.Add(-int32(n)) < 0 {
		b.left.Add(int32(n))
		return fmt.Errorf("%w: the budget is spent", core.ErrLimit)
	}
	b.taken.Add(int32(n))
	return nil
}

func (b *budget) Give(_ Peer, n int) { b.left.Add(int32(n)); b.taken.Add(-int32(n)) }

// A message whose descriptors are too many to wait is refused, no more; what waits is
// given back when it is read, or at the end of the link.
func TestWaitingDescriptorsAreBounded(t *testing.T) {
	noLeaks(t)
	for _, read := range []bool{true, false} {
		b := new(budget)
		b.left.Store(3)
		s := NewShares(2, 100)
		s.Files = b
		l, r := rawLink(t, Config{Shares: s, Limits: Limits{Stall: timeout}})
		r.hello()
		sent := 0
		for l.queued() == 0 {
			if err := Notify(l, tell, &addReq{Note: strings.Repeat("x", 1000)}); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		fd := int(null.Fd())
		for i := range 5 {
			if err := Notify(l, open, &Empty{}, fd); errors.Is(err, core.ErrLimit) != (i >= 3) || l.Err() != nil {
				t.Errorf("message %d with a descriptor: %v, the link %v", i, err, l.Err())
			}
		}
		if n := b.taken.Load(); n != 3 {
			t.Errorf("%d descriptors are counted", n)
		}
		if read {
			for range sent + 3 {
				if r.recv() == nil {
					t.Fatal(l.Err())
				}
			}
			for deadline := time.Now().Add(timeout); b.taken.Load() > 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
		}
		l.Close()
		get(t, l.Done(), "end")
		if n := b.taken.Load(); n != 0 {
			t.Errorf("read %v: %d descriptors are counted at the end", read, n)
		}
	}
}

// queued returns how many packets wait.
func (l *Link) queued() int {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	return len(l.queue)
}

func TestQueueOwnsItsDescriptors(t *testing.T) {
	// The sender closes its own as soon as the call returns.
	noLeaks(t)
	l, r := rawLink(t, Config{Limits: Limits{Stall: timeout}})
	r.hello()
	for i := range 230 {
		if err := Notify(l, tell, &addReq{A: int64(i), Note: strings.Repeat("x", 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	if err := Notify(l, open, &Empty{}, int(pw.Fd())); err != nil {
		t.Fatal(err)
	}
	l.wmu.Lock()
	files := l.qfiles
	l.wmu.Unlock()
	if files != 1 {
		t.Fatalf("%d descriptors queued, want 1", files)
	}
	pw.Close()
	for range 230 {
		if r.recv() == nil {
			t.Fatal(l.Err())
		}
	}
	buf, oob := make([]byte, 100), make([]byte, 100)
	_, oobn, _, _, err := r.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		t.Fatal(msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	unix.Write(fds[0], []byte("hi"))
	closeAll(fds)
	if b, err := io.ReadAll(pr); string(b) != "hi" || err != nil {
		t.Error(b, err)
	}
}

func TestQueuedDescriptorsAreBoundedAndClosed(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Limits: Limits{Stall: timeout}})
	r.hello()
	fds := memfds(t, MaxFiles)
	var err error
	for range 2000 {
		if err = Notify(l, open, &Empty{}, fds...); err != nil {
			break
		}
	}
	if !errors.Is(err, core.ErrLimit) {
		t.Fatal(err)
	}
	get(t, l.Done(), "end")
}

func TestTwoReadersThatWriteToFullLinksDoNotDeadlock(t *testing.T) {
	// Both answer each call inline with ten notifications that the other one
	// reads only when it is not busy writing its own.
	noLeaks(t)
	const calls, each = 60, 50
	var mu sync.Mutex
	got := make(map[*Link]int)
	all := make(chan bool, 2)
	mux := func() *Mux {
		m := NewMux()
		Handle(m, hang, func(c *Call[Empty], _ *Empty) {
			for range each {
				if err := Notify(c.Link(), tell, &addReq{Note: strings.Repeat("x", 500)}); err != nil {
					t.Error(err)
				}
			}
			c.Reply(nil)
		})
		Handle(m, tell, func(c *Call[Empty], _ *addReq) {
			mu.Lock()
			defer mu.Unlock()
			if got[c.Link()]++; got[c.Link()] == calls*each {
				all <- true
			}
		})
		return m
	}
	answers := make(chan error, 2*calls)
	lim := Limits{Calls: calls, Queue: 16 << 20, Stall: timeout}
	a, b := links(t, Config{Mux: mux(), Limits: lim}, Config{Mux: mux(), Limits: lim})
	for range calls {
		for _, l := range []*Link{a, b} {
			Go(l, hang, &Empty{}, func(_ *Reply[Empty], err error) {
				answers <- err
			})
		}
	}
	for range 2 * calls {
		if err := get(t, answers, "answer"); err != nil {
			t.Error(err)
		}
	}
	get(t, all, "one side")
	get(t, all, "the other side")
}

func TestTooManyDescriptorsInFlightRefusesThatCallAlone(t *testing.T) {
	// The kernel counts for each user, and not root: in a process of its own.
	noLeaks(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"=toomanyrefs")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61234, Gid: 61234}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func childTooManyRefs() error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 200, Max: 200}); err != nil {
		return err
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	full, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	fill := func() error {
		for range 200 {
			err := unix.Sendmsg(full[0], []byte("x"), unix.UnixRights(null, null), nil, unix.MSG_DONTWAIT)
			if err == unix.ETOOMANYREFS {
				return nil
			} else if err != nil {
				return err
			}
		}
		return errors.New("no ETOOMANYREFS: this tests nothing")
	}
	drain := func() {
		for unix.Shutdown(full[0], unix.SHUT_WR) == nil {
			oob := make([]byte, 64)
			_, n, _, _, err := unix.Recvmsg(full[1], make([]byte, 1), oob, unix.MSG_DONTWAIT)
			if err != nil || n == 0 {
				return
			}
			msgs, _ := unix.ParseSocketControlMessage(oob[:n])
			fds, _ := unix.ParseUnixRights(&msgs[0])
			closeAll(fds)
		}
	}

	m := NewMux()
	replied := make(chan error, 1)
	Handle(m, open, func(c *Call[Empty], _ *Empty) { replied <- c.Reply(nil, null) })
	s, c, err := ends(m)
	if err != nil {
		return err
	}
	defer s.Close()
	defer c.Close()
	var t testing.T
	ctx := background(&t)
	if err := fill(); err != nil {
		return err
	}
	if _, err := Do(ctx, c, open, &Empty{}, nil, null); !errors.Is(err, core.ErrLimit) || !errors.Is(err, unix.ETOOMANYREFS) {
		return fmt.Errorf("request: %v", err)
	}
	if _, err := Do(ctx, c, open, &Empty{}, nil); !errors.Is(err, core.ErrLimit) {
		return fmt.Errorf("reply, seen by the caller: %v", err)
	}
	if err := <-replied; !errors.Is(err, core.ErrLimit) {
		return fmt.Errorf("reply, seen by the handler: %v", err)
	}
	drain()
	r, err := Do(ctx, c, open, &Empty{}, nil, null)
	if err != nil {
		return fmt.Errorf("afterwards: %v", err)
	}
	if n := len(r.TakeFiles()); n != 1 {
		return fmt.Errorf("%d descriptors", n)
	}
	return nil
}
