package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"

	"o7s/core"
)

// Error is an error that the other end answered. errors.Is and errors.As find
// its Code. Where the text says no more than the code does, the answer is the
// core.Errno itself.
type Error struct {
	Code core.Errno
	Text string // the other end's words, whole: bytes of its choice
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Unwrap makes errors.Is find the sentinel.
func (e *Error) Unwrap() error { return e.Code }

// maxErrorText bounds the text of an error on its way out, in bytes.
const maxErrorText = 4096

// errorCode says with which code err crosses the socket.
func errorCode(err error) core.Errno {
	var code core.Errno
	switch {
	case errors.As(err, &code) && code > 0 && code <= math.MaxInt32:
		return code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return core.ErrTimeout
	case errors.Is(err, context.Canceled):
		return core.ErrCanceled
	}
	return core.ErrInternal
}

// errorText is the text of err, cut to maxErrorText.
func errorText(err error) string {
	var text string
	switch err {
	case nil:
		text = "the handler failed without an error"
	case context.DeadlineExceeded, context.Canceled: // in this project's words
		text = errorCode(err).Error()
	default:
		text = err.Error()
	}
	return text[:min(len(text), maxErrorText)]
}

// answered is errorCode and errorText at the other end.
func answered(code core.Errno, text string) error {
	if text == code.Error() {
		return code
	}
	return &Error{Code: code, Text: text}
}

// downError is why calls on a link that has ended fail.
func (l *Link) downError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.downErrorLocked()
}

func (l *Link) downErrorLocked() error {
	switch {
	case l.err == nil: // about to end: the reader has not seen it yet
		return fmt.Errorf("%w: the connection has ended", l.cfg.DownErr)
	case l.err == core.ErrClosed, errors.Is(l.err, core.ErrVersion):
		return l.err
	}
	if bye, ok := l.err.(*byeError); ok { // it did answer
		return &byeError{bye.reason, l.cfg.DownErr}
	}
	return fmt.Errorf("%w: %w", l.cfg.DownErr, l.err)
}

// byeError is the end of a link for which the other end has given a reason.
type byeError struct {
	reason error
	down   core.Errno // what it is to a call, 0 to the link
}

func (e *byeError) Error() string { return "the other end ended the connection: " + e.reason.Error() }

func (e *byeError) Unwrap() []error {
	if e.down == 0 {
		return []error{e.reason}
	}
	return []error{e.down, e.reason}
}
