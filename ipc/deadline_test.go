package ipc_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"o7s/ipc"
)

// timedOut checks that err is what net.Conn says of deadlines.
func timedOut(t *testing.T, what string, err error) {
	t.Helper()
	fails(t, what, err, os.ErrDeadlineExceeded)
	fails(t, what, err, context.DeadlineExceeded)
	if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
		t.Errorf("%s: %v is no time-out of package net", what, err)
	}
}

func testPastDeadline(t *testing.T, a, b *ipc.Conn) {
	must(t, a.WritePacket([]byte("waits")))
	p := make([]byte, 10)
	for _, past := range []time.Time{time.Now(), time.Now().Add(-time.Hour), time.Unix(1, 0)} {
		must(t, a.SetDeadline(past))
		must(t, b.SetDeadline(past))
		_, err := b.Read(p) // though a packet is there
		timedOut(t, "Read", err)
		_, err = b.ReadPacket(p)
		timedOut(t, "ReadPacket", err)
		_, err = a.Write(p)
		timedOut(t, "Write", err)
		timedOut(t, "WritePacket", a.WritePacket(p))
	}
	must(t, a.SetDeadline(time.Time{}))
	must(t, b.SetDeadline(time.Now().Add(patience)))
	if n, err := b.Read(p); string(p[:n]) != "waits" {
		t.Errorf("the packet is %q, %v", p[:n], err)
	}
}

func testDeadlineWakes(t *testing.T, a, b *ipc.Conn) {
	const after = 20 * time.Millisecond
	for what, f := range map[string]func() error{
		"Read":  func() error { _, err := a.Read(make([]byte, 1)); return err },
		"Write": func() error { _, err := a.Write(tooMuch()); return err },
	} {
		begin := time.Now()
		must(t, a.SetDeadline(begin.Add(after)))
		timedOut(t, what, result(t, what, async(f)))
		if d := time.Since(begin); d < after {
			t.Errorf("%s returned after %v, before its deadline", what, d)
		}
	}
}

func testDeadlineMoves(t *testing.T, a, b *ipc.Conn) {
	for what, f := range map[string]func() error{
		"Read":  func() error { _, err := a.Read(make([]byte, 1)); return err },
		"Write": func() error { _, err := a.Write(tooMuch()); return err },
	} {
		must(t, a.SetDeadline(time.Time{}))
		blocked := async(f)
		settle()
		must(t, a.SetDeadline(time.Now().Add(time.Hour)))
		settle()
		must(t, a.SetDeadline(time.Now().Add(-time.Hour)))
		timedOut(t, what, result(t, what, blocked))
	}
}

func testNoDeadline(t *testing.T, a, b *ipc.Conn) {
	must(t, b.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	p := make([]byte, 10)
	blocked := async(func() error { _, err := b.Read(p); return err })
	must(t, b.SetReadDeadline(time.Time{}))
	time.Sleep(60 * time.Millisecond) // the deadline that was
	must(t, a.WritePacket([]byte("x")))
	must(t, result(t, "read", blocked))
}

func testTwoDeadlines(t *testing.T, a, b *ipc.Conn) {
	must(t, a.SetReadDeadline(time.Now()))
	_, err := a.Read(make([]byte, 1))
	timedOut(t, "Read", err)
	must(t, a.WritePacket([]byte("x")))
	must(t, b.SetWriteDeadline(time.Now()))
	timedOut(t, "WritePacket", b.WritePacket([]byte("x")))
	if _, err := b.Read(make([]byte, 1)); err != nil {
		t.Errorf("Read: %v", err)
	}
}

func testDeadlineClosed(t *testing.T, a, b *ipc.Conn) {
	must(t, a.Close())
	for what, set := range map[string]func(time.Time) error{
		"SetDeadline": a.SetDeadline, "SetReadDeadline": a.SetReadDeadline, "SetWriteDeadline": a.SetWriteDeadline,
	} {
		fails(t, what, set(time.Now()), net.ErrClosed)
	}
}
