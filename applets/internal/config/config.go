// Package config reads and writes irmd's config file: names with their programs, and
// IPCPs with their layers. It starts no process: irmd does, for the items that Parse
// returns.
//
//	[name.oping-server]
//	lb = "round-robin"
//	prog = ["/usr/bin/oping"]
//	args = ["--listen"]
//
//	[local.local-ipcp]
//	bootstrap = "local-layer"
//	reg = ["oping-server"]
//
// An IPCP's table also has the options that its layer type declares: ipcp.Option.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"o7s/core/ipcp"
	"o7s/core/settings"
)

// Item is a table of the file: a name, or else an IPCP.
type Item struct {
	Name *Name
	IPCP *IPCP

	line func() int
}

// Line returns the line of the file in which the item's table begins. It is for
// errors alone: the TOML library reads the whole text to find a line.
func (it Item) Line() int { return it.line() }

// Name is [name.X]: it is created, and the programs are bound to it.
type Name struct {
	Name     string
	Policy   string // round-robin or spillover
	Programs []Program
	// Protection is of its flows to other systems. Its paths are absolute.
	Protection settings.Protection
}

// Program is an entry of prog with its args. Auto is set if there is an entry of
// args for it: then irmd starts the program when no process accepts.
type Program struct {
	Path string
	Auto bool
	Args []string
}

// IPCP is [TYPE.X]: it is created and, where Draft has a Layer, bootstrapped,
// or enrolled with the name Enrol. Then it is connected to other members.
type IPCP struct {
	Name     string
	Type     ipcp.Type
	Draft    ipcp.Draft // its settings in the order of the type's options
	Enrol    string
	Register []string // names to register with it
	Autobind bool     // bind it to its own name and to the layer's
	Bind     []string // names to bind it to
	Connect  []ipcp.Connection
	// Protection is of its flows.
	Protection settings.Protection
}

// nameKeys are the keys of a name's table, as people are told of them.
var nameKeys = append([]string{"lb", "prog", "args"}, settings.ProtectionKeys(true)...)

// ipcpKeys returns those of the table of an IPCP of type t.
func ipcpKeys(t ipcp.Type) []string {
	keys := []string{"bootstrap", "hash", "reg"}
	if t.Does.Can(ipcp.Enrolls) {
		keys = slices.Insert(keys, 1, "enrol")
	}
	if t.Does.Can(ipcp.Connects) {
		keys = append(keys, "autobind", "bind", "conn")
	}
	if t.Far {
		keys = append(keys, settings.ProtectionKeys(false)...)
	}
	for _, o := range t.Options {
		keys = append(keys, key(o))
	}
	return keys
}

// key returns the key of an option that Write writes.
func key(o ipcp.Option) string { return cmp.Or(o.TOML, o.Name) }

// Parse reads the text of a config file, with tables for names and for IPCPs of
// the types. The items are in the order of the file. An error begins with
// file:line and says what is allowed.
func Parse(file, text string, types []ipcp.Type) ([]Item, error) {
	var top map[string]toml.Primitive
	md, err := toml.Decode(text, &top)
	if err != nil {
		return nil, located(file, err)
	}
	p := parser{md: &md, types: types, place: make(map[string]int)}
	for n, k := range md.Keys() {
		for i := 1; i <= len(k) && i <= 3; i++ {
			path := k[:i].String()
			if _, seen := p.place[path]; !seen {
				p.place[path] = n
			}
		}
	}
	for _, kind := range p.sorted(nil, top) {
		if err := p.kind(kind, top[kind]); err != nil {
			return nil, located(file, err)
		}
	}
	slices.SortStableFunc(p.items, func(a, b placed) int { return a.place - b.place })
	var items []Item
	for _, it := range p.items {
		items = append(items, it.Item)
	}
	return items, nil
}

// located puts file and line before err.
func located(file string, err error) error {
	if pe, ok := errors.AsType[toml.ParseError](err); ok {
		return fmt.Errorf("%s:%d: %s", file, max(pe.Position.Line, 1), strings.ReplaceAll(pe.Message, "\n", " "))
	}
	return fmt.Errorf("%s: %w", file, err)
}

type parser struct {
	md    *toml.MetaData
	types []ipcp.Type
	place map[string]int // of each table and key, in the order of the file
	items []placed
}

type placed struct {
	Item
	place int
}

// sorted returns the keys of the table at path in the order of the file.
func (p *parser) sorted(path toml.Key, table map[string]toml.Primitive) []string {
	place := func(k string) int { return p.place[append(slices.Clip(path), k).String()] }
	return slices.SortedFunc(maps.Keys(table), func(a, b string) int {
		return cmp.Or(place(a)-place(b), cmp.Compare(a, b))
	})
}
