package flow

import (
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/shm"
	"o7s/ipc/internal/testkit"
)

// neverSpin makes every wait of this process a sleep until the test's end.
func neverSpin(t testing.TB) { spinFrom(t, 1<<63-1) }

// spinFrom lets this process spin from then on, in ns since epoch, whatever the
// machine did to earlier tests.
func spinFrom(t testing.TB, then int64) {
	noSpinTill.Store(then)
	t.Cleanup(func() { noSpinTill.Store(0) })
}

// A wake-up must not be lost between the last check of the memory and the sleep, nor
// when the other direction drains the bell.
func TestNoWakeIsLost(t *testing.T) {
	neverSpin(t)
	trips := 20000
	if testing.Short() {
		trips = 2000
	}
	t.Run("one at a time", func(t *testing.T) {
		a, b := pair(t, MinRing)
		go func() {
			io.Copy(b, b)
			b.Close()
		}()
		p := make([]byte, 1500)
		for range trips {
			a.Write(p)
			if _, err := io.ReadFull(a, p); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("both directions full at once", func(t *testing.T) {
		a, b := pair(t, MinRing)
		var wg sync.WaitGroup
		for _, e := range []*End{a, b} {
			wg.Go(func() {
				p := make([]byte, 40000)
				for range trips {
					if err := e.WritePacket(p); err != nil {
						t.Error(err)
						return
					}
				}
				e.CloseWrite()
			})
			wg.Go(func() {
				buf := make([]byte, core.MaxPacket)
				n := 0
				for {
					if _, err := e.ReadPacket(buf); err != nil {
						break
					}
					n++
				}
				if n != trips {
					t.Errorf("%d packets, want %d", n, trips)
				}
			})
		}
		wg.Wait()
	})
}

// The same for a writer and a reader's last check alone, thousands of times as often.
func TestPacketOrSleeperIsSeen(t *testing.T) {
	p := make([]byte, 8)
	for name, write := range map[string]func(*End) error{
		"WritePacket": func(e *End) error { return e.WritePacket(p) },
		"WriteBatch":  func(e *End) error { _, err := e.WriteBatch([][]byte{p}); return err },
		"Commit": func(e *End) error {
			if _, err := e.Reserve(len(p)); err != nil {
				return err
			}
			return e.Commit(len(p))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, MinRing)
			var saw bool
			lost := 0
			in := make([]byte, len(p))
			rounds := testkit.Lockstep(func() {
				saw = b.armRead()
			}, func() {
				if err := write(a); err != nil {
					t.Error(err)
				}
			}, func() {
				if !saw && a.w.ring.Asleep() {
					lost++
				}
				b.r.ring.Awake()
				if _, err := b.ReadPacket(in); err != nil {
					t.Fatal(err)
				}
				shm.Drain(b.bell.fd)
			})
			if lost > 0 {
				t.Errorf("%d of %d wake-ups lost", lost, rounds)
			}
		})
	}
}

// Where only writers wait, they must drain the bell. Otherwise the queue would fill
// up, and the peer's bytes would make no new edge.
func TestBellIsDrainedByAWriterToo(t *testing.T) {
	neverSpin(t)
	a, b := pair(t, MinRing)
	go func() {
		buf := make([]byte, core.MaxPacket)
		for {
			if _, err := b.ReadPacket(buf); err != nil {
				return
			}
		}
	}()
	p := make([]byte, core.MaxPacket)
	// So many polls, and so many bytes, that a queue without drains is full.
	for a.bell.polls.Load() < 600 {
		if err := a.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	if n := unread(t, a); n > 2*drainEvery {
		t.Errorf("%d bytes left unread after %d polls", n, a.bell.polls.Load())
	}
}

// unread returns how many bytes wait in e's bell.
func unread(t testing.TB, e *End) int {
	t.Helper()
	n, err := unix.IoctlGetInt(e.bell.fd, unix.SIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A dead peer that left bytes unread gives ECONNRESET, not an end of file. An end
// behind unread bytes gives no edge.
func TestPeerThatDiesIsNoticedByBothDirections(t *testing.T) {
	for _, tt := range []struct {
		name        string
		mine, their int // bytes left unread at each end
	}{
		{"nothing unread", 0, 0},
		{"unread at this end", 5, 0},
		{"unread at the dead end", 0, 5},
		{"unread at both", 3000, 3000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pair(t, MinRing)
			fill(t, a)
			for range tt.mine {
				shm.Notify(b.bell.fd)
			}
			for range tt.their {
				shm.Notify(a.bell.fd)
			}
			done := make(chan error)
			go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
			go func() { done <- a.WritePacket(make([]byte, 5000)) }()
			asleep(t, &a.r.half)
			asleep(t, &a.w.half)
			start := time.Now()
			die(b)
			wantErr(t, "first", <-done, core.ErrFlowDown)
			wantErr(t, "second", <-done, core.ErrFlowDown)
			t.Logf("noticed after %v", time.Since(start))
		})
	}
	t.Run("before anybody waits", func(t *testing.T) {
		a, b := pair(t, MinRing)
		fill(t, a)
		b.Write([]byte("last"))
		// Both have slept before, so that the poller has seen the edge.
		a.SetDeadline(time.Now().Add(20 * time.Millisecond))
		a.Read(make([]byte, 10))
		_, err := a.Read(make([]byte, 10))
		wantErr(t, "Read", err, core.ErrTimeout)
		wantErr(t, "Write", a.WritePacket(make([]byte, 5000)), core.ErrTimeout)
		b.Write([]byte("last"))
		die(b)
		a.SetDeadline(time.Time{})
		if n, err := a.Read(make([]byte, 10)); n != 4 || err != nil {
			t.Errorf("what it wrote before: %d bytes, %v", n, err)
		}
		wantErr(t, "Write", a.WritePacket(make([]byte, 5000)), core.ErrFlowDown)
		_, err = a.Read(make([]byte, 10))
		wantErr(t, "Read", err, core.ErrFlowDown)
	})
}

// No wake-up tells a writer of the death of a reader that did not sleep. The writer
// learns of it all the same, long before the ring is full.
func TestPeerThatDiesAwakeIsNoticedByTheWriter(t *testing.T) {
	for name, write := range map[string]func(*End) error{
		"Write":          func(e *End) error { _, err := e.Write([]byte("x")); return err },
		"WritePacket":    func(e *End) error { return e.WritePacket([]byte("x")) },
		"TryWritePacket": func(e *End) error { return e.TryWritePacket([]byte("x")) },
		"WriteBatch":     func(e *End) error { _, err := e.WriteBatch([][]byte{[]byte("x")}); return err },
		"Reserve": func(e *End) error {
			p, err := e.Reserve(1)
			if err != nil {
				return err
			}
			p[0] = 'x'
			return e.Commit(1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, DefaultRing)
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			must(write(a))
			for a.w.checkDue.Load() { // until it is checked: b lives
				time.Sleep(time.Millisecond)
			}
			die(b)
			n := 0
			for tick := time.NewTicker(time.Millisecond); ; n++ {
				err := write(a)
				if err != nil {
					wantErr(t, "write", err, core.ErrFlowDown)
					break
				}
				if <-tick.C; n == 10000 {
					t.Fatal("10,000 packets were written to the dead")
				}
			}
			t.Logf("noticed after %d packets", n)
		})
	}
}

// The check of a peer is repeated if the writer is at work: the writer may write no
// more afterwards.
func TestPeerCheckIsRepeatedWhileTheWriterWorks(t *testing.T) {
	a, b := pair(t, DefaultRing)
	die(b)
	a.w.mu.Lock()
	a.checkPeer() // as checkPeers does
	a.w.mu.Unlock()
	for start := time.Now(); a.w.flags.Load()&flagDead == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("the death was not noticed")
		}
	}
}

