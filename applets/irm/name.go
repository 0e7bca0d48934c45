package irm

import (
	"context"
	"fmt"
	"strings"

	"o7s/core"
	"o7s/core/settings"
	"o7s/core/view"
	"o7s/ipc/irmctl"
)

// nameManager is the part of the IRMd that manages names.
type nameManager interface {
	CreateName(ctx context.Context, name, policy string) error
	DestroyName(ctx context.Context, name string) error
	RegisterName(ctx context.Context, req irmctl.RegisterReq) error
	UnregisterName(ctx context.Context, req irmctl.RegisterReq) error
}

var nameOperand = operand{value: "NAME", help: "the name", check: core.CheckName}

var nameCreate = &command{
	name:    "create",
	summary: "make a name",
	operand: nameOperand,
	keywords: []keyword{
		{name: "lb", value: "POLICY", check: checkPolicy, help: "load balancing: round-robin or spillover; round-robin if not given"},
	},
	notes: `With round-robin, the processes that accept for the name take turns; with
spillover, one of them serves until it is busy.
"irm name register" makes the name too, with spillover.`,
	example: "irm name create oping-server lb spillover",
	limit:   slow,
	tried:   func(in input) string { return fmt.Sprintf("create name %q", in.operand) },
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.CreateName(ctx, in.operand, in.one("lb"))
	},
}

var nameDestroy = &command{
	name:    "destroy",
	summary: "unregister a name everywhere and forget it",
	operand: nameOperand,
	example: "irm name destroy oping-server",
	limit:   slow,
	tried:   func(in input) string { return fmt.Sprintf("destroy name %q", in.operand) },
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.DestroyName(ctx, in.operand)
	},
}

// where are the keywords of register and unregister.
var where = []keyword{
	{name: "layer", value: "LAYER", need: some, check: core.CheckName, help: "a layer; may be repeated"},
	{name: "ipcp", value: "IPCP", need: some, check: core.CheckName, help: "an IPCP; may be repeated"},
}

const whereNotes = "Each * in LAYER or IPCP stands for any number of characters."

var nameRegister = &command{
	name:     "register",
	summary:  "make a name known in layers",
	operand:  nameOperand,
	keywords: where,
	notes:    "A name that does not exist is created, with the policy spillover.\n" + whereNotes,
	example:  "irm name register oping-server layer local-layer",
	limit:    slow,
	tried: func(in input) string {
		return fmt.Sprintf("register name %q%s%s", in.operand, quoteAll(" in layer ", in.values["layer"]), quoteAll(" with IPCP ", in.values["ipcp"]))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.RegisterName(ctx, registerReq(in))
	},
}

var nameUnregister = &command{
	name:     "unregister",
	summary:  "take a name back from layers",
	operand:  nameOperand,
	keywords: where,
	notes:    whereNotes,
	example:  "irm name unregister oping-server layer local-layer",
	limit:    slow,
	tried: func(in input) string {
		return fmt.Sprintf("unregister name %q%s%s", in.operand, quoteAll(" from layer ", in.values["layer"]), quoteAll(" from IPCP ", in.values["ipcp"]))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.UnregisterName(ctx, registerReq(in))
	},
}

func registerReq(in input) irmctl.RegisterReq {
	return irmctl.RegisterReq{Name: in.operand, Layers: in.values["layer"], IPCPs: in.values["ipcp"]}
}

// quoteAll returns the words, quoted, behind before; "" where there are none.
func quoteAll(before string, words []string) string {
	if len(words) == 0 {
		return ""
	}
	var all []string
	for _, w := range words {
		all = append(all, fmt.Sprintf("%q", w))
	}
	return before + strings.Join(all, ", ")
}

var nameList = &command{
	name:    "list",
	summary: "show the names of this system",
	operand: operand{value: "FILTER", help: "how the names begin or, with a * for any number of characters, look", optional: true, check: core.CheckName},
	flags:   []toggle{jsonFlag},
	example: "irm name list\nirm name list '*-server'",
	limit:   quick,
	tried:   func(input) string { return "list names" },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		all, err := d.Names(ctx)
		if err != nil {
			return err
		}
		all = of(all, func(n view.Name) bool { return n.Exists })
		list := of(all, func(n view.Name) bool { return core.Match(filterPattern(in.operand), n.Name) })
		if in.flags["--json"] {
			return out.json(list)
		}
		printNames(out, list, len(all))
		return nil
	},
}

// printNames writes the table of list, some of all names.
func printNames(out *screen, list []view.Name, all int) {
	if len(list) == 0 {
		fmt.Fprintf(out, "No %snames in system.\n\n", such(all))
		return
	}
	t := table{{title: "name", width: 50}, {title: "load-balance policy", width: 20}}
	for _, n := range list {
		t.add(n.Name, n.Policy)
	}
	t.print(out)
	fmt.Fprintln(out)
}

// filterPattern returns the pattern of a filter: without a * it is how names
// begin. An empty one lets all through.
func filterPattern(filter string) string {
	if strings.Contains(filter, "*") {
		return filter
	}
	return filter + "*"
}

func checkPolicy(s string) error {
	if _, err := settings.ParsePolicy(s); err != nil {
		return fmt.Errorf("%w: a policy is round-robin or spillover", core.ErrUsage)
	}
	return nil
}
