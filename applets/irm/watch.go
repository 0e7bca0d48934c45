package irm

import (
	"context"
	"fmt"
	"time"

	"o7s/core/logs"
	"o7s/core/view"
	"o7s/ipc/irmctl"
)

var watch = &command{
	name:    "watch",
	summary: "tell what happens, as it happens, until Ctrl-C",
	flags:   []toggle{{jsonFlag.name, "print each event as a line of JSON, with the keys that docs/json.md explains"}},
	notes:   "It tells of processes, names, bindings, registrations, IPCPs and flows.",
	example: "irm watch\nirm watch --json",
	tried:   func(input) string { return "watch" },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err := d.Watch(ctx, func(e view.Event) {
			if e.Time == "" { // the first one comes before any change
				e.Time = time.Now().Format(time.RFC3339Nano)
			}
			if err := out.event(e, in.flags["--json"]); err != nil {
				cancel() // nobody reads any more
			}
		})
		return err
	},
}

func (s *screen) event(e view.Event, asJSON bool) error {
	if asJSON {
		return s.jsonLine(e)
	}
	at := e.Time
	if t, err := time.Parse(time.RFC3339Nano, e.Time); err == nil {
		at = t.Local().Format("15:04:05.000")
	}
	text := ""
	if e.Event == irmctl.Watching {
		text = " Ctrl-C ends it"
	}
	if e.Flow != nil {
		text += fmt.Sprintf(" flow %d", *e.Flow)
	}
	if e.PID != 0 {
		text += fmt.Sprintf(" pid %d", e.PID)
	}
	for _, w := range [][2]string{{"", e.Program}, {"name ", e.Name}, {"IPCP ", e.IPCP}, {"layer ", e.Layer}, {"other end at ", e.From}, {"", e.State}, {"reason ", e.Reason}} {
		if w[1] != "" {
			text += " " + w[0] + logs.Escape(w[1])
		}
	}
	_, err := fmt.Fprintf(s, "%s %s%s\n", s.paint(faint, at), s.paint(bold, e.Event), text)
	return err
}
