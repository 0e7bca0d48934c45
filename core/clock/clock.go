// Package clock is the time that a layer type is given. A test that runs in a
// bubble of testing/synctest uses Real, which is virtual there. A simulation in one
// goroutine uses the clock of package clocktest.
package clock

import "time"

// Clock tells the time and calls functions later. It is safe for concurrent
// use.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f once, d from now, on a goroutine of the clock's.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a call that AfterFunc has arranged.
type Timer interface {
	// Stop cancels the call. It reports whether the call was still to come.
	Stop() bool
	// Reset arranges the call anew, d from now. It reports whether the call
	// was still to come.
	Reset(d time.Duration) bool
}

// Real is the system's clock.
var Real Clock = system{}

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
