package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// The benchmarks run the other end in a second process, which is this test
// binary again. Each compares an End with what the kernel offers, in one run,
// since machines differ more than the candidates do:
//
//	go test -run '^$' -bench . -count 5 ./ipc/flow
//
// Where the kernel puts the two processes decides much: with
// O7S_FLOW_TEST_PIN=one both run on one processor, with =two on two.

const (
	childEnv = "O7S_FLOW_TEST_CHILD"
	pinEnv   = "O7S_FLOW_TEST_PIN"
)

// pin binds every thread of this process to a processor, if pinEnv says so.
func pin(cpu int) {
	switch os.Getenv(pinEnv) {
	case "":
		return
	case "one":
		cpu = 0
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			panic(err)
		}
	}
}

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		pin(1)
		if err := child(job); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pin(0)
	os.Exit(m.Run())
}

// child does a job with the connection that descriptors from 3 on are.
func child(job string) error {
	kind, job, ring := splitJob(job)
	var c io.ReadWriter
	switch kind {
	case "flow":
		e, err := Open(1, 3, 4, ring)
		if err != nil {
			return err
		}
		defer e.Close()
		c = e
	case "pipe":
		c = struct {
			io.Reader
			io.Writer
		}{os.NewFile(3, "pipe"), os.NewFile(4, "pipe")}
	default:
		f := os.NewFile(3, "socket")
		s, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return err
		}
		c = s
	}
	if j := jobs[job]; j != nil {
		return j(c)
	}
	return fmt.Errorf("no job %q", job)
}

func splitJob(s string) (kind, job string, ring int) {
	var r string
	for _, p := range []*string{&kind, &job, &r} {
		for i := 0; i <= len(s); i++ {
			if i == len(s) || s[i] == ' ' {
				*p, s = s[:i], s[min(i+1, len(s)):]
				break
			}
		}
	}
	ring, _ = strconv.Atoi(r)
	return kind, job, ring
}

var jobs = map[string]func(c io.ReadWriter) error{
	// hold says that it is there, and does nothing until it is killed.
	"hold": func(c io.ReadWriter) error {
		c.Write([]byte("here"))
		time.Sleep(time.Hour)
		return nil
	},
	// echo sends every packet back.
	"echo": func(c io.ReadWriter) error {
		buf := make([]byte, core.MaxPacket)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return nil
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return nil
			}
		}
	},
	// sink reads packets and answers each that starts with 1 with one byte.
	"sink": func(c io.ReadWriter) error {
		buf := make([]byte, core.MaxPacket)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return nil
			}
			if n > 0 && buf[0] == 1 {
				if _, err := c.Write(buf[:1]); err != nil {
					return nil
				}
			}
		}
	},
	// stream is sink for transports that keep no boundaries: 4 bytes of
	// length before each packet.
	"stream": func(c io.ReadWriter) error {
		buf := make([]byte, 4+core.MaxPacket)
		for {
			if _, err := io.ReadFull(c, buf[:4]); err != nil {
				return nil
			}
			p := buf[4 : 4+binary.LittleEndian.Uint32(buf)]
			if _, err := io.ReadFull(c, p); err != nil {
				return nil
			}
			if p[0] == 1 {
				if _, err := c.Write(p[:1]); err != nil {
					return nil
				}
			}
		}
	},
	// batch is sink with ReadBatch.
	"batch": func(c io.ReadWriter) error {
		bufs, sizes := make([][]byte, 64), make([]int, 64)
		for i := range bufs {
			bufs[i] = make([]byte, 2048)
		}
		for {
			n, err := c.(*End).ReadBatch(bufs, sizes)
			if err != nil {
				return nil
			}
			for i := range n {
				if bufs[i][0] == 1 {
					c.Write(bufs[i][:1])
				}
			}
		}
	},
	// peek is sink with Peek and Release.
	"peek": func(c io.ReadWriter) error {
		e := c.(*End)
		for {
			p, err := e.Peek()
			if err != nil {
				return nil
			}
			last := p[0]
			if err := e.Release(); err != nil {
				return nil
			}
			if last == 1 {
				e.Write([]byte{1})
			}
		}
	},
}

