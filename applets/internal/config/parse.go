package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/settings"
)

// check is called with a value of the file. The library adds the place of the
// value to the error that it returns.
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
	typ := slices.IndexFunc(p.types, func(t ipcp.Type) bool { return t.Name == kind })
	if kind != "name" && typ < 0 {
		for _, sub := range all { // [kind] itself has no place in the file
			prim = sub
		}
		tables := "[name.NAME] and, for each layer type, "
		for i, t := range p.types {
			if i > 0 {
				tables += ", "
			}
			tables += "[" + t.Name + ".IPCP]"
		}
		return p.fail(prim, "unknown table [%s]: there are %s%s", kind, tables, ipcp.NotBuiltIn(p.types, kind))
	}
	for _, name := range p.sorted(toml.Key{kind}, all) {
		prim := all[name]
		path := toml.Key{kind, name}
		keys, err := p.table(prim, kind+"."+name)
		if err != nil {
			return err
		}
		if err := core.CheckName(name); err != nil {
			return p.fail(prim, "%w", err)
		}
		item := Item{line: func() int { return p.line(prim) }}
		if kind == "name" {
			item.Name, err = p.name(path, keys)
		} else {
			item.IPCP, err = p.ipcp(path, p.types[typ], keys)
		}
		if err != nil {
			return err
		}
		p.items = append(p.items, placed{item, p.place[path.String()]})
	}
	return nil
}

// line returns where prim is.
func (p *parser) line(prim toml.Primitive) int {
	pe, _ := errors.AsType[toml.ParseError](p.fail(prim, "here"))
	return max(pe.Position.Line, 1)
}

