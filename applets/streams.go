package applets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"o7s/applets/internal/output"
)

// lastWait bounds how long a process that is to end waits for a reader that
// does not read.
const lastWait = 250 * time.Millisecond

// missing tells of lines that were dropped.
func missing(n uint64) string {
	if n == 1 {
		return "1 line is missing here: it was not read in time, or could not be written."
	}
	return fmt.Sprintf("%d lines are missing here: they were not read in time, or could not be written.", n)
}

// streams are the outputs of a process.
type streams struct {
	out, errs *output.Writer
	log       *output.Writer // of syslog; nil: the log is none
	service   bool
}

// open makes e's Stdout and Stderr those of this process. A tool whose Stdout
// fails is told by cancel.
func (e *Env) open(ctx context.Context, cancel context.CancelFunc) {
	s := new(streams)
	// A reader that has gone makes a write fail, and kills nobody.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	s.errs = output.New(output.NewFile(os.Stderr), output.Options{Failed: func(err error) {
		if s.service {
			tellSyslog(e.Name, "standard error", err)
		}
	}})
	s.errs.Service(func(n uint64) []byte { return fmt.Appendf(nil, "%s: %s\n", e.Name, missing(n)) })
	s.out = output.New(output.NewFile(os.Stdout), output.Options{Done: ctx.Done(), Failed: func(err error) {
		if !s.service {
			cancel()
			return
		}
		fmt.Fprintf(e.Stderr, "%s: %s\n", e.Name, goesOn("standard output", err))
	}})
	e.Stdout, e.Stderr, e.streams = s.out, s.errs, s
}

func goesOn(stream string, err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Sprintf("%s can't be written: %v; the service goes on", stream, err)
}

func tellSyslog(tag, stream string, err error) {
	s, no := output.OpenSyslog()
	if no != nil {
		return
	}
	_, _ = s.Try(output.SyslogLine(slog.LevelError, tag, goesOn(stream, err)))
	s.Close()
}

// Serve says that the applet is a service from now on. A reader of its output
// that does not read does not hold it up: lines wait in memory, at most 1 MiB,
// and more are dropped. Output that can't be written does not end the service:
// a line on stderr, or in syslog, tells of it. Notice returns the line that
// stands where n lines were dropped; nil: a line of text.
func (e *Env) Serve(notice func(n uint64) []byte) {
	if e.streams == nil {
		return
	}
	if notice == nil {
		notice = func(n uint64) []byte { return []byte(missing(n) + "\n") }
	}
	e.streams.service = true
	e.streams.out.Service(notice)
	e.streams.errs.Service(notice)
}

// syslog returns a writer of lines that output.SyslogLine made, nil where this
// system has no syslog.
func (e *Env) syslog() *output.Writer {
	s, err := output.OpenSyslog()
	if err != nil || e.streams == nil {
		return nil
	}
	w := output.New(s, output.Options{Failed: func(err error) {
		fmt.Fprintf(e.Stderr, "%s: %s\n", e.Name, goesOn("syslog", err))
	}})
	w.Service(func(n uint64) []byte { return output.SyslogLine(slog.LevelWarn, e.Name, missing(n)) })
	e.streams.log = w
	return w
}

// end writes what is still to be written, tells err and returns the exit
// status.
func (e *Env) end(ctx context.Context, err error) int {
	s := e.streams
	// A tool waits for its reader until a signal comes, a service does not.
	stop := make(chan struct{})
	soon := func() { time.AfterFunc(lastWait, func() { close(stop) }) }
	if s.service {
		soon()
	} else {
		context.AfterFunc(ctx, soon)
	}
	s.out.Flush(stop)
	if failed := s.out.Err(); failed != nil && !s.service {
		if errors.Is(failed, unix.EPIPE) {
			return statusPipe
		}
		err = fmt.Errorf("print: %w", failed)
	}
	code := status(e, err)
	s.errs.Flush(stop)
	if s.log != nil {
		s.log.Flush(stop)
	}
	return code
}
