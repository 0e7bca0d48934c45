package carry

import (
	"errors"

	"o7s/core"
)

// errno returns the number of err.
func errno(err error) core.Errno {
	if e, ok := errors.AsType[core.Errno](err); ok {
		return e
	}
	return core.ErrNotAllocated
}

// Response returns the number that stands for code in a reply on the wire: 0, or a
// negative number of the C prototype's. An error that the C prototype does not know
// becomes core.ErrNotAllocated.
func Response(code core.Errno) int32 {
	if code >= firstOwn || code < 0 {
		code = core.ErrNotAllocated
	}
	return -int32(code)
}

// firstOwn is the first error number that the C prototype does not know.
const firstOwn core.Errno = 1100

// Code returns the error for the number in a reply on the wire; 0: the reply accepts. A
// number of no error means core.ErrNotAllocated.
func Code(response int32) core.Errno {
	switch {
	case response == 0:
		return 0
	case response > 0, response < -int32(firstOwn)+1:
		return core.ErrNotAllocated
	}
	if code := core.Errno(-response); code >= core.ErrNotAllocated {
		return code
	}
	return core.ErrNotAllocated
}
