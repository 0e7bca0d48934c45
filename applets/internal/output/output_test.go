package output

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// valve is a Destination whose reader reads while it is open.
type valve struct {
	mu   sync.Mutex
	cond *sync.Cond
	open bool
	err  error
	text []byte
}

func newValve() *valve {
	v := &valve{}
	v.cond = sync.NewCond(&v.mu)
	return v
}

func (v *valve) set(open bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open, v.err = open, err
	v.cond.Broadcast()
}

func (v *valve) Try(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.open || v.err != nil {
		return 0, v.err
	}
	v.text = append(v.text, b...)
	return len(b), nil
}

func (v *valve) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for !v.open {
		v.cond.Wait()
	}
	if v.err != nil {
		return 0, v.err
	}
	v.text = append(v.text, b...)
	return len(b), nil
}

func (v *valve) string() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return string(v.text)
}

func notice(n uint64) []byte { return fmt.Appendf(nil, "%d lines lost\n", n) }

func service(v *valve) *Writer {
	w := New(v, Options{})
	w.Service(notice)
	return w
}

func line(i int) string { return fmt.Sprintf("%07d %s\n", i, strings.Repeat("x", 991)) }

// A service whose reader does not read goes on. What memory holds is written
// later, in order, and the rest is counted at its place.
func TestServiceGoesOnWithoutItsReader(t *testing.T) {
	v := newValve()
	w := service(v)
	start := time.Now()
	const all = 5000 // 5 MB
	for i := range all {
		if n, err := io.WriteString(w, line(i)); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if took := time.Since(start); took > maxPatience+5*time.Second {
		t.Errorf("it was held up for %v", took)
	}
	v.set(true, nil)
	w.Flush(nil)
	for i := all; i < all+10; i++ {
		io.WriteString(w, line(i))
	}
	w.Flush(nil)
	got := strings.SplitAfter(v.string(), "\n")
	var want []string
	kept := maxWaiting / 1000
	for i := range kept {
		want = append(want, line(i))
	}
	want = append(want, fmt.Sprintf("%d lines lost\n", all-kept))
	for i := all; i < all+10; i++ {
		want = append(want, line(i))
	}
	if strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("got %d lines, want %d: the first %.7s, then %q", len(got), len(want), got[0], got[len(got)-13:])
	}
}

// What follows the lost lines comes after the notice, also where the notice
// can be written only then.
func TestNoticeStandsWhereTheLinesWould(t *testing.T) {
	v := newValve()
	w := service(v)
	big := strings.Repeat("b", maxWaiting-1) + "\n"
	io.WriteString(w, big)
	io.WriteString(w, "lost\nlost\n")
	v.set(true, nil)
	w.Flush(nil)
	io.WriteString(w, "after\n")
	if got, want := v.string(), big+"2 lines lost\nafter\n"; got != want {
		t.Errorf("got ...%q", got[len(got)-40:])
	}
}

// A stall is waited for once, not at each line.
func TestOneStallIsWaitedForOnce(t *testing.T) {
	w := service(newValve())
	io.WriteString(w, "first\n")
	start := time.Now()
	for range 1000 {
		io.WriteString(w, "more\n")
	}
	if took := time.Since(start); took > maxPatience {
		t.Errorf("1000 lines took %v", took)
	}
}

// While the reader reads, slowly, a line is written when Write returns.
func TestLinesAreWrittenBeforeWriteReturns(t *testing.T) {
	v := newValve()
	w := service(v)
	for i := range 5 {
		v.set(false, nil)
		time.AfterFunc(5*time.Millisecond, func() { v.set(true, nil) })
		io.WriteString(w, line(i))
		if !strings.HasSuffix(v.string(), line(i)) {
			t.Fatalf("line %d is not written", i)
		}
	}
}

// A tool loses nothing: it waits for its reader.
func TestToolWaits(t *testing.T) {
	v := newValve()
	w := New(v, Options{})
	wrote := make(chan error)
	const all = 3000
	go func() {
		var err error
		for i := range all {
			_, e := io.WriteString(w, line(i))
			err = errors.Join(err, e)
		}
		wrote <- err
	}()
	select {
	case <-wrote:
		t.Fatal("it does not wait")
	case <-time.After(maxPatience + 100*time.Millisecond):
	}
	v.set(true, nil)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if !w.Flush(nil) {
		t.Error("not all is written")
	}
	var want strings.Builder
	for i := range all {
		want.WriteString(line(i))
	}
	if v.string() != want.String() {
		t.Error("lines are lost or out of order")
	}
}

// A tool that is to end waits for nobody.
func TestToolThatIsToEndDoesNotWait(t *testing.T) {
	done := make(chan struct{})
	w := New(newValve(), Options{Done: done})
	time.AfterFunc(10*time.Millisecond, func() { close(done) })
	for i := range 3000 {
		io.WriteString(w, line(i))
	}
	if w.Flush(done) {
		t.Error("a reader that does not read has all")
	}
}

