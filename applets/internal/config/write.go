package config

import (
	"fmt"
	"io"
	"strings"
)

// Write writes items as Parse reads them. Programs that start by themselves
// come first in prog, since args are theirs.
func Write(w io.Writer, items []Item) error {
	var err error
	print := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, args...)
		}
	}
	for n, it := range items {
		if n > 0 {
			print("\n")
		}
		if it.Name != nil {
			print("[name.%s]\nlb = \"%s\"\n", key(it.Name.Name), it.Name.Policy)
			prog, args := programs(it.Name.Programs)
			if len(prog) > 0 {
				print("prog = [%s]\n", strings.Join(prog, ", "))
			}
			if len(args) > 0 {
				print("args = [%s]\n", strings.Join(args, ", "))
			}
			continue
		}
		print("[%s.%s]\n", key(it.IPCP.Type), key(it.IPCP.Name))
		if it.IPCP.Layer != "" {
			print("bootstrap = %s\nhash = \"%v\"\n", quote(it.IPCP.Layer), it.IPCP.Hash)
			print("reg = %s\n", list(it.IPCP.Register))
		}
	}
	return err
}

func programs(all []Program) (prog, args []string) {
	for _, auto := range []bool{true, false} {
		for _, p := range all {
			if p.Auto != auto {
				continue
			}
			prog = append(prog, quote(p.Path))
			if auto {
				args = append(args, list(p.Args))
			}
		}
	}
	return prog, args
}

func list(texts []string) string {
	var all []string
	for _, t := range texts {
		all = append(all, quote(t))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// key returns name as a key of a table.
func key(name string) string {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return name
	}
	return quote(name)
}

// quote returns s as a TOML text. Bytes that are no UTF-8, which TOML can't
// hold, become U+FFFD.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
