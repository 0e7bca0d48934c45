package config

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"o7s/core/ipcp"
	"o7s/core/registry"
)

// Write writes items as Parse reads them. Programs with Auto come first in prog,
// because the entries of args belong to the first entries of prog. An error names
// a text that is no UTF-8, which TOML can't hold. Nothing is written then.
func Write(w io.Writer, items []Item) error {
	var b bytes.Buffer
	for n, it := range items {
		if n > 0 {
			b.WriteByte('\n')
		}
		var err error
		if it.Name != nil {
			err = writeName(&b, it.Name)
		} else {
			err = writeIPCP(&b, it.IPCP)
		}
		if err != nil {
			return err
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeName(b *bytes.Buffer, n *Name) error {
	body := struct {
		LB   string     `toml:"lb"`
		Prog []string   `toml:"prog,omitempty"`
		Args [][]string `toml:"args,omitempty"`
	}{LB: n.Policy}
	texts := []string{n.Name}
	for _, auto := range []bool{true, false} {
		for _, p := range n.Programs {
			if p.Auto != auto {
				continue
			}
			texts = append(append(texts, p.Path), p.Args...)
			body.Prog = append(body.Prog, p.Path)
			if auto {
				body.Args = append(body.Args, p.Args)
			}
		}
	}
	if err := utf8Only(fmt.Sprintf("name %q", n.Name), texts); err != nil {
		return err
	}
	bodies, err := protectionBodies(fmt.Sprintf("name %q", n.Name), n.Protection)
	if err != nil {
		return err
	}
	return table(b, "name", n.Name, append([]any{body}, bodies...)...)
}

func writeIPCP(b *bytes.Buffer, i *IPCP) error {
	var conn []string
	for _, x := range i.Connect {
		conn = append(conn, x.Component+":"+x.Dst)
	}
	if err := utf8Only(fmt.Sprintf("IPCP %q", i.Name), slices.Concat([]string{i.Name, i.Draft.Layer, i.Enrol}, i.Register, conn)); err != nil {
		return err
	}
	bodies := []any{struct {
		Bootstrap string   `toml:"bootstrap,omitempty"`
		Enrol     string   `toml:"enrol,omitempty"`
		Hash      string   `toml:"hash,omitempty"`
		Reg       []string `toml:"reg,omitempty"`
		Autobind  bool     `toml:"autobind,omitempty"`
		Conn      []string `toml:"conn,omitempty"`
	}{i.Draft.Layer, i.Enrol, i.Draft.Hash, i.Register, i.Autobind, conn}}
	for _, o := range i.Type.Options {
		if s := ipcp.Settings(i.Draft.Settings).Text(o.Name); s != "" {
			bodies = append(bodies, map[string]any{key(o): tomlValue(o, s)})
		}
	}
	more, err := protectionBodies(fmt.Sprintf("IPCP %q", i.Name), i.Protection)
	if err != nil {
		return err
	}
	return table(b, i.Type.Name, i.Name, append(bodies, more...)...)
}

// protectionBodies returns the keys of p, which belongs to what.
func protectionBodies(what string, p registry.Protection) (bodies []any, err error) {
	for _, s := range p.Settings() {
		if err := utf8Only(what, []string{s.Value}); err != nil {
			return nil, err
		}
		bodies = append(bodies, map[string]any{s.Name: s.Value})
	}
	return bodies, nil
}

// tomlValue returns the value of an option for the TOML encoder. The encoder would
// write a hexadecimal number in decimal, so such a number is a text.
func tomlValue(o ipcp.Option, s string) any {
	switch {
	case o.Kind == ipcp.Flag:
		return s == "true"
	case o.Kind == ipcp.Number && o.Base != 16:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
	}
	return s
}

// table writes the table [kind.name] with the keys of bodies.
func table(b *bytes.Buffer, kind, name string, bodies ...any) error {
	fmt.Fprintf(b, "[%v]\n", toml.Key{kind, name})
	e := toml.NewEncoder(b)
	for _, body := range bodies {
		if err := e.Encode(body); err != nil {
			return err
		}
	}
	return nil
}

// utf8Only returns an error that names the first of texts that is no UTF-8. The
// texts belong to what.
func utf8Only(what string, texts []string) error {
	for _, t := range texts {
		if !utf8.ValidString(t) {
			return fmt.Errorf("%s can't be written: %q is no UTF-8, and a config file holds nothing else", what, t)
		}
	}
	return nil
}
