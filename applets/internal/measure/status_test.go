package measure_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
)

// TestStatusFits: the status stays on one line of the terminal, which may
// change its width at any time.
func TestStatusFits(t *testing.T) {
	streams := flowtest.Streams(t)
	tty := streams["terminal"]
	s := measure.NewStatus(tty.File, true)
	for _, columns := range []uint16{0, 12, 10, 11} {
		if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		s.Show("0123456789")
	}
	const erase = "\r\x1b[K"
	const want = erase + "0123456789" + erase + "0123456789" + erase + "012345678" + erase + "0123456789"
	if got := tty.Written(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	streams["pipe"].Written()
	streams["file"].Written()
}
