package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
	"golang.org/x/sys/unix"

	"o7s/core"
)

type addReq struct {
	A, B int64
	Note string
}

type addResp struct {
	Sum  int64
	Note string
}

var (
	add     = Method[addReq, addResp]{Name: "test.add"}
	addSlow = Method[addReq, addResp]{Name: "test.add_blocking"}
	refuse  = Method[Empty, Empty]{Name: "test.refuse"}
	hang    = Method[Empty, Empty]{Name: "test.hang"}
	open    = Method[Empty, Empty]{Name: "test.open"}
	tell    = Method[addReq, Empty]{Name: "test.tell"}
	nowhere = Method[Empty, Empty]{Name: "test.nowhere"}

	addReqType = reflect.TypeFor[addReq]()
)

// timeout bounds whatever a test waits for; it passes only where a test fails.
const timeout = 20 * time.Second

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// get waits for a value of c.
func get[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(timeout):
		t.Fatalf("%s: timed out", what)
	}
	return v
}

// socketpair returns two connected conns that the test's end closes.
func socketpair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	b = c.(*net.UnixConn)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// newLink makes conn a link that the test's end closes and waits for.
func newLink(t testing.TB, conn *net.UnixConn, cfg Config) *Link {
	t.Helper()
	l, err := New(conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		get(t, l.Done(), "end of the link")
	})
	return l
}

// ends returns the two ends of a link to a server of m, for a process of a test:
// one end as Pair makes it, the other inherited. The caller closes both.
func ends(m *Mux) (server, client *Link, err error) {
	ours, theirs, err := Pair()
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	theirs.Close() // now, or a test that counts descriptors finds its place free
	if err != nil {
		return nil, nil, err
	}
	conn, err := Inherit(fd)
	if err != nil {
		return nil, nil, err
	}
	if server, err = New(ours, Config{Mux: m}); err != nil {
		return nil, nil, err
	}
	if client, err = New(conn, Config{}); err != nil {
		server.Close()
		return nil, nil, err
	}
	return server, client, nil
}

func links(t testing.TB, server, client Config) (s, c *Link) {
	t.Helper()
	a, b := socketpair(t)
	return newLink(t, a, server), newLink(t, b, client)
}

// raw is the other end of a link, driven by hand.
type raw struct {
	t    testing.TB
	conn *net.UnixConn
	more *[][]byte // messages of a packet that recv has not returned yet
}

func rawLink(t testing.TB, cfg Config) (*Link, raw) {
	t.Helper()
	a, b := socketpair(t)
	return newLink(t, a, cfg), raw{t, b, new([][]byte)}
}

func (r raw) send(b []byte, fds ...int) {
	r.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	r.conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, _, err := r.conn.WriteMsgUnix(b, oob, nil); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

func (r raw) hello() { r.t.Helper(); r.send(helloFrame(Version, 7)) }

func helloFrame(version, instance uint64) []byte {
	f := newFrame(kindHello)
	f.str(magic)
	f.uint(version)
	f.uint(instance)
	return append([]byte(nil), f.b...)
}

// severalFrame is one packet of messages.
func severalFrame(messages ...[]byte) []byte {
	b := []byte{msgpcode.FixedArrayLow | byte(1+len(messages)), kindSeveral}
	for _, m := range messages {
		b = append(append(b, msgpcode.Bin16, byte(len(m)>>8), byte(len(m))), m...)
	}
	return b
}

func callFrame(kind byte, id uint64, files int, method string, body any) []byte {
	f := newFrame(kind)
	f.uint(id)
	f.uint(uint64(files))
	if kind != kindReply {
		f.str(method)
	}
	if b, ok := body.([]byte); ok {
		f.b = append(f.b, b...)
	} else if err := f.body(body); err != nil {
		panic(err)
	}
	return append([]byte(nil), f.b...)
}

// parts returns the messages of a packet.
func parts(t testing.TB, packet []byte) (all [][]byte) {
	t.Helper()
	if len(packet) < 2 || packet[1] != kindSeveral {
		return [][]byte{packet}
	}
	if err := several(packet, func(b []byte) error { all = append(all, b); return nil }); err != nil {
		t.Fatalf("%x: %v", packet, err)
	}
	return all
}

// recv returns the next message that is no hello; nil is the end.
func (r raw) recv() *message {
	r.t.Helper()
	for {
		if len(*r.more) > 0 {
			m, err := parse((*r.more)[0])
			if err != nil {
				r.t.Fatalf("recv: %v", err)
			}
			*r.more = (*r.more)[1:]
			return &m
		}
		buf := make([]byte, MaxMessage+1)
		r.conn.SetReadDeadline(time.Now().Add(timeout))
		n, err := r.conn.Read(buf)
		switch {
		case errors.Is(err, unix.ECONNRESET):
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.t.Fatal("recv: timed out")
		case err != nil || n == 0:
			return nil
		}
		if n > 1 && buf[1] == kindHello {
			continue
		}
		*r.more = parts(r.t, buf[:n])
	}
}

func testMux() *Mux {
	m := NewMux()
	Handle(m, add, func(c *Call[addResp], req *addReq) {
		c.Reply(&addResp{Sum: req.A + req.B, Note: req.Note})
	})
	HandleBlocking(m, addSlow, func(ctx context.Context, l *Link, req *addReq) (*addResp, error) {
		return &addResp{Sum: req.A + req.B, Note: req.Note}, nil
	})
	Handle(m, refuse, func(c *Call[Empty], _ *Empty) {
		c.Fail(fmt.Errorf("bind process 42 to \"a\": %w", core.ErrName))
	})
	return m
}

func TestCallRoundTrip(t *testing.T) {
	s, c := links(t, Config{Mux: testMux(), Instance: 99}, Config{})
	ctx := background(t)
	for _, m := range []Method[addReq, addResp]{add, addSlow} {
		r, err := Do(ctx, c, m, &addReq{A: -5, B: 47, Note: "n"}, nil)
		if err != nil || r.Body != (addResp{42, "n"}) {
			t.Fatalf("%s: %+v, %v", m.Name, r, err)
		}
	}
	if c.Instance() != 99 || s.Instance() != 0 {
		t.Errorf("instances: %d, %d", c.Instance(), s.Instance())
	}
}

func TestErrorKeepsItsIdentityAndText(t *testing.T) {
	_, c := links(t, Config{Mux: testMux()}, Config{})
	_, err := Do(background(t), c, refuse, &Empty{}, nil)
	if !errors.Is(err, core.ErrName) || err.Error() != `bind process 42 to "a": unknown name` {
		t.Errorf("got %v", err)
	}
	_, err = Do(background(t), c, nowhere, &Empty{}, nil)
	if !errors.Is(err, core.ErrNotSupported) || !strings.Contains(err.Error(), "test.nowhere") {
		t.Errorf("unknown method: %v", err)
	}
	if c.Err() != nil {
		t.Errorf("the link ended: %v", c.Err())
	}
}
