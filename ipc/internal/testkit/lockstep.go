package testkit

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	length = 300 * time.Millisecond
	over   = -1
)

// Lockstep calls here and there at once, in two goroutines, and then after. It repeats
// this for 0.3 s, which is hundreds of thousands of rounds on two cores, and returns
// the number of rounds. A short delay, another one in each round, comes before here
// and there, so that every instruction of one meets every instruction of the other.
// here and after run in the caller's goroutine and may end it.
func Lockstep(here, there, after func()) int64 {
	var begun, done atomic.Int64 // rounds
	var wg sync.WaitGroup
	defer wg.Wait()
	defer begun.Store(over)
	wg.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := int64(1); await(&begun, i); i++ {
			delay(rnd.IntN(40))
			there()
			done.Store(i)
		}
	})
	rnd := rand.New(rand.NewPCG(3, 4))
	i := int64(0)
	for end := time.Now().Add(length); time.Now().Before(end); {
		i++
		begun.Store(i)
		delay(rnd.IntN(120))
		here()
		await(&done, i)
		after()
	}
	return i
}

func delay(n int) {
	for range n {
	}
}

// await spins until v is want or over, and reports whether it is want.
func await(v *atomic.Int64, want int64) bool {
	for n := 1; ; n++ {
		switch v.Load() {
		case want:
			return true
		case over:
			return false
		}
		if n%10000 == 0 {
			runtime.Gosched()
		}
	}
}