// remote starts a child that does job at the other end of a connection of kind
// and returns this end. The child is killed at the benchmark's end.
func remote(t testing.TB, kind, job string) (io.ReadWriteCloser, *exec.Cmd) {
	t.Helper()
	var mine io.ReadWriteCloser
	var theirs []*os.File
	switch kind {
	case "flow":
		k, err := NewKit(DefaultRing)
		if err != nil {
			t.Fatal(err)
		}
		e, err := k.Open(0)
		if err != nil {
			t.Fatal(err)
		}
		mine = e
		theirs = []*os.File{os.NewFile(uintptr(k.Mem), "mem"), os.NewFile(uintptr(k.Bell[1]), "bell")}
	case "pipe":
		r1, w1, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r2, w2, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		mine = struct {
			io.Reader
			io.WriteCloser
		}{r2, w1}
		theirs = []*os.File{r1, w2}
	default:
		typ := map[string]int{"seqpacket": syscall.SOCK_SEQPACKET, "stream": syscall.SOCK_STREAM}[kind]
		p, err := syscall.Socketpair(syscall.AF_UNIX, typ|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(p[0]), "socket")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		mine = c
		theirs = []*os.File{os.NewFile(uintptr(p[1]), "socket")}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", childEnv, kind, job, DefaultRing))
	cmd.ExtraFiles = theirs
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range theirs {
		f.Close()
	}
	t.Cleanup(func() {
		mine.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return mine, cmd
}

// BenchmarkRTT is the round trip of one packet, back to back.
func BenchmarkRTT(b *testing.B) {
	for _, size := range []int{64, 1500} {
		for _, kind := range []string{"flow", "seqpacket", "stream", "pipe"} {
			b.Run(fmt.Sprintf("%d/%s", size, kind), func(b *testing.B) {
				c, _ := remote(b, kind, "echo")
				p, buf := make([]byte, size), make([]byte, size)
				trip := func() {
					if _, err := c.Write(p); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						b.Fatal(err)
					}
				}
				for range 1000 {
					trip()
				}
				took := make([]time.Duration, 0, b.N)
				for b.Loop() {
					start := time.Now()
					trip()
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
				b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
			})
		}
	}
}

// BenchmarkOneWay is how many packets pass in one direction.
func BenchmarkOneWay(b *testing.B) {
	for _, size := range []int{64, 1500, 8192, 65000} {
		for _, kind := range []string{"flow", "flow-batch", "flow-lent", "seqpacket", "stream", "pipe"} {
			if kind == "flow-batch" && size > 2048 {
				continue
			}
			b.Run(fmt.Sprintf("%d/%s", size, kind), func(b *testing.B) { oneWay(b, size, kind) })
		}
	}
}

func oneWay(b *testing.B, size int, kind string) {
	var c io.ReadWriteCloser
	var write func() error // sends some packets
	many := 1
	p, last := make([]byte, size), make([]byte, size)
	last[0] = 1
	switch kind {
	case "flow":
		c, _ = remote(b, "flow", "sink")
		write = func() error { _, err := c.Write(p); return err }
	case "flow-batch":
		c, _ = remote(b, "flow", "batch")
		many = 64
		batch := slices.Repeat([][]byte{p}, many)
		write = func() error { _, err := c.(*End).WriteBatch(batch); return err }
	case "flow-lent":
		c, _ = remote(b, "flow", "peek")
		e := c.(*End)
		write = func() error {
			q, err := e.Reserve(size)
			if err != nil {
				return err
			}
			q[0] = 0
			return e.Commit(size)
		}
	case "seqpacket":
		c, _ = remote(b, kind, "sink")
		write = func() error { _, err := c.Write(p); return err }
	default:
		c, _ = remote(b, kind, "stream")
		p = binary.LittleEndian.AppendUint32(nil, uint32(size))
		last = append(slices.Clone(p), last...)
		p = append(p, make([]byte, size)...)
		write = func() error { _, err := c.Write(p); return err }
	}
	flush := func() {
		if _, err := c.Write(last); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
	}
	flush()
	b.SetBytes(int64(size))
	sent := 0
	b.ResetTimer()
	for sent < b.N {
		if err := write(); err != nil {
			b.Fatal(err)
		}
		sent += many
	}
	flush()
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds()/1e6, "Mpkt/s")
	if e, ok := c.(*End); ok {
		b.ReportMetric(float64(e.bell.polls.Load())/b.Elapsed().Seconds(), "polls/s")
	}
}

// BenchmarkPath is what the program itself takes for a packet, written and read
// by one goroutine: no other core, no waiting.
func BenchmarkPath(b *testing.B) {
	for _, size := range []int{64, 1500} {
		for _, name := range []string{"one", "packet", "batch", "lent"} {
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) { path(b, size, name) })
		}
	}
}

