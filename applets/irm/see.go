package irm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/view"
)

// seer is the part of the IRMd that shows the system.
type seer interface {
	System(ctx context.Context) (view.System, error)
	IPCPs(ctx context.Context) ([]view.IPCP, error)
	Names(ctx context.Context) ([]view.Name, error)
	Registrations(ctx context.Context) ([]view.Registration, error)
	Bindings(ctx context.Context) ([]view.Binding, error)
	Programs(ctx context.Context) ([]view.Program, error)
	Processes(ctx context.Context) ([]view.Process, error)
	Flows(ctx context.Context) ([]view.Flow, error)
	Watch(ctx context.Context, tell func(view.Event)) error
	SetLogLevel(ctx context.Context, level string) error
}

// picture is all that a system shows of itself.
type picture struct {
	System        view.System         `json:"irmd"`
	IPCPs         []view.IPCP         `json:"ipcps"`
	Names         []view.Name         `json:"names"`
	Registrations []view.Registration `json:"registrations"`
	Bindings      []view.Binding      `json:"bindings"`
	Programs      []view.Program      `json:"programs"`
	Processes     []view.Process      `json:"processes"`
	Flows         []view.Flow         `json:"flows"`

	index *index // see by
}

// index finds the rows of a picture that belong to one name, IPCP, process or flow.
// Without it, showing a system would take time for each pair of rows.
type index struct {
	registered, knownBy map[string][]view.Registration // by name, by IPCP
	bound               map[string][]view.Binding      // by name
	programs            map[string][]view.Program      // by name
	processes           map[int]view.Process           // by pid
	flows               map[int]view.Flow              // by id
}

// by returns p's index. What is in p does not change after the first call.
func (p *picture) by() *index {
	if p.index != nil {
		return p.index
	}
	x := &index{
		registered: grouped(p.Registrations, func(r view.Registration) string { return r.Name }),
		knownBy:    grouped(p.Registrations, func(r view.Registration) string { return r.IPCP }),
		bound:      grouped(p.Bindings, func(b view.Binding) string { return b.Name }),
		programs:   grouped(p.Programs, func(q view.Program) string { return q.Name }),
		processes:  make(map[int]view.Process),
		flows:      make(map[int]view.Flow),
	}
	for _, q := range p.Processes {
		x.processes[q.PID] = q
	}
	for _, f := range p.Flows {
		x.flows[int(f.ID)] = f
	}
	p.index = x
	return x
}

func grouped[T any, K comparable](rows []T, key func(T) K) map[K][]T {
	groups := make(map[K][]T)
	for _, r := range rows {
		groups[key(r)] = append(groups[key(r)], r)
	}
	return groups
}

// look fetches the picture. Its lists are fetched one after the other, so they may
// contradict each other in details.
func look(ctx context.Context, d irmd) (*picture, error) {
	var p picture
	var err error
	fetch := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	fetch(func() (err error) { p.System, err = d.System(ctx); return })
	fetch(func() (err error) { p.IPCPs, err = d.IPCPs(ctx); return })
	fetch(func() (err error) { p.Names, err = d.Names(ctx); return })
	fetch(func() (err error) { p.Registrations, err = d.Registrations(ctx); return })
	fetch(func() (err error) { p.Bindings, err = d.Bindings(ctx); return })
	fetch(func() (err error) { p.Programs, err = d.Programs(ctx); return })
	fetch(func() (err error) { p.Processes, err = d.Processes(ctx); return })
	fetch(func() (err error) { p.Flows, err = d.Flows(ctx); return })
	return &p, err
}

// of returns the rows for which f is true. It never returns nil, so that JSON has a
// list.
func of[T any](rows []T, f func(T) bool) []T {
	some := []T{}
	for _, r := range rows {
		if f(r) {
			some = append(some, r)
		}
	}
	return some
}

func (p *picture) process(pid int) string {
	if q, ok := p.by().processes[pid]; ok {
		return logs.Escape(q.Program)
	}
	return "?"
}

// say prints a line and escapes its args. On a terminal that is narrower than the
// line, it continues on the next lines, indented.
func (s *screen) say(format string, args ...any) {
	text := escaped(format, args)
	line := strings.TrimLeft(text, " ")
	indent := text[:len(text)-len(line)]
	s.wrap("", indent, indent+"    ", "", strings.Split(line, " "))
}

// escaped is Sprintf with args escaped.
func escaped(format string, args []any) string {
	for i, a := range args {
		if t, ok := a.(string); ok {
			args[i] = logs.Escape(t)
		}
	}
	return fmt.Sprintf(format, args...)
}

// wrap prints words in as many lines as the width of the terminal needs. The first
// line begins with first, the others begin with rest. All but the last end in more.
// A word that is longer than a line is not split.
func (s *screen) wrap(color, first, rest, more string, words []string) {
	indent, line := first, words[0]
	for _, w := range words[1:] {
		if s.width > 0 && width(indent+line+" "+w+more) > s.width {
			fmt.Fprintf(s, "%s%s\n", indent, s.paint(color, line+more))
			indent, line = rest, w
		} else {
			line += " " + w
		}
	}
	fmt.Fprintf(s, "%s%s\n", indent, s.paint(color, line))
}

// fields prints "key  value" lines of a show.
func (s *screen) fields(pairs ...string) {
	wide := 13
	for i := 0; i+1 < len(pairs); i += 2 {
		wide = max(wide, width(pairs[i]))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			name := pairs[i] + strings.Repeat(" ", wide-width(pairs[i]))
			fmt.Fprintf(s, "%s %s\n", s.paint(bold, name), logs.Escape(pairs[i+1]))
		}
	}
}

// hint prints what is missing and the command that helps, if there is one. On a
// terminal that is too narrow for both, the command begins a new line. It is split
// with backslashes, so that a shell reads the lines as one command.
func (s *screen) hint(indent string, typed []string, format string, args ...any) {
	text := "! " + escaped(format, args)
	if len(typed) > 0 {
		text += ":"
		if line := text + " " + strings.Join(typed, " "); s.width == 0 || width(indent+line) <= s.width {
			fmt.Fprintf(s, "%s%s\n", indent, s.paint(bad, line))
			return
		}
	}
	s.wrap(bad, indent, indent+"  ", "", strings.Split(text, " "))
	if len(typed) > 0 {
		s.wrap(bad, indent+"    ", indent+"    ", " \\", typed)
	}
}

// typed returns the words of a command. Each %s is replaced by one of names, quoted
// for a shell.
func typed(command string, names ...string) []string {
	words := strings.Fields(command)
	for i := range words {
		if words[i] == "%s" {
			words[i], names = logs.Word(names[0]), names[1:]
		}
	}
	return words
}

// ago returns how long ago the RFC 3339 time was, to the second.
func ago(stamp string) string {
	t, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return "?"
	}
	return max(time.Since(t), 0).Truncate(time.Second).String()
}

// amount returns n bytes in a unit that people read.
func amount(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[u])
}

// missing returns the error for a thing that does not exist, for show.
func missing(what, which, list string) error {
	return fmt.Errorf("%w: %s %q: \"irm %s\" shows what there is", core.ErrNotFound, what, which, list)
}
