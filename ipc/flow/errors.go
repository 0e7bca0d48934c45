package flow

import (
	"fmt"
	"io"
	"syscall"

	"o7s/core"
)

var (
	// ErrFull is what TryWritePacket returns when there is no room now. It
	// wraps core.ErrLimit.
	ErrFull error = fmt.Errorf("no room in the ring now: %w", core.ErrLimit)

	errPeerClosed = fmt.Errorf("%w: the other end closed it: %w", core.ErrFlowDown, syscall.EPIPE)
	errShut       = fmt.Errorf("writing half %w", core.ErrClosed)
	errPacketSize = fmt.Errorf("%w: a packet has 1 to %d bytes", core.ErrUsage, core.MaxPacket)
	errLent       = fmt.Errorf("%w: memory of the ring is lent", core.ErrState)
	errNotLent    = fmt.Errorf("%w: no memory of the ring is lent", core.ErrState)
)

// ShortBufferError is what ReadPacket returns if the packet is longer than the
// buffer. The packet stays. It wraps io.ErrShortBuffer.
type ShortBufferError struct {
	Size int // bytes that are needed
}

// Error implements error.
func (e *ShortBufferError) Error() string {
	return fmt.Sprintf("%v: the packet has %d bytes", io.ErrShortBuffer, e.Size)
}

// Unwrap returns io.ErrShortBuffer.
func (e *ShortBufferError) Unwrap() error { return io.ErrShortBuffer }
