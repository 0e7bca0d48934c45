package irm

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"o7s/applets"
	"o7s/core/ipcp"
	"o7s/core/logs"
)

// complete prints candidates for the last of words. words follow the word irm. All
// but the last may be shortened.
func complete(ctx context.Context, w io.Writer, root *command, words []string, dial func(context.Context) (irmd, error)) {
	typed, before := words[len(words)-1], words[:len(words)-1]
	c, path := root, ""
	for c.sub != nil && len(before) > 0 {
		next := c.find(before[0])
		if next == nil {
			return
		}
		c, path, before = next, strings.TrimSpace(path+" "+next.name), before[1:]
	}
	if c.sub != nil {
		for _, s := range c.sub {
			applets.Candidate(w, typed, s.name, s.summary)
		}
		applets.Candidate(w, typed, helpWord, "explain a command")
		return
	}
	for _, f := range c.flags {
		if strings.HasPrefix(typed, "-") {
			applets.Candidate(w, typed, f.name, f.help)
		}
	}
	in := input{values: make(map[string][]string), flags: make(map[string]bool)}
	before = c.takeFlags(&in, before)
	if c.operand.value != "" {
		if len(before) == 0 {
			values(ctx, w, typed, path, c.operand.value, dial)
			if !c.operand.optional {
				return
			}
		} else {
			before = before[1:]
		}
	}
	for len(before) > 0 {
		if before = c.takeFlags(&in, before); len(before) == 0 {
			break
		}
		if before[0] == endOptions && c.rest != "" {
			return
		}
		k, err := c.keyword(in, before[0])
		if err != nil {
			return
		}
		switch {
		case k.need == bare:
			in.values[k.name] = []string{k.name}
			before = before[1:]
			continue
		case len(before) > 1:
			in.values[k.name] = append(in.values[k.name], before[1])
			before = before[2:]
			continue
		case (c.types != nil || k.suggest != nil) && c.suggest(w, typed, in, k):
		default:
			values(ctx, w, typed, path, k.value, dial)
		}
		return
	}
	for _, k := range c.table(in) {
		if in.values[k.name] == nil || k.need == some {
			applets.Candidate(w, typed, k.name, k.help)
		}
	}
}

// suggest prints candidates for the value of the keyword k that this executable
// knows without an irmd: those of its layer types. in holds the words before k. It
// returns false if the irmd is to be asked.
func (c *command) suggest(w io.Writer, typed string, in input, k keyword) bool {
	var all []string
	switch {
	case k.suggest != nil:
		all = k.suggest()
	case k.value == "TYPE":
		for _, t := range c.types {
			all = append(all, t.Name)
		}
	case k.value == "HASH":
		t, _ := ipcp.Find(c.types, in.one("type"))
		for _, a := range t.Algorithms() {
			all = append(all, a.String())
		}
	default:
		return slices.ContainsFunc(c.table(in)[len(c.keywords):], func(o keyword) bool { return o.name == k.name })
	}
	for _, v := range all {
		applets.Candidate(w, typed, v, "")
	}
	return true
}

// values prints candidates for the values that help calls value. It asks the running
// irmd for names of things that exist.
func values(ctx context.Context, w io.Writer, typed, path, value string, dial func(context.Context) (irmd, error)) {
	fixed := map[string][]string{
		"POLICY": {"round-robin", "spillover"},
		"LEVEL":  logs.LevelNames(),
	}
	for _, v := range fixed[value] {
		applets.Candidate(w, typed, v, "")
	}
	if fixed[value] != nil {
		return
	}
	d, err := dial(ctx)
	if err != nil {
		return
	}
	defer d.Close()
	if strings.HasPrefix(path, "ipcp ") && value == "NAME" {
		value = "IPCP"
	}
	switch value {
	case "NAME", "FILTER":
		names, _ := d.Names(ctx)
		for _, n := range names {
			applets.Candidate(w, typed, n.Name, n.Policy)
		}
	case "IPCP", "LAYER":
		ipcps, _ := d.IPCPs(ctx)
		for _, i := range ipcps {
			if value == "IPCP" {
				applets.Candidate(w, typed, i.Name, i.Type)
			} else {
				applets.Candidate(w, typed, i.Layer, i.Type)
			}
		}
	case "TYPE":
		s, _ := d.System(ctx)
		for _, t := range s.Types {
			applets.Candidate(w, typed, t, "")
		}
	case "PID":
		all, _ := d.Processes(ctx)
		for _, p := range all {
			applets.Candidate(w, typed, strconv.Itoa(p.PID), p.Program)
		}
	case "ID":
		flows, _ := d.Flows(ctx)
		for _, f := range flows {
			applets.Candidate(w, typed, strconv.Itoa(int(f.ID)), f.Program+" "+f.Role+" of "+f.Name)
		}
	case "PROGRAM":
		programs, _ := d.Programs(ctx)
		for _, p := range programs {
			applets.Candidate(w, typed, p.Path, p.Name)
		}
	}
}

// manual returns the page irm(8), made of the command table.
func manual(root *command) string {
	p := applets.NewPage("irm", root.summary)
	p.Section("SYNOPSIS")
	p.Code("irm COMMAND ...\nirm COMMAND --help")
	p.Section("DESCRIPTION")
	p.Text("irm asks the running irmd, of this user or else of root. A command that was done says nothing. Commands and keywords may be shortened: each word means the first in its table of which it is the beginning, so \"irm i b t local n x l y\" bootstraps an IPCP.")
	p.Section("COMMANDS")
	eachCommand(root, "", func(c *command, path string) {
		p.Sub(usage(c, "irm "+path))
		p.Text(strings.ToUpper(c.summary[:1]) + c.summary[1:] + ".")
		if c.operand.value != "" {
			p.Item(c.operand.value, c.operand.help)
		}
		for _, k := range c.keywords {
			p.Item(strings.TrimSpace(k.name+" "+k.value), k.help)
		}
		for _, f := range c.flags {
			p.Item(f.name, f.help)
		}
		if c.rest != "" {
			p.Item("-- "+c.rest+"...", "the words after --, as they are")
		}
		c.typeOptions(func(title string, options []keyword) {
			p.Text(title)
			for _, k := range options {
				p.Item(strings.TrimSpace(k.name+" "+k.value), k.help)
			}
		})
		if c.notes != "" {
			p.Text(c.notes)
		}
		p.Text("Example:")
		p.Code("    " + strings.ReplaceAll(c.example, "\n", "\n    "))
	})
	p.Section("EXAMPLES")
	p.Code(root.example)
	p.Finish("o7s", "irmd", "oping")
	return p.String()
}
