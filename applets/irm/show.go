package irm

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/view"
)

var nameShow = &command{
	name:    "show",
	summary: "show a name: who knows it, who serves it, what it lacks",
	operand: nameOperand,
	flags:   []toggle{jsonFlag},
	example: "irm name show oping-server",
	limit:   quick,
	tried:   func(in input) string { return fmt.Sprintf("show name %q", in.operand) },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		p, err := look(ctx, d)
		if err != nil {
			return err
		}
		n := in.operand
		named := of(p.Names, func(r view.Name) bool { return r.Name == n })
		if len(named) == 0 {
			return fmt.Errorf("%w %q: nothing is bound to it, and \"irm name list\" shows those that exist; make it known: irm name register %s layer LAYER", core.ErrName, n, logs.Word(n))
		}
		if in.flags["--json"] {
			return out.json(struct {
				view.Name
				Registrations []view.Registration `json:"registrations"`
				Bindings      []view.Binding      `json:"bindings"`
				ProgramRows   []view.Program      `json:"programs"`
				FlowRows      []view.Flow         `json:"flows"`
			}{
				named[0],
				of(p.Registrations, func(r view.Registration) bool { return r.Name == n }),
				of(p.Bindings, func(b view.Binding) bool { return b.Name == n }),
				of(p.Programs, func(q view.Program) bool { return q.Name == n }),
				of(p.Flows, func(f view.Flow) bool { return f.Name == n }),
			})
		}
		out.name(p, named[0])
		if h := named[0].HolderUID; h >= 0 {
			out.say("    held by uid %d", h)
		}
		for _, o := range named[0].Security {
			out.say("    flows between systems: %s %s", o.Name, o.Value)
		}
		for _, f := range p.Flows {
			if f.Name == n && (f.Role == "client" || f.Peer < 0) {
				out.flow("    flow  ", p, f)
			}
		}
		return nil
	},
}

var ipcpShow = &command{
	name:    "show",
	summary: "show an IPCP, the names that its layer knows here and its flows",
	keywords: []keyword{
		{name: "name", value: "NAME", need: required, alone: true, check: core.CheckName, help: "the IPCP"},
	},
	flags:   []toggle{jsonFlag},
	example: "irm ipcp show name local-ipcp",
	limit:   quick,
	tried:   func(in input) string { return fmt.Sprintf("show IPCP %q", in.one("name")) },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		p, err := look(ctx, d)
		if err != nil {
			return err
		}
		name := in.one("name")
		found := of(p.IPCPs, func(i view.IPCP) bool { return i.Name == name })
		if len(found) == 0 {
			return fmt.Errorf("%w; it may have died, which irmd's log tells; make it: irm ipcp bootstrap type TYPE name %s layer LAYER", missing("no IPCP is called", name, "ipcp list"), logs.Word(name))
		}
		i := found[0]
		known := of(p.Registrations, func(r view.Registration) bool { return r.IPCP == name })
		flows := of(p.Flows, func(f view.Flow) bool { return f.IPCP == name })
		facts, err := d.IPCPFacts(ctx, name)
		if err != nil {
			return err
		}
		if in.flags["--json"] {
			return out.json(struct {
				view.IPCP
				Facts         []view.Fact         `json:"facts"`
				Registrations []view.Registration `json:"registrations"`
				FlowRows      []view.Flow         `json:"flows"`
			}{i, of(facts, func(view.Fact) bool { return true }), known, flows})
		}
		pairs := []string{"IPCP", i.Name, "pid", strconv.Itoa(i.PID), "type", i.Type, "state", i.State, "layer", i.Layer, "via", i.Via, "hash", i.Hash}
		for _, o := range slices.Concat(i.Options, i.Security) {
			pairs = append(pairs, o.Name, o.Value)
		}
		for _, f := range facts {
			pairs = append(pairs, logs.Escape(f.Name), f.Value)
		}
		for _, r := range known {
			pairs = append(pairs, "name", r.Name+" as "+r.Hash[:min(8, len(r.Hash))])
		}
		for _, f := range flows {
			pairs = append(pairs, "flow", fmt.Sprintf("%d to %s, %s of process %d %s, %s", f.ID, f.Name, f.Role, f.PID, f.Program, f.State))
		}
		out.fields(pairs...)
		if i.Layer == "" {
			out.hint("", typed("irm ipcp bootstrap name %s layer LAYER", i.Name), "it is in no layer; make it a member")
		}
		return nil
	},
}
