package stage_test

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

// acknowledged waits until the other end has acknowledged all that s sent.
func acknowledged(t *testing.T, what string, s *stage.Stage) {
	t.Helper()
	until(t, what, func() bool { st, _ := s.Stats(); return st.InFlight == 0 })
}

// An end acknowledges also after its only reader has gone because of its deadline.
func TestReaderLeaves(t *testing.T) {
	a, b := (&wire{ours: true}).join(t, core.QoSData)
	must(t, b.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if _, err := b.ReadPacket(nil); err != core.ErrTimeout {
		t.Fatal(err)
	}
	must(t, a.WritePacket([]byte("packet")))
	acknowledged(t, "an acknowledgement", a)
}

// A set hears of a packet also after a writer of the same flow has waited.
func TestSetAfterWriter(t *testing.T) {
	w := &wire{ours: true}
	a, b := w.join(t, core.QoSData)
	set, err := flow.NewSet()
	must(t, err)
	defer set.Close()
	must(t, a.Join(set, a))
	news := make(chan string)
	go func() {
		p := make([]byte, 10)
		for {
			if _, err := set.Wait(t.Context()); err != nil {
				return
			}
			if n, _ := a.TryReadPacket(p); n > 0 {
				news <- string(p[:n])
			}
		}
	}()
	go io.Copy(io.Discard, b)
	for range 20 {
		// More than the congestion window: the writer waits.
		if _, err := a.Write(make([]byte, 200*path.Best)); err != nil {
			t.Fatal(err)
		}
		acknowledged(t, "an acknowledgement", a)
		time.Sleep(20 * time.Millisecond) // no timer runs any more
		must(t, b.WritePacket([]byte("answer")))
		select {
		case <-news:
		case <-time.After(patience):
			t.Fatal("the set does not hear of the packet")
		}
	}
}

// A flow in a set acknowledges while the program works on what the set gave it.
func TestSetOfSlowProgram(t *testing.T) {
	a, b := (&wire{ours: true}).join(t, core.QoSData)
	set, err := flow.NewSet()
	must(t, err)
	defer set.Close()
	must(t, a.Join(set, a))
	for range 3 {
		must(t, b.WritePacket([]byte("packet")))
		if _, err := set.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, b.WritePacket([]byte("another")))
		acknowledged(t, "an acknowledgement of what is not read", b)
		for n := 1; n > 0; {
			n, err = a.TryReadPacket(make([]byte, 10))
			must(t, err)
		}
		must(t, b.WritePacket([]byte("a third")))
		acknowledged(t, "an acknowledgement after all was read", b)
	}
}

// A lost packet goes again soon also where the timer was set for an older one.
// In a set nothing else sets it.
func TestSoonAgain(t *testing.T) {
	w := &wire{ours: false}
	seen := make(chan struct{}, 100)
	w.look = func(from int, _ []byte) {
		if from == 0 {
			seen <- struct{}{}
		}
	}
	a, b := w.join(t, core.QoSData)
	set, err := flow.NewSet()
	must(t, err)
	defer set.Close()
	must(t, a.Join(set, a))
	go io.Copy(io.Discard, b)
	until(t, "a quiet flow", func() bool { return !a.Timed() })
	// The timer waits for one second, since the round trip is not known.
	must(t, a.WritePacket([]byte("packet")))
	<-seen
	acknowledged(t, "an acknowledgement", a)
	w.breakOff(true)
	start := time.Now()
	must(t, a.WritePacket([]byte("packet")))
	<-seen
	w.breakOff(false)
	acknowledged(t, "an acknowledgement", a)
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("a packet that was lost came after %v", took)
	}
}

// The end of the stream comes also where the ring was full for long.
func TestEndBehindRing(t *testing.T) {
	w := &wire{ours: true, ring: flow.MinRing, lose: func(from int, _ []byte) bool { return from == 1 }}
	a, b := w.join(t, core.QoSBest)
	w.mu.Lock() // so that it takes nothing
	for n := 8000; n > 0; n /= 2 {
		for a.TryWritePacket(make([]byte, n)) == nil {
		}
	}
	must(t, a.CloseWrite())
	until(t, "the shared goroutine", a.Idle)
	time.Sleep(30 * time.Millisecond)
	w.mu.Unlock()
	must(t, b.SetReadDeadline(time.Now().Add(patience)))
	if _, err := io.Copy(io.Discard, b); err != nil {
		t.Error(err)
	}
}

// Close gets the end of the stream to the other end also where the window was shut
// and the news that it is open was lost.
func TestEndBehindWindow(t *testing.T) {
	t.Parallel()
	const asks = 16 // the flag of a packet that asks how the window stands
	var reading atomic.Bool
	asked := false
	w := &wire{ours: true, ring: flow.MinRing, lose: func(from int, p []byte) bool {
		asked = asked || from == 0 && p[0]&asks != 0
		return from == 1 && reading.Load() && !asked
	}}
	a, b := w.join(t, core.QoSData)
	must(t, a.WritePacket([]byte("packet")))
	sent := 1
	for {
		acknowledged(t, "an acknowledgement", a)
		if st, _ := a.Stats(); st.PeerWindow == 0 {
			break
		}
		must(t, a.WritePacket([]byte("packet")))
		sent++
	}
	until(t, "the shared goroutine", a.Idle)
	a.SetLinger(time.Hour)
	closed := make(chan struct{})
	go func() { a.Close(); close(closed) }()
	until(t, "Close to wait", a.Pumping)
	reading.Store(true)
	p := make([]byte, 10)
	for range sent {
		_, err := b.ReadPacket(p)
		must(t, err)
	}
	must(t, b.SetReadDeadline(time.Now().Add(patience)))
	if _, err := b.ReadPacket(p); err != io.EOF {
		t.Fatalf("after %d packets: %v", sent, err)
	}
	<-closed
}

// A flow that could not join a set acknowledges as before.
func TestJoinRefused(t *testing.T) {
	a, b := (&wire{ours: true}).join(t, core.QoSData)
	set, err := flow.NewSet()
	must(t, err)
	set.Close()
	for range 5 {
		until(t, "the shared goroutine", a.Idle)
		if err := a.Join(set, a); !errors.Is(err, core.ErrClosed) {
			t.Fatal(err)
		}
		must(t, b.WritePacket([]byte("packet")))
		acknowledged(t, "an acknowledgement", b)
	}
}

// A Close that waits for the other end has left the set.
func TestClosingLeavesSet(t *testing.T) {
	w := &wire{ours: true}
	a, _ := w.join(t, core.QoSData)
	set, err := flow.NewSet()
	must(t, err)
	defer set.Close()
	must(t, a.Join(set, a))
	w.breakOff(true)
	must(t, a.WritePacket([]byte("packet")))
	a.SetLinger(time.Hour)
	closed := make(chan struct{})
	go func() { a.Close(); close(closed) }()
	until(t, "closing", func() bool { _, err := a.TryReadPacket(nil); return errors.Is(err, core.ErrClosed) })
	until(t, "leaving the set", func() bool { return set.Len() == 0 })
	if v, ok := set.Next(); ok {
		t.Errorf("the set gives out %v", v)
	}
	w.breakOff(false)
	<-closed
}
