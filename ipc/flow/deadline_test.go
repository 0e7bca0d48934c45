package flow

import (
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc/internal/testkit"
)

var long = time.Unix(233431200, 0) // ago

// resync proves that both ends still work: a packet passes each way.
func resync(t *testing.T, a, b *End) {
	t.Helper()
	a.SetDeadline(time.Time{})
	b.SetDeadline(time.Time{})
	buf := make([]byte, core.MaxPacket)
	for _, d := range [][2]*End{{a, b}, {b, a}} {
		done := make(chan error, 1)
		go func() { done <- d[0].WritePacket([]byte("resync")) }()
		for {
			n, err := d[1].ReadPacket(buf)
			if err != nil {
				t.Fatal(err)
			}
			if string(buf[:n]) == "resync" {
				break
			}
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// calls that wait on a flow which is empty to read and full to write.
var reads = map[string]func(e *End) error{
	"Read":       func(e *End) error { _, err := e.Read(make([]byte, 1024)); return err },
	"ReadPacket": func(e *End) error { _, err := e.ReadPacket(make([]byte, 1024)); return err },
	"ReadBatch":  func(e *End) error { _, err := e.ReadBatch([][]byte{{0}}, make([]int, 1)); return err },
	"Peek":       func(e *End) error { _, err := e.Peek(); return err },
}

var writes = map[string]func(e *End) error{
	"Write":       func(e *End) error { _, err := e.Write(make([]byte, 5000)); return err },
	"WritePacket": func(e *End) error { return e.WritePacket(make([]byte, 5000)) },
	"WriteBatch":  func(e *End) error { _, err := e.WriteBatch([][]byte{make([]byte, 5000)}); return err },
	"Reserve":     func(e *End) error { _, err := e.Reserve(5000); return err },
}

// each runs f for every call that can wait, with what sets its deadline.
func each(t *testing.T, f func(t *testing.T, a, b *End, call func(*End) error, h *half, set func(time.Time) error)) {
	for name, call := range reads {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, MinRing)
			f(t, a, b, call, &a.r.half, a.SetReadDeadline)
		})
	}
	for name, call := range writes {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, MinRing)
			fill(t, a)
			f(t, a, b, call, &a.w.half, a.SetWriteDeadline)
		})
	}
}

func TestDeadlineInThePastFailsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, a, b *End, call func(*End) error, _ *half, set func(time.Time) error) {
		b.Write([]byte("there is something to read"))
		for range 2 {
			set(long)
			wantErr(t, "call", call(a), core.ErrTimeout)
		}
		resync(t, a, b)
	})
}

func TestDeadlineInTheFutureEndsAWait(t *testing.T) {
	each(t, func(t *testing.T, a, b *End, call func(*End) error, _ *half, set func(time.Time) error) {
		for range 3 { // the first one enters the poller
			const wait = 20 * time.Millisecond
			start := time.Now()
			set(start.Add(wait))
			wantErr(t, "call", call(a), core.ErrTimeout)
			if d := time.Since(start); d < wait {
				t.Errorf("after %v, want %v", d, wait)
			}
			wantErr(t, "next call", call(a), core.ErrTimeout)
		}
		resync(t, a, b)
	})
}

func TestDeadlineMovedToThePastEndsAWait(t *testing.T) {
	each(t, func(t *testing.T, a, b *End, call func(*End) error, h *half, set func(time.Time) error) {
		for _, first := range []time.Time{{}, time.Now().Add(time.Hour)} {
			set(first)
			done := make(chan error)
			go func() { done <- call(a) }()
			asleep(t, h)
			set(long)
			wantErr(t, "call", <-done, core.ErrTimeout)
		}
		resync(t, a, b)
	})
}

