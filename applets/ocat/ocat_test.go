package ocat

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"o7s/core"
)

func TestParseSocket(t *testing.T) {
	for text, want := range map[string]string{
		"tcp:127.0.0.1:80": "tcp:127.0.0.1:80", "tcp:[::1]:80": "tcp:[::1]:80", "unix:/run/x": "unix:/run/x", "unix:a:b": "unix:a:b",
		"": "", "tcp": "", "tcp:": "", "udp:1": "", "/run/x": "",
	} {
		s, err := parseSocket(text)
		if (err == nil) != (want != "") || err == nil && s.String() != want {
			t.Errorf("%q is %v, %v; want %q", text, s, err, want)
		}
	}
}

func TestLines(t *testing.T) {
	longest := strings.Repeat("x", core.MaxPacket)
	tests := []struct {
		in   string
		want []string
		err  error
	}{
		{"", nil, io.EOF},
		{"\n\n", nil, io.EOF},
		{"a\n\nb", []string{"a", "b"}, io.EOF},
		{longest + "\n", []string{longest}, io.EOF},
		{"a\n" + longest + "x\nb\n", []string{"a"}, errLongLine},
	}
	for _, tt := range tests {
		l := newLines(strings.NewReader(tt.in))
		var got []string
		var err error
		for {
			var line []byte
			if line, err = l.next(); err != nil {
				break
			}
			got = append(got, string(line))
		}
		if strings.Join(got, "|") != strings.Join(tt.want, "|") || !errors.Is(err, tt.err) {
			t.Errorf("%.10q: %d lines, %v; want %d, %v", tt.in, len(got), err, len(tt.want), tt.err)
		}
	}
}

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (stream, stream) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(stream), b.(stream)
}

// The end of one direction is passed on, and the other direction goes on.
func TestJoinKeepsHalfOpen(t *testing.T) {
	a, b := pair(t)
	c, d := pair(t)
	joined := make(chan error, 1)
	go func() { joined <- join(b, c) }()
	if _, err := a.Write([]byte("there")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(d); string(got) != "there" || err != nil {
		t.Fatalf("%q, %v came", got, err)
	}
	if _, err := d.Write([]byte("and back")); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if got, err := io.ReadAll(a); string(got) != "and back" || err != nil {
		t.Fatalf("%q, %v came back", got, err)
	}
	if err := <-joined; err != nil {
		t.Error(err)
	}
}

// A side that breaks ends the other one.
func TestJoinEndsBoth(t *testing.T) {
	a, b := pair(t)
	c, d := pair(t)
	joined := make(chan error, 1)
	go func() { joined <- join(b, c) }()
	if err := d.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	d.Close() // a reset
	if _, err := io.ReadAll(a); err != nil && !errors.Is(err, io.EOF) {
		t.Logf("the other side reads %v", err)
	}
	if err := <-joined; err == nil {
		t.Error("a reset is no error")
	}
}
