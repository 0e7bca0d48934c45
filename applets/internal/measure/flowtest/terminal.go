package flowtest

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Streams returns, by "terminal", "pipe" and "file", what a program's stderr may
// be. Each has a function, to be called once, that closes it and returns what was
// written to it, which must be less than a page. A system that gives no terminal
// skips the test.
func Streams(t testing.TB) map[string]Stream {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Stream{"terminal": terminal(t), "pipe": {w, r}, "file": {f, again}}
}

// Stream is one of Streams.
type Stream struct {
	*os.File
	r *os.File
}

// Written closes s and returns what was written to it.
func (s Stream) Written() string {
	s.Close()
	defer s.r.Close()
	b, _ := io.ReadAll(s.r) // a terminal without a program ends with EIO
	return string(b)
}

func terminal(t testing.TB) Stream {
	t.Helper()
	// Not in Go's poller: to read waits for nothing, since all is written.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no terminal: %v", err)
	}
	r := os.NewFile(uintptr(fd), "/dev/ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	var w *os.File
	if err == nil {
		w, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		r.Close()
		t.Skipf("no terminal: %v", err)
	}
	return Stream{w, r}
}
