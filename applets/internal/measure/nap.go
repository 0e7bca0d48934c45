package measure

import (
	"time"

	"golang.org/x/sys/unix"
)

// maxNap bounds one nap, so that who naps sees in time that it should end.
const maxNap = 50 * time.Millisecond

// Nap sleeps for d, at most 50 ms, in the kernel: some 50 us more than d, where
// a timer of Go's takes up to a millisecond more. It holds a thread.
func Nap(d time.Duration) {
	if d > 0 {
		ts := unix.NsecToTimespec(int64(min(d, maxNap)))
		_ = unix.Nanosleep(&ts, nil) // a signal ends it early, which is no harm
	}
}
