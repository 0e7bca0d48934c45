package flow

import (
	"fmt"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// OpenReceived is Open of the two descriptors, memory and bell, that came with
// a message. It takes ownership of all of fds; any other number of them is an
// error that wraps core.ErrMessage.
func OpenReceived(side int, fds []int, ring int) (*End, error) {
	if len(fds) != 2 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("%w: a flow comes with 2 descriptors, this one with %d", core.ErrMessage, len(fds))
	}
	return Open(side, fds[0], fds[1], ring)
}
