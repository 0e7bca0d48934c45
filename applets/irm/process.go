package irm

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"o7s/core"
	"o7s/core/view"
)

var processList = &command{
	name:    "list",
	summary: "show the processes that use flows",
	keywords: []keyword{
		{name: "program", value: "PROGRAM", check: core.CheckName, help: "only those of this program"},
		{name: "name", value: "NAME", check: core.CheckName, help: "only those bound to this name"},
	},
	flags:   []toggle{jsonFlag},
	notes:   "Each * in PROGRAM or NAME stands for any number of characters.",
	example: "irm process list\nirm process list name oping-server",
	limit:   quick,
	tried:   func(input) string { return "list processes" },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		all, err := d.Processes(ctx)
		if err != nil {
			return err
		}
		bindings, err := d.Bindings(ctx)
		if err != nil {
			return err
		}
		names := make(map[int][]string)
		for _, b := range bindings {
			names[b.PID] = append(names[b.PID], b.Name)
		}
		list := of(all, func(p view.Process) bool {
			bound := in.one("name") == ""
			for _, n := range names[p.PID] {
				bound = bound || core.Match(in.one("name"), n)
			}
			return bound && wanted(in, "program", p.Program)
		})
		if in.flags["--json"] {
			return out.json(list)
		}
		if len(list) == 0 {
			fmt.Fprintf(out, "No %sprocesses in system.\n\n", such(len(all)))
			return nil
		}
		t := table{{title: "pid"}, {title: "uid", spare: 1}, {title: "program"}, {title: "accepts"}, {title: "flows"}, {title: "names"}}
		t.titles()
		for _, p := range list {
			t.add(strconv.Itoa(p.PID), strconv.Itoa(p.UID), p.Program, accepts(p), strconv.Itoa(p.Flows), strings.Join(names[p.PID], " "))
		}
		t.print(out)
		fmt.Fprintln(out)
		return nil
	},
}

func accepts(p view.Process) string {
	switch {
	case p.Accepting:
		return "yes"
	case p.Listeners > 0:
		return "busy"
	}
	return "no"
}

// titles makes each column as wide as its title.
func (t table) titles() {
	for i := range t {
		t[i].width = max(t[i].width, width(t[i].title))
	}
}
