package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc/internal/testkit"
)

// openPair returns both ends of a new flow within this process.
func openPair(ring int) (*End, *End, error) {
	k, err := NewKit(ring)
	if err != nil {
		return nil, nil, err
	}
	defer k.Close()
	a, err := k.Open(0)
	if err != nil {
		return nil, nil, err
	}
	b, err := k.Open(1)
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// pair returns both ends of a flow and closes them at the test's end.
func pair(t testing.TB, ring int) (*End, *End) {
	t.Helper()
	a, b, err := openPair(ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// fill writes packets of 1000 bytes until there is no room, and returns how
// many.
func fill(t testing.TB, e *End) int {
	t.Helper()
	for n := 0; ; n++ {
		switch err := e.TryWritePacket(testkit.Packet(1000, n)); {
		case errors.Is(err, core.ErrLimit):
			return n
		case err != nil:
			t.Fatal(err)
		}
	}
}

// wantErr fails unless err is want.
func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// asleep waits until the holder of h's lock sleeps in the poller.
func asleep(t testing.TB, h *half) {
	t.Helper()
	if !testkit.Eventually(h.asleep.Load) {
		t.Fatal("no goroutine sleeps after 10 s")
	}
}

func TestPacketsArriveWholeAndInOrderBothWays(t *testing.T) {
	a, b := pair(t, DefaultRing)
	for _, dir := range [][2]*End{{a, b}, {b, a}} {
		var buf [core.MaxPacket]byte
		for i, n := range []int{1, 7, 8, 9, 64, 1500, 65534, core.MaxPacket} {
			p := testkit.Packet(n, i)
			if err := dir[0].WritePacket(p); err != nil {
				t.Fatal(err)
			}
			m, err := dir[1].ReadPacket(buf[:])
			if err != nil || !bytes.Equal(buf[:m], p) {
				t.Fatalf("packet of %d bytes: got %d, %v", n, m, err)
			}
		}
	}
}

func TestReadReturnsTheRestOfAPacketButNeverTwoPackets(t *testing.T) {
	a, b := pair(t, MinRing)
	a.Write([]byte("hello"))
	a.Write([]byte("world"))
	var got []string
	buf := make([]byte, 3)
	for range 4 {
		n, err := b.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(buf[:n]))
	}
	if want := []string{"hel", "lo", "wor", "ld"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadPacketAfterHalfAReadReturnsTheRest(t *testing.T) {
	a, b := pair(t, MinRing)
	a.Write([]byte("hello"))
	a.Write([]byte("world"))
	buf := make([]byte, 16)
	b.Read(buf[:2])
	for _, want := range []string{"llo", "world"} {
		n, err := b.ReadPacket(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v, want %q", buf[:n], err, want)
		}
	}
}

func TestReadPacketIntoAShortBufferKeepsThePacket(t *testing.T) {
	a, b := pair(t, MinRing)
	a.Write([]byte("hello"))
	buf := make([]byte, 16)
	for _, n := range []int{0, 4} {
		_, err := b.ReadPacket(buf[:n])
		var se *ShortBufferError
		if !errors.Is(err, io.ErrShortBuffer) || !errors.As(err, &se) || se.Size != 5 {
			t.Errorf("buffer of %d: error %v", n, err)
		}
	}
	if n, err := b.ReadPacket(buf[:5]); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

func TestEmptyReadAndWriteDoNothing(t *testing.T) {
	a, b := pair(t, MinRing)
	if n, err := a.Write(nil); n != 0 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	if err := a.WritePacket([]byte{}); err != nil {
		t.Errorf("WritePacket: %v", err)
	}
	if err := a.TryWritePacket(nil); err != nil {
		t.Errorf("TryWritePacket: %v", err)
	}
	if n, err := b.Read(nil); n != 0 || err != nil {
		t.Errorf("Read: %d, %v", n, err)
	}
	if c := a.Counters(); c.PacketsOut != 0 {
		t.Errorf("%d packets out", c.PacketsOut)
	}
}

func TestLongWriteIsSeveralPacketsLongPacketIsRefused(t *testing.T) {
	a, b := pair(t, DefaultRing)
	p := testkit.Packet(3*core.MaxPacket+10, 1)
	wantErr(t, "WritePacket", a.WritePacket(p), core.ErrUsage)
	wantErr(t, "WritePacket of one too many", a.WritePacket(p[:core.MaxPacket+1]), core.ErrUsage)
	wantErr(t, "TryWritePacket", a.TryWritePacket(p), core.ErrUsage)
	if n, err := a.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	var got []byte
	var sizes []int
	buf := make([]byte, core.MaxPacket)
	for len(got) < len(p) {
		n, err := b.ReadPacket(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
		sizes = append(sizes, n)
	}
	if !bytes.Equal(got, p) || len(sizes) != 4 {
		t.Errorf("%d bytes in packets of %v", len(got), sizes)
	}
}

func TestTryWriteSaysFullAndNeverWaits(t *testing.T) {
	a, b := pair(t, MinRing)
	n := fill(t, a)
	if n < MinRing/1100 || n > MinRing/1000 {
		t.Errorf("%d packets of 1000 bytes fit a ring of %d", n, MinRing)
	}
	// Also while another goroutine waits for room with the lock in its hand.
	done := make(chan error)
	go func() { done <- a.WritePacket(testkit.Packet(1000, n)) }()
	asleep(t, &a.w.half)
	wantErr(t, "beside a blocked Write", a.TryWritePacket([]byte("x")), core.ErrLimit)
	buf := make([]byte, core.MaxPacket)
	for i := range n + 1 {
		m, err := b.ReadPacket(buf)
		if err != nil || !bytes.Equal(buf[:m], testkit.Packet(1000, i)) {
			t.Fatalf("packet %d: %d bytes, %v", i, m, err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := a.TryWritePacket([]byte("x")); err != nil {
		t.Errorf("with room: %v", err)
	}
}

func TestCloseIsEOFForThePeerAfterAllIsRead(t *testing.T) {
	a, b := pair(t, MinRing)
	a.Write([]byte("one"))
	a.Write([]byte("two"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	for _, want := range []string{"one", "two"} {
		if n, err := b.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v, want %q", buf[:n], err, want)
		}
	}
	for range 2 {
		_, err := b.Read(buf)
		wantErr(t, "Read", err, io.EOF)
	}
	_, err := b.Write([]byte("x"))
	wantErr(t, "Write", err, core.ErrFlowDown)
	wantErr(t, "Write", err, syscall.EPIPE)
	wantErr(t, "TryWritePacket", b.TryWritePacket([]byte("x")), core.ErrFlowDown)
}

func TestCloseWakesABlockedPeer(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(e *End) error
		half func(e *End) *half
		want error
	}{
		{"reader", func(e *End) error { _, err := e.Read(make([]byte, 1)); return err }, func(e *End) *half { return &e.r.half }, io.EOF},
		{"writer", func(e *End) error { return e.WritePacket(make([]byte, 5000)) }, func(e *End) *half { return &e.w.half }, syscall.EPIPE},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pair(t, MinRing)
			fill(t, b)
			done := make(chan error)
			go func() { done <- tt.call(b) }()
			asleep(t, tt.half(b))
			a.Close()
			wantErr(t, "blocked call", <-done, tt.want)
		})
	}
}

func TestOwnCloseUnblocksEveryCall(t *testing.T) {
	calls := map[string]func(e *End) error{
		"Read":        func(e *End) error { _, err := e.Read(make([]byte, 1)); return err },
		"ReadPacket":  func(e *End) error { _, err := e.ReadPacket(make([]byte, 1)); return err },
		"ReadBatch":   func(e *End) error { _, err := e.ReadBatch([][]byte{{0}}, make([]int, 1)); return err },
		"Peek":        func(e *End) error { _, err := e.Peek(); return err },
		"Write":       func(e *End) error { _, err := e.Write(make([]byte, 5000)); return err },
		"WritePacket": func(e *End) error { return e.WritePacket(make([]byte, 5000)) },
		"WriteBatch":  func(e *End) error { _, err := e.WriteBatch([][]byte{make([]byte, 5000)}); return err },
		"Reserve":     func(e *End) error { _, err := e.Reserve(5000); return err },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			a, _ := pair(t, MinRing)
			fill(t, a)
			var wg sync.WaitGroup
			errs := make(chan error, 3)
			for range cap(errs) { // one holds the lock, others wait for it
				wg.Go(func() { errs <- call(a) })
			}
			h := &a.r.half
			if name[0] == 'W' || name == "Reserve" {
				h = &a.w.half
			}
			asleep(t, h)
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			for range cap(errs) {
				err := <-errs
				wantErr(t, "blocked", err, core.ErrClosed)
				wantErr(t, "blocked", err, net.ErrClosed)
			}
			wantErr(t, "later", call(a), core.ErrClosed)
		})
	}
}

func TestEverythingAfterCloseIsErrClosed(t *testing.T) {
	a, _ := pair(t, MinRing)
	a.Write([]byte("x"))
	for range 2 {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	wantErr(t, "TryWritePacket", a.TryWritePacket([]byte("x")), core.ErrClosed)
	wantErr(t, "Commit", a.Commit(1), core.ErrClosed)
	wantErr(t, "Release", a.Release(), core.ErrClosed)
	wantErr(t, "CloseWrite", a.CloseWrite(), core.ErrClosed)
	wantErr(t, "SetDeadline", a.SetDeadline(time.Now()), core.ErrClosed)
	a.Fail(nil)
	if c := a.Counters(); c.PacketsOut != 1 || c.BytesOut != 1 {
		t.Errorf("counters: %+v", c)
	}
}

func TestCloseWriteLeavesReadingOn(t *testing.T) {
	a, b := pair(t, MinRing)
	buf := make([]byte, 16)
	done := make(chan error)
	go func() {
		for {
			if _, err := b.Read(buf); err != nil {
				done <- err
				return
			}
		}
	}()
	asleep(t, &b.r.half)
	a.Write([]byte("x"))
	for range 2 {
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	wantErr(t, "peer's Read", <-done, io.EOF)
	wantErr(t, "own Write", a.WritePacket([]byte("x")), core.ErrClosed)
	if _, err := b.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(buf); err != nil || string(buf[:n]) != "back" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

func TestCloseWriteUnblocksOwnWrite(t *testing.T) {
	a, _ := pair(t, MinRing)
	fill(t, a)
	done := make(chan error)
	go func() { done <- a.WritePacket(make([]byte, 5000)) }()
	asleep(t, &a.w.half)
	a.CloseWrite()
	wantErr(t, "Write", <-done, core.ErrClosed)
}

func TestFailLetsReadFinishThenGivesTheReason(t *testing.T) {
	reason := fmt.Errorf("the layer was destroyed: %w", core.ErrFlowDown)
	a, b := pair(t, MinRing)
	a.Write([]byte("last"))
	b.Fail(reason)
	b.Fail(core.ErrIRMd) // too late to count
	_, err := b.Write([]byte("x"))
	wantErr(t, "Write", err, reason)
	buf := make([]byte, 16)
	if n, err := b.Read(buf); err != nil || string(buf[:n]) != "last" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	_, err = b.Read(buf)
	wantErr(t, "Read", err, reason)

	t.Run("blocked", func(t *testing.T) {
		a, _ := pair(t, MinRing)
		fill(t, a)
		done := make(chan error)
		go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
		go func() { done <- a.WritePacket(make([]byte, 5000)) }()
		asleep(t, &a.r.half)
		asleep(t, &a.w.half)
		a.Fail(nil)
		wantErr(t, "first", <-done, core.ErrFlowDown)
		wantErr(t, "second", <-done, core.ErrFlowDown)
	})
	t.Run("after the peer's close", func(t *testing.T) {
		a, b := pair(t, MinRing)
		a.Close()
		b.Fail(reason)
		_, err := b.Read(make([]byte, 1))
		wantErr(t, "Read", err, io.EOF)
	})
}

func TestConcurrentWritersKeepPacketsWhole(t *testing.T) {
	a, b := pair(t, MinRing)
	const writers, each = 8, 300
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				p := bytes.Repeat([]byte{byte(w)}, 1+(i*37)%3000)
				if _, err := a.Write(p); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	seen := 0
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			buf := make([]byte, core.MaxPacket)
			for {
				n, err := b.ReadPacket(buf)
				if err == io.EOF {
					return
				}
				if err != nil || bytes.Count(buf[:n], buf[:1]) != n {
					t.Errorf("mixed packet of %d bytes, %v", n, err)
					return
				}
				mu.Lock()
				seen++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	a.Close()
	readers.Wait()
	if seen != writers*each {
		t.Errorf("%d packets, want %d", seen, writers*each)
	}
}

func TestCountersCountBothWaysAndNeverWait(t *testing.T) {
	a, b := pair(t, MinRing)
	for range 3 {
		a.Write(make([]byte, 10))
	}
	buf := make([]byte, 4)
	for range 6 { // 10 bytes in 4, 4, 2
		b.Read(buf)
	}
	if c := b.Counters(); c != (Counters{PacketsIn: 2, BytesIn: 20}) {
		t.Errorf("reader: %+v", c)
	}
	if c := a.Counters(); c != (Counters{PacketsOut: 3, BytesOut: 30}) {
		t.Errorf("writer: %+v", c)
	}
	done := make(chan bool)
	go func() { a.Read(buf); done <- true }()
	asleep(t, &a.r.half)
	if c := a.Counters(); c != (Counters{PacketsOut: 3, BytesOut: 30}) {
		t.Errorf("beside a blocked Read: %+v", c)
	}
	a.Close()
	<-done
}

func TestReadAndWriteTakeNoMemory(t *testing.T) {
	a, b := pair(t, MinRing)
	p, buf := make([]byte, 1500), make([]byte, core.MaxPacket)
	bufs, sizes, batch := [][]byte{buf}, make([]int, 1), [][]byte{p}
	for name, f := range map[string]func(){
		"Read/Write":             func() { a.Write(p); b.Read(buf) },
		"ReadPacket/WritePacket": func() { a.WritePacket(p); b.ReadPacket(buf) },
		"TryWritePacket":         func() { a.TryWritePacket(p); b.ReadPacket(buf) },
		"batch":                  func() { a.WriteBatch(batch); b.ReadBatch(bufs, sizes) },
		"lent":                   func() { a.Reserve(100); a.Commit(100); b.Peek(); b.Release() },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	// Also when each side sleeps every time.
	go func() {
		for {
			n, err := b.Read(buf)
			if err != nil {
				return
			}
			time.Sleep(100 * time.Microsecond)
			b.Write(buf[:n])
		}
	}()
	back := make([]byte, 2000)
	trip := func() { a.Write(p); a.Read(back) }
	trip()
	if n := testing.AllocsPerRun(100, trip); n >= 1 {
		t.Errorf("with sleeps: %v allocations", n)
	}
}

func TestDeadlineErrorsAreThoseOfNet(t *testing.T) {
	a, _ := pair(t, MinRing)
	a.SetReadDeadline(time.Now().Add(-time.Second))
	_, err := a.Read(make([]byte, 1))
	var ne net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("error %v", err)
	}
}
