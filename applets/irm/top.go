package irm

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"o7s/core"
	"o7s/core/view"
)

var top = &command{
	name:    "top",
	summary: "show the busiest flows, again and again, until Ctrl-C",
	keywords: []keyword{
		{name: "interval", value: "SECONDS", check: checkSeconds, help: "how long each look takes; 1 if not given"},
	},
	flags:   []toggle{{"--once", "look once, and end"}, {jsonFlag.name, "print each look as a line of JSON, with the keys that docs/json.md explains"}},
	notes:   ringNotes,
	example: "irm top\nirm top --once interval 5",
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
			r := rates(before, flows, now.Sub(at))
			before, at = flows, now
			if in.flags["--json"] {
				err = out.jsonLine(r)
			} else {
				err = out.top(r, !in.flags["--once"])
			}
			if err != nil || in.flags["--once"] {
				return err
			}
		}
	},
}

// rate is a flow with its speed, in bytes of its rings a second.
type rate struct {
	view.Flow
	Sent uint64 `json:"sent_per_second"`
	Read uint64 `json:"read_per_second"`
}

// rates returns the speed of each flow between two snapshots, the fastest first.
func rates(before, now []view.Flow, d time.Duration) []rate {
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
	slices.SortStableFunc(all, func(a, b rate) int { return cmp.Compare(b.Sent+b.Read, a.Sent+a.Read) })
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

// top prints one snapshot. It clears a terminal first.
func (s *screen) top(r []rate, clear bool) error {
	var buf bytes.Buffer
	b := s.to(&buf)
	if s.rows > 0 && clear {
		buf.WriteString("\x1b[H\x1b[2J")
		r = r[:min(len(r), max(s.rows-5, 1))]
	}
	if len(r) == 0 {
		fmt.Fprint(b, "No flows in system.\n\n")
	} else {
		t := table{{title: "id"}, {title: "pid"}, {title: "program", spare: 1}, {title: "name"}, {title: "sent/s", width: 10}, {title: "received/s", width: 10}, {title: "sent", spare: 2}, {title: "received", spare: 3}}
		t.titles()
		for _, f := range r {
			t.add(strconv.Itoa(int(f.ID)), strconv.Itoa(f.PID), f.Program, f.Name, amount(f.Sent), amount(f.Read), amount(f.Flow.Sent), amount(f.Flow.Read))
		}
		t.print(b)
		fmt.Fprintln(b)
	}
	_, err := s.Write(buf.Bytes())
	return err
}

func checkSeconds(s string) error {
	if f, err := strconv.ParseFloat(s, 64); err != nil || !(f >= 0.01 && f <= 3600) {
		return fmt.Errorf("%w: an interval is 0.01 to 3600 seconds", core.ErrUsage)
	}
	return nil
}