// die closes e's bell as the kernel does for a process that was killed. The memory
// stays as it is.
func die(e *End) {
	e.w.mu.Lock() // checkPeer may use the bell
	defer e.w.mu.Unlock()
	e.bell.mu.Lock()
	defer e.bell.mu.Unlock()
	if e.bell.file != nil {
		e.bell.file.Close()
	} else {
		unix.Close(e.bell.fd)
	}
	// A descriptor that the later Close may close.
	p, err := shm.NewBell()
	if err != nil {
		panic(err)
	}
	unix.Close(p[1])
	e.bell.fd, e.bell.file, e.bell.rc = p[0], nil, nil
}

// Both the reader and the writer must notice within 50 ms that the peer was killed.
func TestKilledProcessIsNoticed(t *testing.T) {
	c, cmd := remote(t, "flow", "hold")
	a := c.(*End)
	if _, err := a.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	fill(t, a)
	done := make(chan error)
	go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
	go func() { done <- a.WritePacket(make([]byte, 5000)) }()
	asleep(t, &a.r.half)
	asleep(t, &a.w.half)
	start := time.Now()
	cmd.Process.Kill()
	wantErr(t, "first", <-done, core.ErrFlowDown)
	wantErr(t, "second", <-done, core.ErrFlowDown)
	t.Logf("noticed after %v", time.Since(start))
}

// MSG_NOSIGNAL: to wake a dead peer must not kill the process by SIGPIPE.
// MSG_DONTWAIT: it must not block either, even if the descriptor's flag is cleared.
func TestNotifyNeverBlocksAndRaisesNoSignal(t *testing.T) {
	p, err := shm.NewBell()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	if err := unix.SetNonblock(p[0], false); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // more than the queue takes
		if err := shm.Notify(p[0]); err != nil {
			t.Fatal(err)
		}
	}
	if shm.Drain(p[0]) {
		t.Error("drained bytes that were not sent")
	}
	if shm.Dead(p[0]) {
		t.Error("dead while open")
	}
	unix.Close(p[1])
	if !shm.Dead(p[0]) {
		t.Error("alive while closed")
	}
	wantErr(t, "Notify", shm.Notify(p[0]), shm.ErrDead)
}
