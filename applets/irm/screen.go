package irm

import (
	"encoding/json"
	"io"
	"os"

	"o7s/applets"
)

// screen is where a command prints.
type screen struct {
	io.Writer
	terminal bool
	width    int  // columns; 0: it is no terminal, and as wide as need be
	rows     int  // 0: it is no terminal, or does not tell
	color    bool // it is a terminal, and the user wants colour
}

// newScreen returns the screen that prints to w. The user's NO_COLOR counts.
func newScreen(w io.Writer) *screen {
	s := &screen{Writer: w}
	if applets.Terminal(w) {
		s.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		s.terminal = true
		s.width, s.rows = applets.Size(w)
	}
	return s
}

// to returns a screen like s that prints to w.
func (s *screen) to(w io.Writer) *screen {
	c := *s
	c.Writer = w
	return &c
}

// The colours, by what they say.
const (
	bold  = "\x1b[1m"
	faint = "\x1b[2m"
	good  = "\x1b[32m"
	bad   = "\x1b[33m"
)

// paint returns text in a colour, where s has any; "" is none.
func (s *screen) paint(color, text string) string {
	if !s.color || color == "" || text == "" {
		return text
	}
	return color + text + "\x1b[0m"
}

// jsonFlag is the flag of every command that shows something.
var jsonFlag = toggle{"--json", "print JSON, with the keys that docs/json.md explains"}

// json prints v as JSON that people can read too.
func (s *screen) json(v any) error {
	e := json.NewEncoder(s)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// jsonLine prints v as one line.
func (s *screen) jsonLine(v any) error {
	e := json.NewEncoder(s)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
