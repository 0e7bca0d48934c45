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
	"o7s/core/settings"
)

// Write writes items as Parse reads them. Programs with Auto come first in prog,
// because the entries of args belong to the first entries of prog. An error names
// a text that is no UTF-8, which TOML can't hold. Nothing is written then.
func Write(w io.Writer, items []Item) error {
	o := new(output)
	o.enc = toml.NewEncoder(&o.text)
	for n, it := range items {
		if n > 0 {
			o.text.WriteByte('\n')
		}
		var err error
		if it.Name != nil {
			err = o.name(it.Name)
		} else {
			err = o.ipcp(it.IPCP)
		}
		if err != nil {
			return err
		}
	}
	_, err := w.Write(o.text.Bytes())
	return err
}

// output is a file that is being written. One encoder writes all tables: each has
// a buffer of its own, which takes longer to make than a table to write.
type output struct {
	text bytes.Buffer
	enc  *toml.Encoder // to text, which has all of a body once it is encoded
}

func (o *output) name(n *Name) error {
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
	return o.table("name", n.Name, append([]any{body}, bodies...)...)
}

func (o *output) ipcp(i *IPCP) error {
	var conn []string
	for _, x := range i.Connect {
		conn = append(conn, x.Component+":"+x.Dst)
	}
	if err := utf8Only(fmt.Sprintf("IPCP %q", i.Name), slices.Concat([]string{i.Name, i.Draft.Layer, i.Enrol}, i.Register, i.Bind, conn)); err != nil {
		return err
	}
	bodies := []any{struct {
		Bootstrap string   `toml:"bootstrap,omitempty"`
		Enrol     string   `toml:"enrol,omitempty"`
		Hash      string   `toml:"hash,omitempty"`
		Reg       []string `toml:"reg,omitempty"`
		Autobind  bool     `toml:"autobind,omitempty"`
		Bind      []string `toml:"bind,omitempty"`
		Conn      []string `toml:"conn,omitempty"`
	}{i.Draft.Layer, i.Enrol, i.Draft.Hash, i.Register, i.Autobind, i.Bind, conn}}
	for _, opt := range i.Type.Options {
		if s := ipcp.Settings(i.Draft.Settings).Text(opt.Name); s != "" {
			bodies = append(bodies, map[string]any{key(opt): tomlValue(opt, s)})
		}
	}
	more, err := protectionBodies(fmt.Sprintf("IPCP %q", i.Name), i.Protection)
	if err != nil {
		return err
	}
	return o.table(i.Type.Name, i.Name, append(bodies, more...)...)
}

// protectionBodies returns the keys of p, which belongs to what.
func protectionBodies(what string, p settings.Protection) (bodies []any, err error) {
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
func (o *output) table(kind, name string, bodies ...any) error {
	fmt.Fprintf(&o.text, "[%v]\n", toml.Key{kind, name})
	for _, body := range bodies {
		if err := o.enc.Encode(body); err != nil {
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
