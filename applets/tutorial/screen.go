package tutorial

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// window is one of the terminal windows that the tutorial would take.
type window int

const (
	irmdWindow window = iota
	irmWindow
	serverWindow
	clientWindow
)

// windows has the text in the margin of each window, and its colour.
var windows = [...]struct{ margin, color string }{
	irmdWindow:   {"irmd   |", "\x1b[36m"},
	irmWindow:    {"irm    |", "\x1b[35m"},
	serverWindow: {"server |", "\x1b[32m"},
	clientWindow: {"client |", "\x1b[33m"},
}

const (
	bold  = "\x1b[1m"
	plain = "\x1b[0m"

	// columns is how long a line of text gets.
	columns = 76
)

// screen shows the text of the tutorial and the lines of all windows in one
// stream. Goroutines may share it.
type screen struct {
	color bool
	fail  func(error) // told once why nothing can be shown any more

	mu    sync.Mutex // guards the fields below; one Write at a time
	w     io.Writer
	err   error // of the Write that failed; there is none after it
	lines bool  // the last thing shown was a window's
	blank bool  // it was an empty line, or there was none
}

func newScreen(w io.Writer, color bool, fail func(error)) *screen {
	return &screen{w: w, color: color, fail: fail, blank: true}
}

// title shows the heading of a step.
func (s *screen) title(n int, title string) {
	s.show(false, true, s.paint(bold, fmt.Sprintf("Step %d: %s", n, title))+"\n\n")
}

// say shows the text that fmt.Sprintf makes. It breaks the text into lines of its own.
// An empty line ends a paragraph.
func (s *screen) say(format string, args ...any) {
	var b strings.Builder
	for i, par := range strings.Split(strings.TrimSpace(fmt.Sprintf(format, args...)), "\n\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(fill(par))
	}
	s.show(false, false, b.String())
}

// command shows a command as it is typed in w.
func (s *screen) command(w window, words string) {
	s.show(true, false, s.margin(w)+" "+s.paint(bold, "$ "+words)+"\n")
}

// line shows a line that came in w.
func (s *screen) line(w window, text string) {
	if text != "" {
		text = " " + text
	}
	s.show(true, false, s.margin(w)+text+"\n")
}

func (s *screen) margin(w window) string { return s.paint(windows[w].color, windows[w].margin) }

func (s *screen) paint(color, text string) string {
	if !s.color {
		return text
	}
	return color + text + plain
}

// show writes text, which is whole lines. An empty line comes first where apart is
// set, and between the tutorial's own text and lines of the windows.
func (s *screen) show(lines, apart bool, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	if (apart || lines != s.lines) && !s.blank {
		text = "\n" + text
	}
	s.lines, s.blank = lines, strings.HasSuffix(text, "\n\n")
	if _, err := io.WriteString(s.w, text); err != nil {
		s.err = fmt.Errorf("print: %w", err)
		s.fail(s.err)
	}
}

// failed returns why something could not be shown.
func (s *screen) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fill sets the words of text in lines of at most columns characters.
func fill(text string) string {
	var b strings.Builder
	n := 0
	for _, word := range strings.Fields(text) {
		switch {
		case n == 0:
		case n+1+len(word) > columns:
			b.WriteByte('\n')
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}
