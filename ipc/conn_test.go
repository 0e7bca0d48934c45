package ipc_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
	"o7s/ipc/flow"
)

// What net.Conn promises, and what a flow promises besides.
func TestConn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, tt := range []struct {
			name string
			run  func(t *testing.T, a, b *ipc.Conn)
		}{
			{"packets of every size arrive whole", testSizes},
			{"a short buffer leaves the rest", testShortBuffer},
			{"nothing is sent for nothing", testEmpty},
			{"a long write goes in packets", testLongWrite},
			{"a full flow makes writers wait", testBackPressure},
			{"writers do not mix", testManyWriters},
			{"readers share", testManyReaders},
			{"what was written before the end is read", testDrain},
			{"the end of one direction leaves the other", testCloseWrite},
			{"close wakes both directions", testCloseBlocked},
			{"write after the peer's close", testWriteToClosed},
			{"every call may run at once", testConcurrent},

			{"a deadline in the past", testPastDeadline},
			{"a deadline wakes who is blocked", testDeadlineWakes},
			{"a deadline moved while blocked", testDeadlineMoves},
			{"a deadline taken away", testNoDeadline},
			{"deadlines of the two directions", testTwoDeadlines},
			{"deadlines after close", testDeadlineClosed},
		} {
			t.Run(tt.name, func(t *testing.T) {
				a, b := w.pair(t, "conn")
				tt.run(t, a, b)
				b, a = w.pair(t, "conn") // a flow has no better end
				tt.run(t, a, b)
			})
		}
		w.empty(t)
	})
}

// fill makes p bytes that say where they are.
func fill(p []byte, seed int) []byte {
	for i := range p {
		p[i] = byte(i + i>>8 + seed*7)
	}
	return p
}

func testSizes(t *testing.T, a, b *ipc.Conn) {
	sizes := []int{1, 2, 3, 7, 8, 9, 63, 64, 65, 1499, 1500, 4095, 4096, 4097, 9000, 65534, ipc.MaxPacket}
	for range 40 {
		sizes = append(sizes, 1+rand.IntN(ipc.MaxPacket))
	}
	sent := async(func() error {
		for i, n := range sizes {
			if err := a.WritePacket(fill(make([]byte, n), i)); err != nil {
				return err
			}
		}
		return nil
	})
	p, want := make([]byte, ipc.MaxPacket), make([]byte, ipc.MaxPacket)
	for i, size := range sizes {
		n, err := b.ReadPacket(p)
		must(t, err)
		if !bytes.Equal(p[:n], fill(want[:size], i)) {
			t.Fatalf("packet %d of %d bytes came with %d, or with others", i, size, n)
		}
	}
	must(t, result(t, "write", sent))
}

func testShortBuffer(t *testing.T, a, b *ipc.Conn) {
	for _, s := range []string{"first packet", "second"} {
		_, err := a.Write([]byte(s))
		must(t, err)
	}
	p := make([]byte, 5)
	_, err := b.ReadPacket(p)
	fails(t, "ReadPacket into 5 bytes", err, io.ErrShortBuffer)
	for _, want := range []string{"first", " pack", "et", "secon"} {
		n, err := b.Read(p)
		if string(p[:n]) != want || err != nil {
			t.Errorf("read %q, %v; want %q", p[:n], err, want)
		}
	}
	n, err := b.ReadPacket(p)
	if string(p[:n]) != "d" || err != nil {
		t.Errorf("the rest is %q, %v", p[:n], err)
	}
}

func testEmpty(t *testing.T, a, b *ipc.Conn) {
	for _, p := range [][]byte{nil, {}} {
		if n, err := a.Write(p); n != 0 || err != nil {
			t.Errorf("Write of nothing: %d, %v", n, err)
		}
		if err := a.WritePacket(p); err != nil {
			t.Errorf("WritePacket of nothing: %v", err)
		}
		if n, err := b.Read(p); n != 0 || err != nil {
			t.Errorf("Read of nothing: %d, %v", n, err)
		}
	}
	must(t, a.WritePacket([]byte("x")))
	if n, err := b.Read(make([]byte, 5)); n != 1 || err != nil {
		t.Errorf("the next packet: %d, %v", n, err)
	}
}

