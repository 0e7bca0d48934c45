package oping

import (
	"time"

	"o7s/applets/internal/measure/flowtest"
)

// echo answers each packet written to f after the delay for its number, from
// 0; below 0 it never does.
func echo(f *flowtest.Flow, delay func(n int) time.Duration) {
	n := -1
	f.OnWrite = func(p []byte) error {
		n++
		d := delay(n)
		if d < 0 || !answer(p) {
			return nil
		}
		if d == 0 {
			f.Deliver(p)
		} else {
			time.AfterFunc(d, func() { f.Deliver(p) })
		}
		return nil
	}
}

// always returns a delay for echo that is d for each packet.
func always(d time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return d }
}
