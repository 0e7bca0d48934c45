package output

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFileWritesWholeLines has a reader that comes when the pipe is full, and
// has been for a while.
func TestFileWritesWholeLines(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// As stdout is: a descriptor that blocks.
	fd, err := unix.Dup(int(f.Fd()))
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	f = os.NewFile(uintptr(fd), "pipe")
	w := New(NewFile(f), Options{})
	line := append(bytes.Repeat([]byte("x"), 999), '\n')
	const lines = 300 // several times what a pipe holds
	full := make(chan error, 1)
	go func() {
		defer f.Close()
		defer w.Flush(nil)
		for range lines {
			if n, err := w.Write(line); n != len(line) || err != nil {
				full <- err
				return
			}
		}
		full <- nil
	}()
	for room(t, fd) {
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-full; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.Repeat(line, lines)) {
		t.Errorf("%d bytes arrived, or not these", len(got))
	}
	if w.to.(*File).never.Load() {
		t.Error("a pipe is one that says whether it would wait")
	}
}

// room reports whether a pipe takes more.
func room(t *testing.T, fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	if err != nil && err != unix.EINTR {
		t.Fatal(err)
	}
	return n > 0
}

func TestFileOnADisk(t *testing.T) {
	// In a file each line goes behind the last, also behind another's.
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	w := New(NewFile(f), Options{})
	var want strings.Builder
	for _, to := range []io.Writer{w, other, w, w, other, w} {
		if n, err := io.WriteString(to, "a line\n"); n != 7 || err != nil {
			t.Fatal(n, err)
		}
		want.WriteString("a line\n")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want.String() {
		t.Errorf("the file has %q, %v", got, err)
	}
	if n, err := w.Write(nil); n != 0 || err != nil {
		t.Error(n, err)
	}

	// Errors are those of os.File.
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := New(NewFile(p), Options{}).Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Error(err)
	}
	p.Close()
	if _, err := New(NewFile(p), Options{}).Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}