func testLongWrite(t *testing.T, a, b *ipc.Conn) {
	data := fill(make([]byte, 3*ipc.MaxPacket+5), 1)
	fails(t, "WritePacket of too much", a.WritePacket(data[:ipc.MaxPacket+1]), core.ErrUsage, "65535")
	sent := async(func() error {
		n, err := a.Write(data)
		if n != len(data) && err == nil {
			err = io.ErrShortWrite
		}
		return err
	})
	p, rest := make([]byte, ipc.MaxPacket), data
	for _, want := range []int{ipc.MaxPacket, ipc.MaxPacket, ipc.MaxPacket, 5} {
		n, err := b.ReadPacket(p)
		must(t, err)
		if n != want || !bytes.Equal(p[:n], rest[:n]) {
			t.Fatalf("a packet of %d bytes, want %d, or others", n, want)
		}
		rest = rest[n:]
	}
	must(t, result(t, "write", sent))
}

// tooMuch is more than a flow holds, with a ring on either side of a layer that
// carries: a write of it blocks until somebody reads. It is made for those who
// need it, not for the many processes of the tests.
var tooMuch = sync.OnceValue(func() []byte {
	return bytes.Repeat(fill(make([]byte, 1<<16), 3), 4*flow.DefaultRing>>16)
})

// A writer waits while a flow is full, and what it has written until then has
// not been lost.
func testBackPressure(t *testing.T, a, b *ipc.Conn) {
	must(t, a.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := a.Write(tooMuch())
	timedOut(t, "write of too much", err)
	if n%ipc.MaxPacket != 0 {
		t.Errorf("%d bytes are not whole packets", n)
	}
	p := make([]byte, n+10)
	_, err = io.ReadFull(b, p[:n])
	must(t, err)
	if !bytes.Equal(p[:n], tooMuch()[:n]) {
		t.Error("other bytes came")
	}
	must(t, a.SetWriteDeadline(time.Now().Add(patience)))
	must(t, a.WritePacket([]byte("last")))
	if n, err := b.Read(p); string(p[:n]) != "last" {
		t.Errorf("read %q, %v", p[:n], err)
	}
}

func testManyWriters(t *testing.T, a, b *ipc.Conn) {
	const writers, each, size = 8, 50, 2*ipc.MaxPacket + 1
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(i)}, size)
			for range each {
				if _, err := a.Write(p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	p := make([]byte, size)
	for range writers * each {
		if _, err := io.ReadFull(b, p); err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(p, p[:1]); n != size {
			t.Fatalf("a write of %d has %d other bytes in it", p[0], size-n)
		}
	}
	wg.Wait()
}

func testManyReaders(t *testing.T, a, b *ipc.Conn) {
	const readers, packets = 8, 2000
	got := make(chan int, packets)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			p := make([]byte, 2)
			for {
				n, err := b.ReadPacket(p)
				if err == io.EOF {
					return
				}
				if n != 2 || err != nil {
					t.Errorf("read %d bytes, %v", n, err)
					return
				}
				got <- int(p[0])<<8 | int(p[1])
			}
		})
	}
	for i := range packets {
		must(t, a.WritePacket([]byte{byte(i >> 8), byte(i)}))
	}
	must(t, a.CloseWrite())
	wg.Wait()
	close(got)
	seen := make(map[int]bool)
	for i := range got {
		seen[i] = true
	}
	if len(seen) != packets {
		t.Errorf("%d of %d packets came", len(seen), packets)
	}
}

