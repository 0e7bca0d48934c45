package stage_test

import (
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

// and the news that it is open was lost.
func TestEndBehindWindow(t *testing.T) {
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
