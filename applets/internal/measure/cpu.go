package measure

import (
	"syscall"
	"time"
)

// CPU measures the processor time that this process takes.
type CPU struct {
	used time.Duration
	at   time.Time
}

// StartCPU starts to measure.
func StartCPU() CPU { return CPU{used: used(), at: time.Now()} }

// Percent returns the processor time since the start in percent of the time
// since then: above 100 where several processors worked.
func (c CPU) Percent() float64 {
	took := time.Since(c.at)
	if took <= 0 {
		return 0
	}
	return 100 * float64(used()-c.used) / float64(took)
}

func used() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
