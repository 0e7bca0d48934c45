// Package logs prints the lines that operators read,
//
//	==06773== irmd(II): Created IPCP 6794.
//
// as Tutorial 01 shows them. A record is a sentence. The package has a slog
// handler that writes such lines, and a Logger that formats sentences for it. It
// chooses no level and opens no file.
package logs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Options says how lines look and where they go.
type Options struct {
	Writer io.Writer    // gets one Write for each line
	Level  slog.Leveler // nil: info
	JSON   bool         // one JSON object a line instead of text
	Color  bool         // colour the level; for a terminal
}

// Logger writes sentences for one component. It is safe for concurrent use.
type Logger struct {
	h slog.Handler
}

// New returns a Logger without a component.
func New(o Options) *Logger {
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	return &Logger{(&handler{o: o, out: new(output), pid: os.Getpid()}).of("")}
}

// NewHandler returns a Logger above h, for a destination of another kind.
func NewHandler(h slog.Handler) *Logger { return &Logger{h} }

// Discard returns a Logger that writes nothing.
func Discard() *Logger { return &Logger{slog.DiscardHandler} }

// With returns a Logger for component: irmd, ipcpd/ipcp, ipcpd-local.
func (l *Logger) With(component string) *Logger {
	return &Logger{l.h.WithAttrs([]slog.Attr{slog.String("component", component)})}
}

// Debugf writes a line of level DB.
func (l *Logger) Debugf(format string, args ...any) { l.log(slog.LevelDebug, format, args) }

// Infof writes a line of level II.
func (l *Logger) Infof(format string, args ...any) { l.log(slog.LevelInfo, format, args) }

// Warnf writes a line of level WW.
func (l *Logger) Warnf(format string, args ...any) { l.log(slog.LevelWarn, format, args) }

// Errorf writes a line of level EE.
func (l *Logger) Errorf(format string, args ...any) { l.log(slog.LevelError, format, args) }

func (l *Logger) log(level slog.Level, format string, args []any) {
	ctx := context.Background()
	if !l.h.Enabled(ctx, level) {
		return
	}
	// An error of the log itself has nowhere to go.
	if h, ok := l.h.(*handler); ok && !h.o.JSON {
		_ = h.sentence(level, format, args)
		return
	}
	_ = l.h.Handle(ctx, slog.NewRecord(time.Now(), level, fmt.Sprintf(format, args...), 0))
}

// Level returns the two letters of level: DB, II, WW or EE.
func Level(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "DB"
	case level < slog.LevelWarn:
		return "II"
	case level < slog.LevelError:
		return "WW"
	}
	return "EE"
}

// LevelNames returns the words that ParseLevel knows, from the lowest level up.
func LevelNames() []string { return []string{"debug", "info", "warn", "error"} }

// ParseLevel returns the level called debug, info, warn or error.
func ParseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown log level %q: it is debug, info, warn or error", s)
}

// LevelName returns the word for level that ParseLevel takes.
func LevelName(level slog.Level) string {
	switch Level(level) {
	case "DB":
		return "debug"
	case "II":
		return "info"
	case "WW":
		return "warn"
	}
	return "error"
}

type handler struct {
	o         Options
	out       *output // shared by all components
	pid       int
	component string
	head      string // of a line: the pid and the component
	attrs     []slog.Attr
}

// output serializes Writes.
type output struct {
	mu   sync.Mutex
	line []byte // the last line: the next one reuses its memory
}

func (h *handler) of(component string) *handler {
	h.component = component
	h.head = fmt.Sprintf("==%05d== %s(", h.pid, component)
	return h
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.o.Level.Level()
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		if a.Key == "component" {
			c.of(a.Value.String())
			continue
		}
		c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], a)
	}
	return &c
}

// WithGroup implements slog.Handler. Sentences have no groups.
func (h *handler) WithGroup(string) slog.Handler { return h }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	if !h.o.JSON {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
		return h.sentence(r.Level, "%s", []any{text})
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	line := h.json(h.out.line[:0], r)
	h.out.line = line
	_, err := h.o.Writer.Write(line)
	return err
}

// sentence writes a line of text. It makes no record and no string: a line is
// to cost little.
func (h *handler) sentence(level slog.Level, format string, args []any) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	name := Level(level)
	if h.o.Color {
		name = colors[name] + name + "\x1b[0m"
	}
	line := append(h.out.line[:0], h.head...)
	line = append(line, name...)
	line = append(line, "): "...)
	n := len(line)
	if line = fmt.Appendf(line, format, args...); !plain(line[n:]) {
		line = append(line[:n], Escape(string(line[n:]))...)
	}
	for _, a := range h.attrs {
		line = append(append(line, ' '), Escape(a.String())...)
	}
	line = append(line, '\n')
	h.out.line = line
	_, err := h.o.Writer.Write(line)
	return err
}

var colors = map[string]string{"DB": "\x1b[2m", "II": "\x1b[32m", "WW": "\x1b[33m", "EE": "\x1b[31m"}

func (h *handler) json(line []byte, r slog.Record) []byte {
	fields := map[string]any{
		"time": r.Time.UTC().Format(time.RFC3339Nano), "pid": h.pid,
		"component": h.component, "level": Level(r.Level), "msg": r.Message,
	}
	for _, a := range h.attrs {
		fields[a.Key] = a.Value.String()
	}
	r.Attrs(func(a slog.Attr) bool { fields[a.Key] = a.Value.String(); return true })
	b, err := json.Marshal(fields)
	if err != nil { // strings and a pid: cannot happen
		b = []byte(strconv.Quote(err.Error()))
	}
	return append(append(line, b...), '\n')
}

// Escape returns s with each character that does not print written as in a
// quoted string of Go. So a name with a line feed forges no line, and a name
// with an escape sequence moves no cursor.
func Escape(s string) string {
	if clean(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteString(s[i : i+n])
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		i += n
	}
	return b.String()
}

// Word returns s as one word of a command line for bash. It has quotes where it
// needs them, and no character that does not print.
func Word(s string) string {
	if e := Escape(s); e != s {
		return "$'" + Escape(strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s)) + "'"
	}
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,") == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plain reports whether s is ASCII that prints.
func plain[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func clean(s string) bool {
	if plain(s) {
		return true
	}
	for _, r := range s {
		if r < ' ' || r > '~' && (r == utf8.RuneError || !unicode.IsPrint(r)) {
			return false
		}
	}
	return true
}