func testDrain(t *testing.T, a, b *ipc.Conn) {
	for i := range 100 {
		must(t, a.WritePacket(fill(make([]byte, 1000), i)))
	}
	must(t, a.Close())
	p, want := make([]byte, ipc.MaxPacket), make([]byte, 1000)
	for i := range 100 {
		n, err := b.ReadPacket(p)
		must(t, err)
		if !bytes.Equal(p[:n], fill(want, i)) {
			t.Fatalf("packet %d is another", i)
		}
	}
	for range 2 {
		if n, err := b.Read(p); n != 0 || err != io.EOF {
			t.Errorf("read after the end: %d, %v", n, err)
		}
	}
}

func testCloseWrite(t *testing.T, a, b *ipc.Conn) {
	must(t, a.WritePacket([]byte("the question")))
	must(t, a.CloseWrite())
	must(t, a.CloseWrite())
	_, err := a.Write([]byte("more"))
	fails(t, "write after CloseWrite", err, core.ErrClosed)
	q, err := io.ReadAll(b)
	if string(q) != "the question" || err != nil {
		t.Errorf("read %q, %v", q, err)
	}
	must(t, b.WritePacket([]byte("the answer")))
	must(t, b.CloseWrite())
	p, err := io.ReadAll(a)
	if string(p) != "the answer" || err != nil {
		t.Errorf("read %q, %v", p, err)
	}
}

// flood writes packets until that fails.
func flood(c *ipc.Conn) error {
	for {
		if err := c.WritePacket(tooMuch()[:ipc.MaxPacket]); err != nil {
			return err
		}
	}
}

func testCloseBlocked(t *testing.T, a, b *ipc.Conn) {
	p := make([]byte, 1)
	calls := map[string]<-chan error{
		"Read":        async(func() error { _, err := a.Read(p); return err }),
		"ReadPacket":  async(func() error { _, err := a.ReadPacket(p); return err }),
		"Write":       async(func() error { _, err := a.Write(tooMuch()); return err }),
		"WritePacket": async(func() error { return flood(a) }),
	}
	settle()
	must(t, a.Close())
	for what, ch := range calls {
		err := result(t, what, ch)
		fails(t, what+" while closed", err, net.ErrClosed)
		if e, ok := errors.AsType[net.Error](err); !ok || e.Timeout() {
			t.Errorf("%s while closed: %v is a time-out, or nothing of package net's", what, err)
		}
	}
	fails(t, "CloseWrite after Close", a.CloseWrite(), net.ErrClosed)
}

func testWriteToClosed(t *testing.T, a, b *ipc.Conn) {
	blocked := async(func() error { return flood(a) })
	settle()
	must(t, b.Close())
	fails(t, "a write that was blocked", result(t, "write", blocked), core.ErrFlowDown)
	fails(t, "a write after that", a.WritePacket([]byte("x")), core.ErrFlowDown)
}

// Every method at once, for the race detector and for what hangs.
func testConcurrent(t *testing.T, a, b *ipc.Conn) {
	var wg sync.WaitGroup
	for _, c := range []*ipc.Conn{a, b} {
		for _, f := range []func(p []byte) error{
			func(p []byte) error { _, err := c.Read(p); return err },
			func(p []byte) error { _, err := c.ReadPacket(p); return err },
			func(p []byte) error { _, err := c.Write(p); return err },
			func(p []byte) error { return c.WritePacket(p) },
			func([]byte) error { return c.SetDeadline(time.Now().Add(time.Millisecond)) },
			func([]byte) error { return c.SetReadDeadline(time.Time{}) },
			func([]byte) error { return c.SetWriteDeadline(time.Now()) },
			func([]byte) error { c.Counters(); c.FD(); c.ID(); c.QoS(); return nil },
			func([]byte) error { c.LocalAddr(); c.RemoteAddr(); return nil },
		} {
			wg.Go(func() {
				p := make([]byte, 2000)
				for until := time.Now().Add(20 * time.Millisecond); time.Now().Before(until); {
					switch err := f(p); {
					case err == nil, err == io.EOF, errors.Is(err, core.ErrTimeout):
					case errors.Is(err, net.ErrClosed), errors.Is(err, core.ErrFlowDown): // the first is through
					default:
						t.Error(err)
						return
					}
				}
				c.Close()
			})
		}
	}
	wg.Wait()
}
