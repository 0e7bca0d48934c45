package lock

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"o7s/ipc/internal/lockstep"
	"o7s/ipc/internal/release"
)

// until waits for the state, which another goroutine is about to bring about.
func until(t *testing.T, l *Lock, state uint32) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); l.state.Load() != state; {
		if time.Now().After(end) {
			t.Fatalf("state %d, want %d", l.state.Load(), state)
		}
		runtime.Gosched()
	}
}

func TestOneAtATime(t *testing.T) {
	var l Lock
	var inside, rounds int // guarded by l
	var wg sync.WaitGroup
	end := time.Now().Add(200 * time.Millisecond)
	total := make([]int, 8)
	for i := range total {
		wg.Go(func() {
			for n := i; time.Now().Before(end); n++ {
				if n%3 == 0 {
					if !l.TryLock() {
						continue
					}
				} else {
					l.Lock()
				}
				if inside++; inside != 1 {
					t.Error("two at once")
				}
				rounds++
				total[i]++
				if n%64 == 0 {
					runtime.Gosched() // hold it long enough for the front to sleep
				}
				inside--
				switch was := l.Leave(); n % 5 {
				case 0:
					l.Stay(was)
					l.Unlock()
				default:
					l.Left(was)
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range total {
		sum += n
	}
	if sum != rounds || sum == 0 {
		t.Errorf("%d rounds in all, counted %d", sum, rounds)
	}
	if l.state.Load() != free {
		t.Errorf("in state %d at the end", l.state.Load())
	}
}

func TestTryLockDoesNotWait(t *testing.T) {
	var l Lock
	if !l.TryLock() || l.TryLock() {
		t.Error("not locked exactly once")
	}
	was := l.Leave()
	if l.TryLock() {
		t.Error("locked while another leaves")
	}
	l.Stay(was)
	if l.TryLock() {
		t.Error("locked while another stays")
	}
	l.Unlock()
	if !l.TryLock() {
		t.Error("not free after Unlock")
	}
}

// The front sleeps, is woken, and if others were faster, is next.
func TestFrontThatWasWokenInVainIsNext(t *testing.T) {
	var l Lock
	for {
		l.Lock()
		got := make(chan struct{})
		go func() {
			l.Lock()
			close(got)
		}()
		until(t, &l, wanted)
		l.Stay(l.Leave())
		if l.state.Load() != wanted {
			t.Fatal("Stay forgets that the front sleeps")
		}
		l.Unlock()
		if !l.TryLock() { // the front was faster
			<-got
			l.Unlock()
			continue
		}
		until(t, &l, claimed)
		l.Unlock()
		if l.TryLock() {
			t.Fatal("the front was passed twice")
		}
		<-got
		l.Unlock()
		if !l.TryLock() {
			t.Fatal("not free when all have left")
		}
		return
	}
}

func TestLockWaitsForWhoLeaves(t *testing.T) {
	var l Lock
	l.Lock()
	was := l.Leave()
	var got atomic.Bool
	done := make(chan struct{})
	go func() {
		l.Lock()
		got.Store(true)
		close(done)
	}()
	for l.queue.TryLock() { // until it is the front
		l.queue.Unlock()
		runtime.Gosched()
	}
	time.Sleep(20 * nap) // it would have it by then, and naps
	if got.Load() {
		t.Error("locked twice")
	}
	l.Left(was)
	<-done
	l.Unlock()
}

func TestUnlockOfUnlockedPanics(t *testing.T) {
	var l Lock
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
		if !l.TryLock() {
			t.Error("not usable after the panic")
		}
	}()
	l.Unlock()
}

// Of two who show something, leave, and look, one at least sees the other.
func TestLeaveIsABarrier(t *testing.T) {
	type side struct {
		l     Lock
		shown atomic.Uint64
		saw   bool
		_     [128]byte
	}
	var a, b side
	look := func(me, other *side) {
		me.l.Lock()
		release.Store64(&me.shown, 1)
		was := me.l.Leave()
		me.saw = other.shown.Load() == 1
		me.l.Left(was)
	}
	neither := 0
	rounds := lockstep.Run(func() { look(&a, &b) }, func() { look(&b, &a) }, func() {
		if !a.saw && !b.saw {
			neither++
		}
		a.shown.Store(0)
		b.shown.Store(0)
	})
	if neither > 0 {
		t.Errorf("neither saw the other in %d of %d rounds", neither, rounds)
	}
}

// BenchmarkLock is a lock and an unlock by each of some goroutines, beside
// sync.Mutex.
func BenchmarkLock(b *testing.B) {
	for _, many := range []int{1, 2, 8} {
		for _, kind := range []struct {
			name string
			l    sync.Locker
		}{{"lock", new(Lock)}, {"mutex", new(sync.Mutex)}} {
			b.Run(fmt.Sprintf("%d/%s", many, kind.name), func(b *testing.B) {
				var wg sync.WaitGroup
				var inside int
				for range many {
					wg.Go(func() {
						for range b.N / many {
							kind.l.Lock()
							inside++
							for range 50 {
							}
							kind.l.Unlock()
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
