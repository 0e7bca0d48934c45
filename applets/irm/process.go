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

var processShow = &command{
	name:    "show",
	summary: "show a process, what is bound to it and its flows",
	operand: pidOperand,
	flags:   []toggle{jsonFlag},
	example: "irm process show 6810",
	limit:   quick,
	tried:   func(in input) string { return "show process " + in.operand },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		p, err := look(ctx, d)
		if err != nil {
			return err
		}
		pid, err := parsePID(in.operand)
		if err != nil {
			return err
		}
		q, ok := p.by().processes[pid]
		if !ok {
			return fmt.Errorf("%w: no process %d uses flows here: \"irm process list\" shows those that do", core.ErrNotFound, pid)
		}
		bindings := of(p.Bindings, func(b view.Binding) bool { return b.PID == pid })
		flows := of(p.Flows, func(f view.Flow) bool { return f.PID == pid })
		if in.flags["--json"] {
			return out.json(struct {
				view.Process
				Bindings []view.Binding `json:"bindings"`
				FlowRows []view.Flow    `json:"flows"`
			}{q, bindings, flows})
		}
		started := ""
		if q.Auto {
			started = "by irmd, when nobody accepted"
		}
		out.fields("process", strconv.Itoa(pid), "program", q.Program, "path", q.Path, "uid", strconv.Itoa(q.UID), "accepts", accepts(q), "started", started)
		for _, b := range bindings {
			out.fields("name", b.Name+", bound by "+boundBy[b.By])
		}
		for _, f := range flows {
			out.fields("flow", fmt.Sprintf("%d to %s, %s, layer %s, %s", f.ID, f.Name, f.Role, f.Layer, f.State))
		}
		return nil
	},
}

var boundBy = map[string]string{"process": "its pid", "program": "its program", "listener": "itself"}

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