func TestDeadlineMovedAwayLetsTheWaitGoOn(t *testing.T) {
	each(t, func(t *testing.T, a, b *End, call func(*End) error, h *half, set func(time.Time) error) {
		for _, later := range []time.Time{{}, time.Now().Add(time.Hour)} {
			done := make(chan error, 1)
			var soon time.Time
			// Longer where the machine is too busy to move it in time.
			for wait := 100 * time.Millisecond; ; wait *= 2 {
				soon = time.Now().Add(wait)
				set(soon)
				go func() { done <- call(a) }()
				for !h.asleep.Load() && time.Now().Before(soon) {
					runtime.Gosched()
				}
				set(later)
				if time.Now().Before(soon) {
					break
				}
				set(long)
				wantErr(t, "call", <-done, core.ErrTimeout)
			}
			select {
			case err := <-done:
				t.Fatalf("call: %v", err)
			case <-time.After(time.Until(soon) + 50*time.Millisecond):
			}
			set(long)
			wantErr(t, "call", <-done, core.ErrTimeout)
		}
	})
}

func TestDeadlineOfOneDirectionLeavesTheOther(t *testing.T) {
	a, b := pair(t, MinRing)
	a.SetReadDeadline(long)
	if _, err := a.Write([]byte("x")); err != nil {
		t.Errorf("Write: %v", err)
	}
	a.SetReadDeadline(time.Time{})
	a.SetWriteDeadline(long)
	b.Write([]byte("x"))
	if _, err := a.Read(make([]byte, 1)); err != nil {
		t.Errorf("Read: %v", err)
	}
	a.SetDeadline(long)
	_, err := a.Read(make([]byte, 1))
	wantErr(t, "Read", err, core.ErrTimeout)
	_, err = a.Write([]byte("x"))
	wantErr(t, "Write", err, core.ErrTimeout)
	wantErr(t, "TryWritePacket", a.TryWritePacket([]byte("x")), core.ErrTimeout)
}

func TestDeadlineFarAwayDoesNotOverflow(t *testing.T) {
	a, b := pair(t, MinRing)
	for _, d := range []time.Time{time.Now().Add(1<<63 - 1), time.Unix(1<<40, 0)} {
		a.SetDeadline(d)
		done := make(chan error)
		go func() { _, err := a.Read(make([]byte, 10)); done <- err }()
		asleep(t, &a.r.half)
		b.Write([]byte("x"))
		if err := <-done; err != nil {
			t.Errorf("deadline %v: %v", d, err)
		}
	}
}

// A Write that ran out of time says how much of it went, in whole packets.
func TestDeadlineInALongWriteGivesThePartThatWent(t *testing.T) {
	a, b := pair(t, MinRing)
	var n int
	done := make(chan error)
	go func() {
		var err error
		n, err = a.Write(testkit.Packet(10*core.MaxPacket, 3))
		done <- err
	}()
	asleep(t, &a.w.half) // the ring is full
	a.SetWriteDeadline(past)
	wantErr(t, "Write", <-done, core.ErrTimeout)
	if n == 0 || n%core.MaxPacket != 0 || n > MinRing {
		t.Errorf("%d bytes", n)
	}
	a.Close()
	got, err := io.ReadAll(b)
	if err != nil || len(got) != n {
		t.Errorf("the peer got %d bytes of %d, %v", len(got), n, err)
	}
}

// Deadlines that come and go must not disturb what passes at the same time.
func TestDeadlinesWhileDataPasses(t *testing.T) {
	a, b := pair(t, MinRing)
	stop := make(chan bool)
	var wg sync.WaitGroup
	for _, e := range []*End{a, b} {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				e.SetDeadline([]time.Time{{}, long, time.Now().Add(time.Millisecond), time.Now().Add(time.Hour)}[i%4])
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	const total = 20 << 20
	wg.Go(func() {
		p := testkit.Packet(1000, 0)
		for n := 0; n < total; {
			m, err := a.Write(p)
			if err != nil && err != core.ErrTimeout {
				t.Error(err)
				return
			}
			n += m
		}
		a.CloseWrite()
	})
	got := 0
	buf := make([]byte, 1000)
	for {
		n, err := b.Read(buf)
		got += n
		if err == io.EOF {
			break
		}
		if err != nil && err != core.ErrTimeout {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if got != total/1000*1000+1000 && got != total {
		t.Errorf("%d bytes of %d", got, total)
	}
}
