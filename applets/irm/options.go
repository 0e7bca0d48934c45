package irm

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"o7s/core/hash"
	"o7s/core/ipcp"
)

// table returns the keywords of c that may follow the words of in: first c's own,
// then the options of the layer type that in gives, ordered by Place. If in gives no
// type, these are the options of all types.
func (c *command) table(in input) []keyword {
	types := c.types
	if t, ok := ipcp.Find(types, in.one("type")); ok {
		types = []ipcp.Type{t}
	}
	var options []ipcp.Option
	for _, t := range types {
		for _, o := range t.Options {
			if !slices.ContainsFunc(options, func(p ipcp.Option) bool { return p.Name == o.Name }) {
				options = append(options, o)
			}
		}
	}
	if slices.ContainsFunc(types, func(t ipcp.Type) bool { return t.Does.Can(ipcp.Connects) }) {
		options = append(options, autobind)
	}
	slices.SortStableFunc(options, func(a, b ipcp.Option) int { return cmp.Compare(a.Place, b.Place) })
	table := slices.Clip(c.keywords)
	for _, o := range options {
		k := keyword{name: o.Name, value: o.Value, help: describe(o), suggest: o.Suggest}
		if o.Kind == ipcp.Flag {
			k.need = bare
		}
		if o.Kind == ipcp.Word {
			k.suggest = func() []string { return o.Words }
		}
		table = append(table, k)
	}
	return table
}

// autobind is a keyword of all types whose members are connected one by one. It is
// no option of a layer: the IRMd does it.
var autobind = ipcp.Option{Name: "autobind", Kind: ipcp.Flag, Place: 90, Help: "bind the IPCP to its own name and to the layer's, under which other members reach it"}

// draft returns what in says about a layer. It includes options that the layer's
// type does not have, so that the check of the draft refuses them.
func (c *command) draft(in input) ipcp.Draft {
	d := ipcp.Draft{Layer: in.one("layer"), Hash: in.one("hash")}
	for _, k := range c.table(input{})[len(c.keywords):] {
		switch v := in.one(k.name); {
		case v == "" || k.name == autobind.Name:
		case k.need == bare:
			d.Settings = append(d.Settings, ipcp.Setting{Name: k.name, Value: "true"})
		default:
			d.Settings = append(d.Settings, ipcp.Setting{Name: k.name, Value: v})
		}
	}
	return d
}

// describe returns the line of help for an option.
func describe(o ipcp.Option) string {
	text := o.Help
	switch o.Kind {
	case ipcp.Word:
		text += ": " + alternatives(o.Words)
	case ipcp.Number:
		text += ": " + o.Allowed()
	}
	switch {
	case o.Need:
		text += "; needed"
	case o.Default != "":
		value, _ := o.Parse(o.Default)
		text += "; " + value + " if not given"
	}
	return text
}

// typeOptions calls f for each layer type that has options or hashes of its
// own, with a title and the keywords.
func (c *command) typeOptions(f func(title string, options []keyword)) {
	for _, t := range c.types {
		var options []keyword
		if t.Hashes != nil {
			options = append(options, keyword{name: "hash", value: "HASH", help: "directory hash: " + hashes(t.Hashes)})
		}
		for _, o := range t.Options {
			options = append(options, keyword{name: o.Name, value: o.Value, help: describe(o)})
		}
		if t.Does.Can(ipcp.Connects) {
			options = append(options, keyword{name: autobind.Name, help: autobind.Help})
		}
		if options != nil {
			f(fmt.Sprintf("Options of a layer of type %s:", t.Name), options)
		}
	}
}

// hasOptions reports whether c has keywords that are options of a type.
func (c *command) hasOptions() bool { return len(c.table(input{})) > len(c.keywords) }

// helpOptions writes the options of the layer types, a paragraph each.
func helpOptions(w io.Writer, c *command) {
	c.typeOptions(func(title string, options []keyword) {
		fmt.Fprintf(w, "\n%s\n", title)
		tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, k := range options {
			fmt.Fprintf(tw, "  %s\t%s\n", strings.TrimSuffix(k.name+" "+k.value, " "), k.help)
		}
		tw.Flush()
	})
	if c.hasOptions() {
		fmt.Fprint(w, "\nAfter \"type TYPE\" a shortened word means an option of that type.\n")
	}
}

// hashes lists directory hashes, the shortest first, and the default, which is
// the first of all.
func hashes(all []hash.Algorithm) string {
	if len(all) == 1 {
		return all[0].String() + ", and no other"
	}
	var names []string
	for _, a := range slices.SortedFunc(slices.Values(all), func(a, b hash.Algorithm) int { return cmp.Compare(a.Size(), b.Size()) }) {
		names = append(names, a.String())
	}
	return alternatives(names) + "; " + all[0].String() + " if not given"
}
