// Package config reads and writes irmd's config file: names with their
// programs, and IPCPs with their layers. It starts nothing: irmd does, with
// what Parse returns.
//
//	[name.oping-server]
//	lb = "round-robin"
//	prog = ["/usr/bin/oping"]
//	args = ["--listen"]
//
//	[local.local-ipcp]
//	bootstrap = "local-layer"
//	reg = ["oping-server"]
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"o7s/core/hash"
)

// Item is a table of the file: a name, or else an IPCP.
type Item struct {
	Line int // where its table begins
	Name *Name
	IPCP *IPCP
}

// Name is [name.X]: it is created, and the programs are bound to it.
type Name struct {
	Name     string
	Policy   string // round-robin or spillover
	Programs []Program
}

// Program is one of prog, with its args; one that has some starts by itself
// when nobody accepts.
type Program struct {
	Path string
	Auto bool
	Args []string
}

// IPCP is [TYPE.X]: it is created, and with Layer it is bootstrapped.
type IPCP struct {
	Name, Type string
	Layer      string // empty: it is in none
	Hash       hash.Algorithm
	Register   []string // names to register with it
}

// The keys of the two kinds of tables, as people are told of them.
var (
	nameKeys = []string{"lb", "prog", "args"}
	ipcpKeys = []string{"bootstrap", "hash", "reg"}
)

// Parse reads the text of a config file, whose tables are names and IPCPs of
// the types; the items are in the order of the file. An error begins with
// file:line and says what is known instead.
func Parse(file, text string, types []string) ([]Item, error) {
	var top map[string]toml.Primitive
	md, err := toml.Decode(text, &top)
	if err != nil {
		return nil, located(file, err)
	}
	p := parser{md: &md, types: types}
	for _, kind := range slices.Sorted(maps.Keys(top)) {
		if err := p.kind(kind, top[kind]); err != nil {
			return nil, located(file, err)
		}
	}
	slices.SortStableFunc(p.items, func(a, b Item) int { return a.Line - b.Line })
	return p.items, nil
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
	types []string
	items []Item
}
