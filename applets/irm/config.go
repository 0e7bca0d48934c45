package irm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"o7s/applets/internal/config"
	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/settings"
	"o7s/core/view"
)

func configExport(types []ipcp.Type) *command {
	return &command{
		name:    "export",
		summary: "write what is there as a config file, from which irmd starts the same",
		notes: `It writes names with their policies and programs, IPCPs with their layers, and
registrations. A text that is no UTF-8 has no place in such a file: where there
is one, the command fails. What else it can't write stands in it as a comment: processes, which
are bound by pid, and programs of other users.`,
		example: "irm config export",
		limit:   quick,
		tried:   func(input) string { return "export the config" },
		run: func(ctx context.Context, d irmd, in input, out *screen) error {
			p, err := look(ctx, d)
			if err != nil {
				return err
			}
			return out.config(p, types)
		},
	}
}

// config prints p as a config file.
func (s *screen) config(p *picture, types []ipcp.Type) error {
	fmt.Fprintf(s, "# irmd --config FILE starts what was there on %s.\n", logs.Escape(p.System.RuntimeDir))
	var items []config.Item
	bound := make(map[string][]string) // to names, by IPCP
	for _, n := range p.Names {
		if !n.Exists {
			fmt.Fprintf(s, "# Not written: what is bound to %s, which is not created.\n", logs.Escape(n.Name))
			continue
		}
		name := &config.Name{Name: n.Name, Policy: n.Policy}
		if err := protect(&name.Protection, n.Security); err != nil {
			return err
		}
		for _, q := range p.by().programs[n.Name] {
			switch {
			case autobound(p.IPCPs, q.IPCP, n.Name):
			case q.UID == p.System.UID && q.IPCP != "":
				bound[q.IPCP] = append(bound[q.IPCP], n.Name)
			case q.UID != p.System.UID:
				fmt.Fprintf(s, "# Not written: %s%s of uid %d, bound to %s.\n", logs.Escape(q.Path), logs.Escape(q.IPCP), q.UID, logs.Escape(n.Name))
			default:
				name.Programs = append(name.Programs, config.Program{Path: q.Path, Auto: q.Auto, Args: q.Args})
			}
		}
		for _, b := range p.by().bound[n.Name] {
			if b.By == "process" {
				fmt.Fprintf(s, "# Not written: process %d, bound to %s.\n", b.PID, logs.Escape(n.Name))
			}
		}
		items = append(items, config.Item{Name: name})
	}
	for _, i := range inOrder(p.IPCPs) {
		t, ok := ipcp.Find(types, i.Type)
		if !ok || t.Name != i.Type {
			return fmt.Errorf("%w %q of IPCP %q: this irm is not of the same executable as irmd", core.ErrIPCPType, i.Type, i.Name)
		}
		c := &config.IPCP{Name: i.Name, Type: t}
		if err := protect(&c.Protection, i.Security); err != nil {
			return err
		}
		if dst, enrolled := strings.CutPrefix(i.Via, "enroll "); enrolled {
			c.Enrol = dst
		} else {
			var given ipcp.Settings
			for _, o := range i.Options {
				given = append(given, ipcp.Setting{Name: o.Name, Value: o.Value})
			}
			c.Draft = ipcp.Draft{Layer: i.Layer, Hash: i.Hash, Settings: t.Given(given)}
		}
		c.Autobind, c.Bind = i.Autobind, bound[i.Name]
		for _, x := range i.Connections {
			if x.QoS != core.QoSName(core.QoSRaw) {
				fmt.Fprintf(s, "# Not written: the QoS %s of the connection of IPCP %s to %s.\n", x.QoS, logs.Escape(i.Name), logs.Escape(x.Dst))
			}
			c.Connect = append(c.Connect, ipcp.Connection{Component: x.Component, Dst: x.Dst, QoS: core.QoSRaw})
		}
		for _, r := range p.by().knownBy[i.Name] {
			c.Register = append(c.Register, r.Name)
		}
		items = append(items, config.Item{IPCP: c})
	}
	fmt.Fprintln(s)
	return config.Write(s, items)
}

// inOrder returns the IPCPs with those first that need no other member: the others may
// reach theirs in these layers.
func inOrder(all []view.IPCP) []view.IPCP {
	all = slices.Clone(all)
	rank := func(i view.IPCP) int {
		if strings.HasPrefix(i.Via, "enroll ") {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b view.IPCP) int { return rank(a) - rank(b) })
	return all
}

// autobound reports whether the binding of an IPCP to name follows from its autobind.
func autobound(all []view.IPCP, ipcp, name string) bool {
	i := slices.IndexFunc(all, func(i view.IPCP) bool { return i.Name == ipcp })
	return ipcp != "" && i >= 0 && all[i].Autobind && (name == ipcp || name == all[i].Layer)
}

// protect sets what a row shows of a protection.
func protect(p *settings.Protection, from view.Options) error {
	for _, o := range from {
		if err := p.Set(o.Name, o.Value); err != nil {
			return fmt.Errorf("%w: this irm is not of the same executable as irmd", err)
		}
	}
	return nil
}
