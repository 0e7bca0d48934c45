package measure

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"o7s/core/logs"
)

// Lines writes lines for people, each with one Write, so that lines of several
// goroutines and processes never mix. Errors of the stream are told by
// applets.Main. Several goroutines may call its methods at once.
type Lines struct {
	w      io.Writer
	prefix string
	status *Status // nil: none

	mu  sync.Mutex // guards buf; held across the Write
	buf []byte
}

// NewLines returns Lines that starts each line it writes to w with prefix.
func NewLines(w io.Writer, prefix string) *Lines { return &Lines{w: w, prefix: prefix} }

// Above makes l's lines appear above the line that s keeps on a terminal. It
// is called before the first line; a nil s changes nothing.
func (l *Lines) Above(s *Status) { l.status = s }

// Printf writes what fmt.Printf would.
func (l *Lines) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf[:0], l.prefix...)
	l.buf = fmt.Appendf(l.buf, format, args...)
	l.status.erase()
	_, _ = l.w.Write(l.buf)
}

// Failure writes err as one line.
func (l *Lines) Failure(err error) { l.Printf("%s\n", logs.Escape(err.Error())) }

// JSON writes v as one line of JSON; where indent is set, as lines for people.
// v must be something that JSON can say.
func (l *Lines) JSON(v any, indent bool) {
	b, err := json.Marshal(v)
	if indent {
		b, err = json.MarshalIndent(v, "", "  ")
	}
	if err != nil {
		panic(err) // a programmer's error
	}
	l.Printf("%s\n", b)
}
