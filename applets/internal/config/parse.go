package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/registry"
)

// check is a value of the file and what is to be done with it: an error that
// it returns gets the place of the value.
type check func(v any) error

// UnmarshalTOML implements toml.Unmarshaler.
func (c check) UnmarshalTOML(v any) error { return c(v) }

// at calls c with the value of prim.
func (p *parser) at(prim toml.Primitive, c check) error { return p.md.PrimitiveDecode(prim, &c) }

// fail returns an error at the place of prim.
func (p *parser) fail(prim toml.Primitive, format string, args ...any) error {
	return p.at(prim, func(any) error { return fmt.Errorf(format, args...) })
}

// table returns what is in the table prim.
func (p *parser) table(prim toml.Primitive, what string) (map[string]toml.Primitive, error) {
	err := p.at(prim, func(v any) error {
		if _, ok := v.(map[string]any); !ok {
			return fmt.Errorf("%s is a table: [%s]", what, what)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var t map[string]toml.Primitive
	err = p.md.PrimitiveDecode(prim, &t)
	return t, err
}

// kind reads all tables [kind.X].
func (p *parser) kind(kind string, prim toml.Primitive) error {
	all, err := p.table(prim, kind+".NAME")
	if err != nil {
		return err
	}
	if kind != "name" && !slices.Contains(p.types, kind) {
		for _, sub := range all { // [kind] itself has no place in the file
			prim = sub
		}
		return p.fail(prim, "unknown table [%s]: there are [name.NAME] and, for each layer type, [%s.IPCP]", kind, strings.Join(p.types, ".IPCP], ["))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		prim := all[name]
		keys, err := p.table(prim, kind+"."+name)
		if err != nil {
			return err
		}
		if err := core.CheckName(name); err != nil {
			return p.fail(prim, "%w", err)
		}
		item := Item{Line: p.line(prim)}
		if kind == "name" {
			item.Name, err = p.name(name, keys)
		} else {
			item.IPCP, err = p.ipcp(name, kind, keys)
		}
		if err != nil {
			return err
		}
		p.items = append(p.items, item)
	}
	return nil
}

// line returns where prim is.
func (p *parser) line(prim toml.Primitive) int {
	pe, _ := errors.AsType[toml.ParseError](p.fail(prim, "here"))
	return max(pe.Position.Line, 1)
}

// each calls the check of each key of a table; the first error, by line, is
// the one that counts.
func (p *parser) each(keys map[string]toml.Primitive, known []string, checks map[string]check) error {
	var first error
	at := 0
	for k, prim := range keys {
		var err error
		if c := checks[k]; c != nil {
			err = p.at(prim, c)
		} else {
			err = p.fail(prim, "unknown key %q: the keys here are %s", k, strings.Join(known, ", "))
		}
		if l := p.line(prim); err != nil && (first == nil || l < at) {
			first, at = err, l
		}
	}
	return first
}

func (p *parser) name(name string, keys map[string]toml.Primitive) (*Name, error) {
	n := &Name{Name: name, Policy: registry.RoundRobin.String()}
	var args []any
	err := p.each(keys, nameKeys, map[string]check{
		"lb": func(v any) error {
			s, err := text("lb", v)
			if err != nil {
				return err
			}
			policy, err := registry.ParsePolicy(s)
			if err != nil {
				return fmt.Errorf("lb %q: a policy is round-robin or spillover", s)
			}
			n.Policy = policy.String()
			return nil
		},
		"prog": func(v any) error {
			paths, err := texts("prog", v)
			for _, path := range paths {
				if path == "" || strings.IndexByte(path, 0) >= 0 {
					return errors.New("prog: a program has a path, or a name that is in PATH")
				}
				n.Programs = append(n.Programs, Program{Path: path})
			}
			return err
		},
		"args": func(v any) error {
			var ok bool
			if args, ok = v.([]any); !ok {
				return errors.New("args is an array, with the arguments of each of prog")
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	if len(args) > len(n.Programs) {
		return nil, p.fail(keys["args"], "args are for %d programs, prog has %d", len(args), len(n.Programs))
	}
	for i, a := range args {
		q := &n.Programs[i]
		q.Auto = true
		if s, ok := a.(string); ok {
			q.Args = strings.Fields(s)
		} else if q.Args, err = texts("args", a); err != nil {
			return nil, p.fail(keys["args"], "args: the arguments of a program are a text, split at blanks, or an array of texts")
		}
		for _, s := range q.Args {
			if strings.IndexByte(s, 0) >= 0 {
				return nil, p.fail(keys["args"], "args: an argument has no NUL byte")
			}
		}
	}
	return n, nil
}

func (p *parser) ipcp(name, typ string, keys map[string]toml.Primitive) (*IPCP, error) {
	i := &IPCP{Name: name, Type: typ}
	err := p.each(keys, ipcpKeys, map[string]check{
		"bootstrap": func(v any) (err error) {
			if i.Layer, err = text("bootstrap", v); err == nil {
				err = core.CheckName(i.Layer)
			}
			return err
		},
		"hash": func(v any) error {
			s, err := text("hash", v)
			if err != nil {
				return err
			}
			if i.Hash, err = hash.Parse(s); err != nil || !slices.Contains(hash.SHA3(), i.Hash) {
				return fmt.Errorf("hash %q: it is one of %v", s, hash.SHA3())
			}
			return nil
		},
		"reg": func(v any) (err error) {
			i.Register, err = texts("reg", v)
			for _, n := range i.Register {
				if err == nil {
					err = core.CheckName(n)
				}
			}
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	for _, k := range []string{"hash", "reg"} {
		if prim, ok := keys[k]; ok && i.Layer == "" {
			return nil, p.fail(prim, "%s needs a layer: bootstrap = \"LAYER\"", k)
		}
	}
	return i, nil
}

func text(key string, v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s is a text: %s = \"...\"", key, key)
	}
	return s, nil
}

func texts(key string, v any) ([]string, error) {
	all, ok := v.([]any)
	list := make([]string, 0, len(all))
	for _, a := range all {
		s, is := a.(string)
		ok = ok && is
		list = append(list, s)
	}
	if !ok {
		return nil, fmt.Errorf("%s is an array of texts: %s = [\"...\"]", key, key)
	}
	return list, nil
}