func path(b *testing.B, size int, name string) {
	x, y := pair(b, DefaultRing)
	const many = 32
	out, in := make([][]byte, many), make([][]byte, many)
	sizes := make([]int, many)
	for i := range many {
		out[i], in[i] = make([]byte, size), make([]byte, size)
	}
	step, n := func() (err error) {
		if _, err = x.Write(out[0]); err == nil {
			_, err = y.Read(in[0])
		}
		return err
	}, 1
	switch name {
	case "packet":
		step = func() (err error) {
			if err = x.WritePacket(out[0]); err == nil {
				_, err = y.ReadPacket(in[0])
			}
			return err
		}
	case "batch":
		step, n = func() (err error) {
			if _, err = x.WriteBatch(out); err == nil {
				_, err = y.ReadBatch(in, sizes)
			}
			return err
		}, many
	case "lent":
		step = func() error {
			p, err := x.Reserve(size)
			if err != nil {
				return err
			}
			p[0] = 1
			if err = x.Commit(size); err != nil {
				return err
			}
			if _, err = y.Peek(); err != nil {
				return err
			}
			return y.Release()
		}
	}
	b.SetBytes(int64(size))
	for i := 0; i < b.N; i += n {
		if err := step(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is making, opening at both ends and closing of a flow.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		x, y, err := openPair(DefaultRing)
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(x.Close(), y.Close()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSameProcess is the round trip between two goroutines.
func BenchmarkSameProcess(b *testing.B) {
	for _, n := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("procs=%d", n), func(b *testing.B) {
			old, was := runtime.GOMAXPROCS(n), procs
			procs = n
			defer func() { runtime.GOMAXPROCS(old); procs = was }()
			x, y := pair(b, DefaultRing)
			go jobs["echo"](y)
			p := make([]byte, 64)
			for b.Loop() {
				x.Write(p)
				if _, err := x.Read(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdle is what an end costs on which a goroutine waits. Both ends are
// in this process, so the page of memory that they share counts once for each.
// The figures are those of the first time in a process: what Go keeps of one
// time serves the next.
func BenchmarkIdle(b *testing.B) {
	const flows = 2000
	for i := range b.N {
		debug.FreeOSMemory()
		rss, pte := status(b, "VmRSS:"), status(b, "VmPTE:")
		var all []*End
		var wg sync.WaitGroup
		for range flows {
			x, y, err := openPair(DefaultRing)
			if err != nil {
				b.Fatal(err)
			}
			for _, e := range []*End{x, y} {
				all = append(all, e)
				wg.Go(func() { e.Read(make([]byte, 1)) })
			}
		}
		for _, e := range all {
			asleep(b, &e.r.half)
		}
		debug.FreeOSMemory() // of what was needed on the way
		if i == 0 && idle == nil {
			idle = map[string]float64{
				"KiB/end":     float64(status(b, "VmRSS:")-rss) / float64(len(all)),
				"PTE-KiB/end": float64(status(b, "VmPTE:")-pte) / float64(len(all)),
				"threads":     float64(status(b, "Threads:")),
			}
		}
		for _, e := range all {
			e.Close()
		}
		wg.Wait()
	}
	for unit, n := range idle {
		b.ReportMetric(n, unit)
	}
}

var idle map[string]float64 // what BenchmarkIdle saw the first time

// status returns a number of /proc/self/status.
func status(b *testing.B, name string) int {
	s, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for _, l := range strings.Split(string(s), "\n") {
		if f := strings.Fields(l); len(f) > 1 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	b.Fatal("no ", name)
	return 0
}
