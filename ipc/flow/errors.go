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

	// ErrPeerClosed is what Write returns after the other end has closed the
	// flow. It wraps core.ErrFlowDown and syscall.EPIPE.
	ErrPeerClosed = fmt.Errorf("%w: the other end closed it: %w", core.ErrFlowDown, syscall.EPIPE)
	// ErrShut is what Write returns after CloseWrite. It wraps core.ErrClosed.
	ErrShut = fmt.Errorf("writing half %w", core.ErrClosed)
	// ErrLent and ErrNotLent are about Peek and Reserve. They wrap core.ErrState.
	ErrLent    = fmt.Errorf("%w: memory of the flow is lent", core.ErrState)
	ErrNotLent = fmt.Errorf("%w: no memory of the flow is lent", core.ErrState)

	errPacketSize = fmt.Errorf("%w: a packet has 1 to %d bytes", core.ErrUsage, core.MaxPacket)
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
