package irm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/view"
	"o7s/ipc/irmctl"
)

// ipcpManager is the part of the IRMd that manages IPCPs.
type ipcpManager interface {
	CreateIPCP(ctx context.Context, name, typ string) (int, error)
	BootstrapIPCP(ctx context.Context, req irmctl.BootstrapReq) (int, error)
	EnrollIPCP(ctx context.Context, req irmctl.EnrollReq) (int, error)
	ConnectIPCP(ctx context.Context, req irmctl.ConnectReq) error
	DisconnectIPCP(ctx context.Context, req irmctl.ConnectReq) error
	DestroyIPCP(ctx context.Context, name string) error
	IPCPFacts(ctx context.Context, name string) ([]view.Fact, error)
	FlowFacts(ctx context.Context, id core.FlowID) ([]view.Fact, error)
}

var ipcpCreate = &command{
	name:    "create",
	summary: "start an IPCP that is in no layer yet",
	keywords: []keyword{
		{name: "type", value: "TYPE", need: required, check: checkType, help: "type of its layer, such as local"},
		{name: "name", value: "NAME", need: required, check: core.CheckName, help: "what to call the IPCP"},
	},
	notes:   `"irm ipcp bootstrap" creates the IPCP too, so this step is usually optional.`,
	example: "irm ipcp create type local name local-ipcp",
	limit:   slow,
	tried: func(in input) string {
		return fmt.Sprintf("create IPCP %q of type %q", in.one("name"), in.one("type"))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		_, err := d.CreateIPCP(ctx, in.one("name"), in.one("type"))
		return err
	},
}

var ipcpDestroy = &command{
	name:    "destroy",
	summary: "end an IPCP, and with it its flows",
	keywords: []keyword{
		{name: "name", value: "NAME", need: required, alone: true, check: core.CheckName, help: "the IPCP"},
	},
	example: "irm ipcp destroy name local-ipcp",
	limit:   slow,
	tried:   func(in input) string { return fmt.Sprintf("destroy IPCP %q", in.one("name")) },
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.DestroyIPCP(ctx, in.one("name"))
	},
}

// ipcpBootstrap returns the command with the options of types.
func ipcpBootstrap(types []ipcp.Type) *command {
	c := &command{
		name:    "bootstrap",
		summary: "make an IPCP the first member of a layer",
		types:   types,
		keywords: []keyword{
			{name: "type", value: "TYPE", check: checkType, help: "type of the layer, such as local; needed to create the IPCP"},
			{name: "name", value: "NAME", need: required, check: core.CheckName, help: "the IPCP; one that does not exist is created"},
			{name: "layer", value: "LAYER", need: required, check: core.CheckName, help: "what to call the layer"},
			{name: "hash", value: "HASH", check: checkHash, help: "directory hash: " + hashes(hash.SHA3())},
		},
		example: "irm ipcp bootstrap type local name local-ipcp layer local-layer",
		limit:   slow,
		tried: func(in input) string {
			return fmt.Sprintf("bootstrap IPCP %q in layer %q", in.one("name"), in.one("layer"))
		},
	}
	// If no type is given, or one that this executable does not know, only the
	// IRMd can check the options.
	c.check = func(in input) error {
		t, ok := ipcp.Find(types, in.one("type"))
		if !ok {
			return nil
		}
		_, err := t.Config(c.draft(in))
		return err
	}
	c.run = func(ctx context.Context, d irmd, in input, _ *screen) error {
		_, err := d.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: in.one("name"), Type: in.one("type"), Draft: c.draft(in), Autobind: in.one(autobind.Name) != ""})
		return err
	}
	return c
}

var ipcpList = &command{
	name:    "list",
	summary: "show the IPCPs of this system",
	keywords: []keyword{
		{name: "type", value: "TYPE", check: checkType, help: "only those of this type"},
		{name: "name", value: "NAME", check: core.CheckName, help: "only those with this name"},
		{name: "layer", value: "LAYER", check: core.CheckName, help: "only those in this layer"},
	},
	flags:   []toggle{jsonFlag},
	notes:   "Each * in a value stands for any number of characters.",
	example: "irm ipcp list\nirm ipcp list layer 'local*'",
	limit:   quick,
	tried:   func(input) string { return "list IPCPs" },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		all, err := d.IPCPs(ctx)
		if err != nil {
			return err
		}
		list := of(all, func(i view.IPCP) bool {
			return wanted(in, "type", i.Type) && wanted(in, "name", i.Name) && wanted(in, "layer", i.Layer)
		})
		if in.flags["--json"] {
			return out.json(list)
		}
		printIPCPs(out, list, len(all))
		return nil
	},
}

// printIPCPs writes the table of list, some of all IPCPs, by type and then by
// name.
func printIPCPs(out *screen, list []view.IPCP, all int) {
	if len(list) == 0 {
		fmt.Fprintf(out, "No %sIPCPs in system.\n\n", such(all))
		return
	}
	slices.SortFunc(list, func(a, b view.IPCP) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	t := table{{title: "pid", width: 7}, {title: "name", width: 20}, {title: "type", width: 10}, {title: "layer", width: 20}}
	for _, i := range list {
		layer := i.Layer
		if layer == "" {
			layer = "Not enrolled."
		}
		t.add(strconv.Itoa(i.PID), i.Name, i.Type, layer)
	}
	t.print(out)
	fmt.Fprintln(out)
}

// wanted reports whether value matches the pattern that in gives for keyword. Without
// a pattern every value matches. An empty value, as the layer of an IPCP that is in
// none, matches no pattern.
func wanted(in input, keyword, value string) bool {
	pattern := in.one(keyword)
	return pattern == "" || value != "" && core.Match(pattern, value)
}

// checkType does not check which types there are: the IRMd does.
func checkType(s string) error {
	if s == "" {
		return fmt.Errorf("%w: a type has at least one character", core.ErrUsage)
	}
	return nil
}

// checkHash does not check which hashes a layer may use: its type does.
func checkHash(s string) error {
	if _, err := hash.Parse(s); err != nil {
		return fmt.Errorf("%w: a hash is SHA3_224, SHA3_256, SHA3_384 or SHA3_512", core.ErrUsage)
	}
	return nil
}
