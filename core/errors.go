package core

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// Errno is a sentinel error with a number. The number is what crosses a
// socket, so that errors.Is finds the same sentinel on both sides. 1000 to
// 1009 are the C prototype's, from 1100 on they are this project's own.
type Errno int

const (
	ErrNotAllocated Errno = 1000 // the peer or the layer refused the flow
	ErrIPCPType     Errno = 1001 // no such layer type
	ErrIRMd         Errno = 1002 // no IRMd answers on its socket
	ErrIPCP         Errno = 1003 // no IPCP on this system reaches the name
	ErrState        Errno = 1004 // right request, wrong state
	ErrFlowDown     Errno = 1005 // the other end, or its IPCP, died
	ErrFlowPeer     Errno = 1006 // the other end does not answer any more
	ErrName         Errno = 1007 // no such name

	ErrCrypt Errno = 1008 // the ends do not agree on how to protect the flow
	ErrAuth  Errno = 1009 // the other end is not who it should be

	ErrUsage        Errno = 1100 // a value that is never valid
	ErrPermission   Errno = 1101 // the caller's uid may not do this
	ErrExists       Errno = 1102 // it exists already, and differs
	ErrNotFound     Errno = 1103 // no such layer, IPCP, process or binding
	ErrTimeout      Errno = 1104 // the deadline passed
	ErrCanceled     Errno = 1105 // the caller gave up
	ErrNotSupported Errno = 1106 // this layer type has no such ability
	ErrMessage      Errno = 1107 // a message that does not parse, or is too large
	ErrVersion      Errno = 1108 // the two ends speak different versions of the protocol
	ErrLimit        Errno = 1109 // a bound on memory, descriptors or queued work is reached
	ErrClosed       Errno = 1110 // this end was closed before
	ErrInternal     Errno = 1111 // an error of the IRMd's or the IPCP's own: see its log
	ErrQoS          Errno = 1112 // the layer cannot give that quality of service
	ErrCorrupt      Errno = 1113 // the other end broke the rules of the shared memory
)

var errText = map[Errno]string{
	ErrNotAllocated: "flow not allocated",
	ErrIPCPType:     "unknown layer type",
	ErrIRMd:         "no IRMd answers",
	ErrIPCP:         "no layer reaches the name",
	ErrState:        "wrong state",
	ErrFlowDown:     "flow is down",
	ErrFlowPeer:     "the other end does not answer",
	ErrName:         "unknown name",
	ErrCrypt:        "the ends do not agree on encryption",
	ErrAuth:         "authentication failed",
	ErrUsage:        "invalid value",
	ErrPermission:   "permission denied",
	ErrExists:       "exists already",
	ErrNotFound:     "not found",
	ErrTimeout:      "timed out",
	ErrCanceled:     "canceled",
	ErrNotSupported: "not supported",
	ErrMessage:      "malformed message",
	ErrVersion:      "protocol version mismatch",
	ErrLimit:        "limit reached",
	ErrClosed:       "closed",
	ErrInternal:     "internal error",
	ErrQoS:          "the layer cannot give this QoS",
	ErrCorrupt:      "the other end corrupted the flow",
}

// Error implements error.
func (e Errno) Error() string {
	if s, ok := errText[e]; ok {
		return s
	}
	return fmt.Sprintf("error %d", int(e))
}

// Is makes the sentinels that the standard library has a word for equal to
// it: errors.Is(core.ErrTimeout, os.ErrDeadlineExceeded) is true.
func (e Errno) Is(target error) bool {
	switch target {
	case os.ErrDeadlineExceeded, context.DeadlineExceeded:
		return e == ErrTimeout
	case context.Canceled:
		return e == ErrCanceled
	case fs.ErrPermission:
		return e == ErrPermission
	case fs.ErrExist:
		return e == ErrExists
	case net.ErrClosed:
		return e == ErrClosed
	}
	return false
}

// Timeout implements net.Error.
func (e Errno) Timeout() bool { return e == ErrTimeout }

// Temporary implements net.Error: an IRMd may come back, so a server's accept
// loop goes on.
func (e Errno) Temporary() bool { return e == ErrTimeout || e == ErrIRMd }

// ContextError returns the sentinel for the error of a context that is done.
func ContextError(err error) Errno {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrTimeout
	}
	return ErrCanceled
}
