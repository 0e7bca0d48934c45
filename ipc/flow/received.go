package flow

import (
	"fmt"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// OpenReceived is Open of the two descriptors, memory and bell, that came with a
// message. It takes ownership of all of fds. A process without free descriptors
// receives none: the error wraps core.ErrLimit. For any other number but two the
// error wraps core.ErrMessage.
func OpenReceived(side int, fds []int, ring int) (*End, error) {
	switch len(fds) {
	case 2:
	case 0:
		return nil, fmt.Errorf("%w: this process has no free descriptors (ulimit -n)", core.ErrLimit)
	default:
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("%w: a flow comes with 2 descriptors, this one with %d", core.ErrMessage, len(fds))
	}
	return Open(side, fds[0], fds[1], ring)
}