// An error ends a tool: it is told once, stays, and is there after Flush where
// it comes late.
func TestErrorEndsATool(t *testing.T) {
	for _, late := range []bool{false, true} {
		v := newValve()
		told := 0
		w := New(v, Options{Failed: func(error) { told++ }})
		if !late {
			v.set(true, unix.ENOSPC)
		}
		_, err := io.WriteString(w, "a\n")
		if late != (err == nil) {
			t.Errorf("late %v: the first error is %v", late, err)
		}
		v.set(true, unix.ENOSPC)
		w.Flush(nil)
		v.set(true, nil)
		if _, err := io.WriteString(w, "b\n"); !errors.Is(err, unix.ENOSPC) || !errors.Is(w.Err(), unix.ENOSPC) || told != 1 || v.string() != "" {
			t.Errorf("late %v: %v, %v, told %d times, %q written", late, err, w.Err(), told, v.string())
		}
	}
}

// A service goes on when the disk is full, and tells what is missing when it no
// longer is.
func TestServiceOutlivesAFullDisk(t *testing.T) {
	v := newValve()
	told := 0
	w := New(v, Options{Failed: func(error) { told++ }})
	w.Service(notice)
	v.set(true, unix.ENOSPC)
	for i := range 10 {
		if _, err := io.WriteString(w, line(i)); err != nil {
			t.Fatal(err)
		}
		w.Flush(nil)
	}
	v.set(true, nil)
	io.WriteString(w, "after\n")
	w.Flush(nil)
	if got := v.string(); !strings.HasSuffix(got, " lines lost\nafter\n") || told != 1 {
		t.Errorf("got %q, told %d times", got, told)
	}
}

// A reader that has gone is told once and costs nothing more.
func TestServiceOutlivesItsReader(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r.Close()
	told := 0
	w := New(NewFile(f), Options{Failed: func(err error) {
		if !errors.Is(err, unix.EPIPE) {
			t.Error(err)
		}
		told++
	}})
	w.Service(notice)
	for i := range 100 {
		if _, err := io.WriteString(w, line(i)); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush(nil)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// Several processes, as irmd and its IPCPs, write to one pipe, one after the
// other: the lines come in that order though the pipe is often full.
func TestOrderAmongWritersOfOnePipe(t *testing.T) {
	r, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var ws []*Writer
	for range 3 {
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		g := os.NewFile(uintptr(fd), "pipe")
		defer g.Close()
		w := New(NewFile(g), Options{})
		w.Service(notice)
		ws = append(ws, w)
	}
	f.Close()
	const all = 2000
	got := make(chan string)
	go func() {
		b := make([]byte, 1000)
		for i := range all {
			if i%40 == 0 {
				time.Sleep(time.Millisecond) // a reader that is slow, and reads
			}
			if _, err := io.ReadFull(r, b); err != nil || string(b) != line(i) {
				got <- fmt.Sprintf("line %d is %.20q, %v", i, b, err)
				return
			}
		}
		got <- ""
	}()
	for i := range all {
		io.WriteString(ws[i%len(ws)], line(i))
	}
	if bad := <-got; bad != "" {
		t.Error(bad)
	}
}

func TestSyslog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	was := syslogPaths
	t.Cleanup(func() { syslogPaths = was })
	syslogPaths = []string{path}
	if _, err := OpenSyslog(); err == nil {
		t.Fatal("it found one that is not there")
	}
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := listen()
	s, err := OpenSyslog()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := New(s, Options{})
	w.Service(func(n uint64) []byte { return SyslogLine(4, "irmd", fmt.Sprintf("%d lost", n)) })
	read := func(c *net.UnixConn) string {
		b := make([]byte, 2000)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(b[:n]), "]: ")
		return string(b[:n])[:4] + text
	}
	w.Write(SyslogLine(0, "irmd", "irmd: hello"))
	if got := read(c); got != "<30>irmd: hello\n" {
		t.Errorf("%q", got)
	}
	// It does not read: nothing waits for it, and all comes in order.
	start := time.Now()
	const all = 3000
	for i := range all {
		w.Write(SyslogLine(8, "irmd", line(i)[:999]))
	}
	if took := time.Since(start); took > maxPatience+5*time.Second {
		t.Errorf("it was held up for %v", took)
	}
	next := 0
	for next < all {
		got := read(c)
		if n := uint64(0); strings.HasSuffix(got, "lost\n") {
			fmt.Sscanf(got, "<28>%d lost", &n)
			next += int(n)
			break
		}
		if got != "<27>"+line(next) {
			t.Fatalf("line %d is %.30q", next, got)
		}
		next++
	}
	if next != all {
		t.Errorf("%d of %d lines came or were counted", next, all)
	}
	// It is started anew.
	c.Close()
	os.Remove(path)
	c = listen()
	w.Write(SyslogLine(0, "irmd", "again"))
	if got := read(c); got != "<30>again\n" {
		t.Errorf("%q", got)
	}
}

func BenchmarkPipe(b *testing.B) {
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	w := New(NewFile(null), Options{})
	text := []byte(line(0)[:80])
	b.ReportAllocs()
	for b.Loop() {
		w.Write(text)
	}
}
