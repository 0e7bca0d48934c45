package lock

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"o7s/ipc/internal/testkit"
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
	var words [2]atomic.Uint64
	var flag atomic.Uint32
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
					runtime.Gosched() // hold it long enough for the first of the queue to sleep
				}
				inside--
				if n%5 == 0 || !l.PublishUnlock(&words[0], uint64(n), &words[1], uint64(n), &flag) {
					l.Unlock()
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
	l.Unlock()
	if !l.TryLock() {
		t.Error("not free after Unlock")
	}
	l.state.Store(leaving)
	if l.TryLock() {
		t.Error("locked while another leaves")
	}
}

func TestPublishUnlockStaysWhereSomethingIsToBeDone(t *testing.T) {
	for name, tt := range map[string]struct {
		state, flag, after uint32
		unlocked           bool
	}{
		"nothing":               {held, 0, free, true},
		"the flag is up":        {held, 1, held, false},
		"one waits":             {wanted, 0, wanted, false},
		"one is next":           {claimed, 0, claimed, false},
		"one waits, flag is up": {wanted, 1, wanted, false},
	} {
		t.Run(name, func(t *testing.T) {
			var l Lock
			var first, second atomic.Uint64
			var flag atomic.Uint32
			l.state.Store(tt.state)
			flag.Store(tt.flag)
			const a, b = 1<<63 | 5, 1<<40 | 7
			if got := l.PublishUnlock(&first, a, &second, b, &flag); got != tt.unlocked {
				t.Errorf("unlocked: %v", got)
			}
			if first.Load() != a || second.Load() != b || flag.Load() != tt.flag || l.state.Load() != tt.after {
				t.Errorf("stored %#x and %#x, flag %d, state %d", first.Load(), second.Load(), flag.Load(), l.state.Load())
			}
		})
	}
}

// The first of the queue sleeps and is woken. If others were faster, it is next.
func TestFirstThatWasWokenInVainIsNext(t *testing.T) {
	var l Lock
	for {
		l.Lock()
		got := make(chan struct{})
		go func() {
			l.Lock()
			close(got)
		}()
		until(t, &l, wanted)
		l.Unlock()
		if !l.TryLock() { // the first of the queue was faster
			<-got
			l.Unlock()
			continue
		}
		until(t, &l, claimed)
		l.Unlock()
		if l.TryLock() {
			t.Fatal("the first of the queue was passed twice")
		}
		<-got
		l.Unlock()
		if !l.TryLock() {
			t.Fatal("not free when all have left")
		}
		return
	}
}

func TestLockWaitsForOneThatLeaves(t *testing.T) {
	var l Lock
	l.state.Store(leaving)
	var got atomic.Bool
	done := make(chan struct{})
	go func() {
		l.Lock()
		got.Store(true)
		close(done)
	}()
	for l.queue.TryLock() { // until it is the first of the queue
		l.queue.Unlock()
		runtime.Gosched()
	}
	time.Sleep(20 * nap) // it would have it by then, and naps
	if got.Load() {
		t.Error("locked twice")
	}
	l.state.Store(free)
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

// word is alone in its cache lines, as in a ring.
type word struct {
	atomic.Uint64
	_ [120]byte
}

// A core that sees the second word sees the first, and one that sees the first sees
// what was written before.
func TestPublishUnlockKeepsTheOrder(t *testing.T) {
	var l Lock
	var first, second word
	var flag atomic.Uint32
	var payload [16]uint64 // plain memory, as a packet is
	var round uint64
	var seen, early, torn int
	testkit.Lockstep(func() {
		next := round + 1
		b, a := second.Load(), first.Load()
		for range 1000 {
			if a == next || b == next {
				break
			}
			b, a = second.Load(), first.Load()
		}
		if b == next && a != next {
			early++
		}
		if a == next {
			seen++
			for _, v := range payload {
				if v != next {
					torn++
				}
			}
		}
	}, func() {
		next := second.Load() + 1
		l.Lock()
		for i := range payload {
			payload[i] = next
		}
		if !l.PublishUnlock(&first.Uint64, next, &second.Uint64, next, &flag) {
			t.Error("it stays locked")
			l.Unlock()
		}
	}, func() { round++ })
	if early > 0 {
		t.Errorf("the second word was visible before the first in %d of %d rounds", early, round)
	}
	if torn > 0 {
		t.Errorf("the first word was visible before what was written earlier in %d of %d rounds", torn, round)
	}
	t.Logf("%d of %d rounds saw it come", seen, round)
}

// One goroutine publishes and then loads a flag; the other raises the flag and then
// looks. One of them at least sees the other.
func TestPublishUnlockIsAFullBarrier(t *testing.T) {
	var l Lock
	var first, second word
	var flag struct {
		_ [128]byte
		atomic.Uint32
		_ [128]byte
	}
	var saw, unlocked bool
	missed := 0
	rounds := testkit.Lockstep(func() {
		flag.Store(1)
		saw = first.Load() == 1
	}, func() {
		l.Lock()
		if unlocked = l.PublishUnlock(&first.Uint64, 1, &second.Uint64, 1, &flag.Uint32); !unlocked {
			l.Unlock()
		}
	}, func() {
		if !saw && unlocked {
			missed++
		}
		flag.Store(0)
		first.Store(0)
	})
	if missed > 0 {
		t.Errorf("neither saw the other in %d of %d rounds", missed, rounds)
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
