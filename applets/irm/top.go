package irm

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"o7s/applets"
	"o7s/core"
	"o7s/core/view"
)

var top = &command{
	name:    "top",
	summary: "show the busiest flows, again and again, until Ctrl-C",
	keywords: []keyword{
		{name: "interval", value: "SECONDS", check: checkSeconds, help: "how long each look takes; 1 if not given"},
		{name: "sort", value: "COLUMN", check: checkOrder, suggest: orderNames, help: "what comes first: rate, sent, received, id, pid, program or name; rate if not given"},
	},
	flags:   []toggle{{"--once", "look once, and end"}, {jsonFlag.name, "print each look as a line of JSON, with the keys that docs/json.md explains"}},
	notes:   "The largest comes first, of a rate or an amount; else the first of the alphabet.\nrate is what a flow sends and receives in a second.\n\n" + ringNotes,
	example: "irm top\nirm top sort received\nirm top --once interval 5",
	tried:   func(input) string { return "watch the flows" },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		every := time.Second
		if s := in.one("interval"); s != "" {
			f, err := strconv.ParseFloat(s, 64)
			if err != nil {
				return err
			}
			every = time.Duration(f * float64(time.Second))
		}
		order := orders[0]
		for _, o := range orders {
			if o.name == in.one("sort") {
				order = o
			}
		}
		redraw := out.terminal && !in.flags["--once"] && !in.flags["--json"]
		if redraw {
			defer fmt.Fprint(out, showCursor+"\n")
		}
		before, err := d.Flows(ctx)
		if err != nil {
			return err
		}
		for at := time.Now(); ; {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(every):
			}
			flows, err := d.Flows(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			now := time.Now()
			r := rates(before, flows, now.Sub(at), order)
			before, at = flows, now
			switch {
			case in.flags["--json"]:
				err = out.jsonLine(r)
			case redraw:
				if w, h := applets.Size(out.Writer); h > 0 { // it may have changed
					out.width, out.rows = w, h
				}
				err = out.redraw(r, every, order)
			default:
				err = out.top(r)
			}
			if err != nil || in.flags["--once"] {
				return err
			}
		}
	},
}

// order is a way to sort the flows.
type order struct {
	name    string
	compare func(a, b rate) int
}

// orders are the ways to sort the flows, the usual one first.
var orders = []order{
	{"rate", func(a, b rate) int { return cmp.Compare(b.Sent+b.Read, a.Sent+a.Read) }},
	{"sent", func(a, b rate) int { return cmp.Compare(b.Flow.Sent, a.Flow.Sent) }},
	{"received", func(a, b rate) int { return cmp.Compare(b.Flow.Read, a.Flow.Read) }},
	{"id", func(a, b rate) int { return cmp.Compare(a.ID, b.ID) }},
	{"pid", func(a, b rate) int { return cmp.Compare(a.PID, b.PID) }},
	{"program", func(a, b rate) int { return cmp.Compare(a.Program, b.Program) }},
	{"name", func(a, b rate) int { return cmp.Compare(a.Name, b.Name) }},
}

func orderNames() (names []string) {
	for _, o := range orders {
		names = append(names, o.name)
	}
	return names
}

func checkOrder(s string) error {
	if !slices.Contains(orderNames(), s) {
		return fmt.Errorf("%w: top sorts by %s", core.ErrUsage, alternatives(orderNames()))
	}
	return nil
}

// rate is a flow with its speed, in bytes of its rings a second.
type rate struct {
	view.Flow
	Sent uint64 `json:"sent_per_second"`
	Read uint64 `json:"read_per_second"`
}

// rates returns the speed of each flow between two snapshots, d apart, in order.
func rates(before, now []view.Flow, d time.Duration, o order) []rate {
	was := make(map[core.FlowID]view.Flow)
	for _, f := range before {
		was[f.ID] = f
	}
	all := []rate{}
	for _, f := range now {
		r := rate{Flow: f}
		if w, ok := was[f.ID]; ok && w.Since == f.Since && w.Counted && f.Counted && d > 0 {
			r.Sent = perSecond(f.Sent, w.Sent, d)
			r.Read = perSecond(f.Read, w.Read, d)
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, o.compare)
	return all
}

// perSecond returns the speed between two counts. It is 0 if the count fell, which
// only a process that falsifies the figures of its flow can cause.
func perSecond(now, was uint64, d time.Duration) uint64 {
	if now < was {
		return 0
	}
	return uint64(float64(now-was) / d.Seconds())
}

// top prints one snapshot.
func (s *screen) top(r []rate) error {
	if len(r) == 0 {
		_, err := fmt.Fprint(s, "No flows in system.\n\n")
		return err
	}
	var buf bytes.Buffer
	b := s.to(&buf)
	t := table{{title: "id"}, {title: "pid"}, {title: "program", spare: 1}, {title: "name"}, {title: "sent/s", width: 10}, {title: "received/s", width: 10}, {title: "sent", spare: 2}, {title: "received", spare: 3}}
	t.titles()
	for _, f := range r {
		t.add(strconv.Itoa(int(f.ID)), strconv.Itoa(f.PID), f.Program, f.Name, amount(f.Sent), amount(f.Read), amount(f.Flow.Sent), amount(f.Flow.Read))
	}
	t.print(b)
	fmt.Fprintln(b)
	_, err := s.Write(buf.Bytes())
	return err
}

// What a terminal is told, in the words of ECMA-48 and xterm.
const (
	home       = "\x1b[H"
	eraseLine  = "\x1b[K" // from the cursor on
	eraseBelow = "\x1b[J"
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
)

// redraw prints one snapshot over the last one, as many flows as the terminal has
// room for. Nothing blinks: each line is written over, and erased only behind its end.
func (s *screen) redraw(r []rate, every time.Duration, o order) error {
	var buf bytes.Buffer
	b := s.to(&buf)
	ends := len(r)
	if s.rows > 0 {
		r = r[:min(len(r), max(s.rows-7, 1))] // a title, the frame with its own title, two empty lines
	}
	title := fmt.Sprintf("%s, by %s, every %v; Ctrl-C ends it", applets.Count(ends, "end")+" of flows", o.name, every)
	if s.width > 0 {
		title = cut(title, s.width)
	}
	fmt.Fprintln(b, title)
	if err := b.top(r); err != nil {
		return err
	}
	text := strings.ReplaceAll(strings.TrimSuffix(buf.String(), "\n"), "\n", eraseLine+"\n")
	_, err := fmt.Fprint(s, hideCursor+home+text+eraseLine+eraseBelow)
	return err
}

func checkSeconds(s string) error {
	if f, err := strconv.ParseFloat(s, 64); err != nil || !(f >= 0.01 && f <= 3600) {
		return fmt.Errorf("%w: an interval is 0.01 to 3600 seconds", core.ErrUsage)
	}
	return nil
}
