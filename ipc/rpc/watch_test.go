package rpc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// childConnect connects to a socket in the directory childDir, and passes the
// connection to its parent by descriptor 3.
func childConnect() error {
	conn, err := Dial(context.Background(), os.Getenv(childDir), "s")
	if err != nil {
		return err
	}
	f, err := conn.File()
	if err != nil {
		return err
	}
	to, err := Inherit(3)
	if err != nil {
		return err
	}
	if _, _, err := to.WriteMsgUnix([]byte("x"), unix.UnixRights(int(f.Fd())), nil); err != nil {
		return err
	}
	_, _ = to.Read(make([]byte, 1)) // until the parent lets it go
	return nil
}

// passedLink returns a link whose peer is a child, the child's end, which this
// process holds too, and what ends the child.
func passedLink(t *testing.T, cfg Config) (l *Link, theirs *net.UnixConn, end func()) {
	t.Helper()
	dir := t.TempDir()
	ln, err := Listen(dir, "s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	t.Setenv(childDir, dir)
	ours, childs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "connect", childs, nil)
	childs.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	if _, _, _, _, err := ours.ReadMsgUnix(make([]byte, 1), oob); err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = connOf(fds[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	conn, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	return newLink(t, conn, cfg), theirs, func() {
		ours.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// A link that is watched ends with the process that made its connection, also
// where another process still holds the socket. One that is not goes on.
func TestLinkEndsWithItsPeer(t *testing.T) {
	noLeaks(t)
	w, err := WatchPeers()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	watched, theirs, end := passedLink(t, Config{Watch: w})
	other, _, endOther := passedLink(t, Config{})
	for _, l := range []*Link{watched, other} {
		if p := l.Peer(); !p.Alive() || p.PID == os.Getpid() || l.PeerClosed() {
			t.Errorf("peer %+v, alive %v, closed %v", p, p.Alive(), l.PeerClosed())
		}
	}
	r := raw{t, theirs, new([][]byte)}
	r.hello()
	end()
	endOther()
	get(t, watched.Done(), "end")
	if err := watched.Err(); !errors.Is(err, core.ErrClosed) {
		t.Errorf("the link ended with %v", err)
	}
	if m := r.recv(); m == nil || m.kind != kindBye || m.code != core.ErrClosed {
		t.Errorf("the end is told by %+v", m)
	}
	if other.Peer().Alive() || other.Err() != nil || other.PeerClosed() {
		t.Errorf("the other peer is alive: %v; its link: %v", other.Peer().Alive(), other.Err())
	}
	// One that had ended before the link was made.
	late, _, endLate := passedLink(t, Config{})
	endLate()
	w.add(late)
	get(t, late.Done(), "end")
}

// What a peer that ends has sent is read, and no reason is given: its end is the
// connection's.
func TestPeerThatClosesIsReadToTheEnd(t *testing.T) {
	noLeaks(t)
	w, err := WatchPeers()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 5 {
		m := testMux()
		got := make(chan int64, 20)
		Handle(m, tell, func(_ *Call[Empty], req *addReq) { got <- req.A })
		l, theirs, end := passedLink(t, Config{Mux: m, Watch: w})
		r := raw{t, theirs, new([][]byte)}
		r.hello()
		for range cap(got) {
			r.send(callFrame(kindNotify, 0, 0, tell.Name, &addReq{A: 1}))
		}
		theirs.Close()
		end()
		get(t, l.Done(), "end")
		if len(got) != cap(got) {
			t.Fatalf("%d of %d messages were read; the link ended with %v", len(got), cap(got), l.Err())
		}
	}
}

func TestOverflowID(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	all := file("all", "         0          0 4294967295\n")
	some := file("some", "         0     100000      65536\n")
	for _, tt := range []struct {
		name, ids, overflow string
		want                int
	}{
		{"all ids", all, file("a", "65534\n"), NoID},
		{"some ids", some, file("b", "99\n"), 99},
		{"several ranges", file("two", "0 0 1\n1 1 4294967294\n"), file("c", "65534\n"), 65534},
		{"no map", filepath.Join(dir, "none"), file("d", "65534\n"), 65534},
		{"no overflow id", some, filepath.Join(dir, "none"), 65534},
	} {
		if got := overflowID(tt.ids, tt.overflow); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
