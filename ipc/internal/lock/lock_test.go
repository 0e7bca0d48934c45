package lock

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
func TestFrontIsNextAfterItWasPassedOnce(t *testing.T) {
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
	for range 2 * looks { // it takes a nap by then
		runtime.Gosched()
	}
	time.Sleep(2 * nap)
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
		_     [128]byte
	}
	var sides [2]side
	var saw [2]bool
	var turn, done atomic.Int64
	const end = -1
	var wg sync.WaitGroup
	defer wg.Wait()
	defer turn.Store(end)
	round := func(me int, i int64) {
		s := &sides[me]
		s.l.Lock()
		release.Store64(&s.shown, uint64(i))
		was := s.l.Leave()
		saw[me] = sides[1-me].shown.Load() == uint64(i)
		s.l.Left(was)
	}
	wg.Go(func() {
		for i := int64(1); await(&turn, i, end); i++ {
			round(1, i)
			done.Store(i)
		}
	})
	both, i := 0, int64(0)
	for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); {
		i++
		turn.Store(i)
		for range i % 100 {
		}
		round(0, i)
		await(&done, i, end)
		if !saw[0] && !saw[1] {
			both++
		}
	}
	if both > 0 {
		t.Errorf("neither saw the other in %d of %d rounds", both, i)
	}
}

// await spins until v is want or end, and reports whether it is want.
func await(v *atomic.Int64, want, end int64) bool {
	for n := 1; ; n++ {
		switch v.Load() {
		case want:
			return true
		case end:
			return false
		}
		if n%10000 == 0 {
			runtime.Gosched()
		}
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