// each calls the check of each key of the table at path, in the order of the
// file, until the first error.
func (p *parser) each(path toml.Key, keys map[string]toml.Primitive, known []string, checks map[string]check) error {
	for _, k := range p.sorted(path, keys) {
		c := checks[k]
		if c == nil {
			return p.fail(keys[k], "unknown key %q: the keys here are %s", k, strings.Join(known, ", "))
		}
		if err := p.at(keys[k], c); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) name(path toml.Key, keys map[string]toml.Primitive) (*Name, error) {
	n := &Name{Name: path[1], Policy: settings.RoundRobin.String()}
	var args []any
	checks := map[string]check{
		"lb": func(v any) error {
			s, err := text("lb", v)
			if err != nil {
				return err
			}
			policy, err := settings.ParsePolicy(s)
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
	}
	protect(checks, &n.Protection, true)
	err := p.each(path, keys, nameKeys, checks)
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

func (p *parser) ipcp(path toml.Key, typ ipcp.Type, keys map[string]toml.Primitive) (*IPCP, error) {
	i := &IPCP{Name: path[1], Type: typ}
	given := make(map[string]string) // the texts of options, by the option's name
	checks := ipcpChecks(i)
	addOptions(checks, typ, given)
	if err := p.each(path, keys, ipcpKeys(typ), checks); err != nil {
		return nil, err
	}
	if i.Draft.Layer == "" {
		for _, k := range p.sorted(path, keys) {
			if i.Enrol == "" || k != "enrol" && k != "reg" && k != "autobind" && k != "bind" && k != "conn" && !slices.Contains(settings.ProtectionKeys(false), k) {
				return nil, p.fail(keys[k], "%s needs a layer: bootstrap = \"LAYER\"", k)
			}
		}
		return i, nil
	}
	if i.Enrol != "" {
		return nil, p.fail(keys["enrol"], "an IPCP is the first member of a layer, with bootstrap, or enrolled: not both")
	}
	for _, o := range typ.Options {
		if s, ok := given[o.Name]; ok {
			i.Draft.Settings = append(i.Draft.Settings, ipcp.Setting{Name: o.Name, Value: s})
		}
	}
	if _, err := typ.Config(i.Draft); err != nil {
		return nil, p.fail(keys["bootstrap"], "%w", err)
	}
	return i, nil
}

// ipcpChecks returns the checks that fill i, without those of the options of its type.
func ipcpChecks(i *IPCP) map[string]check {
	checks := map[string]check{
		"bootstrap": takeName("bootstrap", &i.Draft.Layer),
		"hash": func(v any) (err error) {
			if i.Draft.Hash, err = text("hash", v); err == nil {
				_, err = i.Type.ParseHash(i.Draft.Hash)
			}
			return err
		},
		"reg": takeNames("reg", &i.Register),
	}
	if i.Type.Does.Can(ipcp.Enrolls) {
		checks["enrol"] = takeName("enrol", &i.Enrol)
	}
	if i.Type.Far {
		protect(checks, &i.Protection, false)
	}
	if i.Type.Does.Can(ipcp.Connects) {
		checks["autobind"] = func(v any) error {
			var ok bool
			if i.Autobind, ok = v.(bool); !ok {
				return errors.New("autobind is true or false")
			}
			return nil
		}
		checks["bind"] = takeNames("bind", &i.Bind)
		checks["conn"] = func(v any) error {
			all, err := texts("conn", v)
			for _, s := range all {
				var x ipcp.Connection
				if x, err = connection(s); err != nil {
					return err
				}
				i.Connect = append(i.Connect, x)
			}
			return err
		}
	}
	return checks
}

// addOptions adds the checks of the options of typ. They put the texts into given, by
// the option's name. An option has two keys: its own name, and the one in o.TOML.
func addOptions(checks map[string]check, typ ipcp.Type, given map[string]string) {
	for _, o := range typ.Options {
		take := func(v any) error {
			if _, twice := given[o.Name]; twice {
				return fmt.Errorf("%s and %s are the same option", o.TOML, o.Name)
			}
			s, err := value(o, v)
			if err == nil {
				s, err = o.Parse(s)
			}
			given[o.Name] = s
			return err
		}
		checks[o.Name], checks[key(o)] = take, take
	}
}

// takeName returns the check that puts a name into to.
func takeName(key string, to *string) check {
	return func(v any) (err error) {
		if *to, err = text(key, v); err == nil {
			err = core.CheckName(*to)
		}
		return err
	}
}

// takeNames returns the check that puts an array of names into to.
func takeNames(key string, to *[]string) check {
	return func(v any) error {
		all, err := texts(key, v)
		for _, n := range all {
			if err == nil {
				err = core.CheckName(n)
			}
		}
		*to = all
		return err
	}
}

// protect adds the checks of the settings of to: those of a name, or else those of an
// IPCP.
func protect(checks map[string]check, to *settings.Protection, name bool) {
	for _, k := range settings.ProtectionKeys(name) {
		checks[k] = func(v any) error {
			s, err := text(k, v)
			if err == nil && strings.HasSuffix(k, "_file") && s != "" {
				s, err = filepath.Abs(s)
			}
			if err == nil {
				err = to.Set(k, s)
			}
			return err
		}
	}
}

// connection returns what a text of conn means: COMPONENT:NAME.
func connection(s string) (ipcp.Connection, error) {
	component, dst, _ := strings.Cut(s, ":")
	x := ipcp.Connection{Component: component, Dst: dst, QoS: core.QoSRaw}
	if err := x.Check(); err != nil {
		return x, fmt.Errorf("conn has \"mgmt:NAME\" and \"dt:NAME\" for each member to connect to: %w", err)
	}
	return x, nil
}

// value returns the text of v, the value of an option.
func value(o ipcp.Option, v any) (string, error) {
	switch v := v.(type) {
	case string:
		if o.Kind != ipcp.Flag {
			return v, nil
		}
	case int64:
		if o.Kind == ipcp.Number && v >= 0 {
			return o.FormatNumber(uint64(v)), nil
		}
	case bool:
		if o.Kind == ipcp.Flag {
			return strconv.FormatBool(v), nil
		}
	}
	if o.Kind == ipcp.Number || o.Kind == ipcp.Flag {
		return "", fmt.Errorf("%s is %s", key(o), o.Allowed())
	}
	return "", fmt.Errorf("%s is a text: %s = \"...\"", key(o), key(o))
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
