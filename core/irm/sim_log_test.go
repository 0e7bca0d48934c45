package irm

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"

	"o7s/core/logs"
)

// logger returns a Logger for a process that writes while alive.
func (w *sim) logger(alive func() bool, pid int) *logs.Logger {
	return logs.NewHandler(simHandler{w: w, pid: pid, alive: alive})
}

type simHandler struct {
	slog.Handler
	w         *sim
	pid       int
	alive     func() bool
	component string
}

func (h simHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h simHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.component = attrs[0].Value.String()
	return h
}

func (h simHandler) Handle(_ context.Context, r slog.Record) error {
	h.w.pause(stopAtLine)
	if h.alive() {
		h.w.note(fmt.Sprintf("%d %s: %s", h.pid, h.component, r.Message))
		h.w.model.line(h.pid, r.Message)
	}
	h.w.pause(stopAtLine)
	return nil
}

// note adds a line to what happened.
func (w *sim) note(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%x %d %s", w.trace, w.step, line)
	w.trace = sum.Sum64()
	if w.err != nil {
		return
	}
	if len(w.lines) >= 1000 {
		w.lines = append(w.lines[:0], w.lines[500:]...)
	}
	w.lines = append(w.lines, fmt.Sprintf("%d| %s", w.step, line))
}

// tail returns the last of what happened before it was wrong.
func (w *sim) tail() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines[max(0, len(w.lines)-60):]
}
