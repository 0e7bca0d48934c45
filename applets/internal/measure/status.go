package measure

import (
	"fmt"
	"io"
	"sync"
	"time"

	"o7s/applets"
)

// Status is the last line of a terminal. It shows the progress of a long run:
// each text replaces the one before, and the line is erased before any other
// line is written. A nil Status writes nothing: the output is no terminal.
type Status struct {
	w io.Writer

	mu    sync.Mutex // guards shown; held across the Write
	shown bool
}

// NewStatus returns the Status at w, nil unless terminal is set.
func NewStatus(w io.Writer, terminal bool) *Status {
	if !terminal {
		return nil
	}
	return &Status{w: w}
}

// Show replaces the line by text, which is ASCII. It cuts the text to the width
// of the terminal: a line that is wrapped could not be erased.
func (s *Status) Show(text string) {
	if s == nil {
		return
	}
	if n, _ := applets.Size(s.w); n > 0 && len(text) >= n {
		text = text[:n-1]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = true
	fmt.Fprintf(s.w, "\r\x1b[K%s", text)
}

// Close erases the line.
func (s *Status) Close() { s.erase() }

func (s *Status) erase() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown {
		s.shown = false
		fmt.Fprint(s.w, "\r\x1b[K")
	}
}

// Progress returns the text for a run that has taken took so far: its rate now, and
// the time that is left where total, its whole length, is above 0.
func Progress(what string, took, total time.Duration) string {
	if total <= 0 {
		return fmt.Sprintf("%s, %v so far", what, took.Round(time.Second))
	}
	return fmt.Sprintf("%s, %v of %v, %v left", what, took.Round(time.Second), total, max(0, total-took).Round(time.Second))
}
