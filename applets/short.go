package applets

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// spread rewrites what the package cli does not know of the POSIX conventions
// (Utility Syntax Guidelines 5 and 6): "-c5" for "-c 5", and "-Dq" for "-D -q".
// What is no flag it leaves for that package to refuse.
func spread(flags []cli.Flag, args []string) (out []string) {
	takesValue := map[string]bool{"help": false, "h": false, "version": false, "v": false}
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			takesValue[name] = ok && doc.TakesValue()
		}
	}
	for len(args) > 0 {
		arg := args[0]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			return append(out, args...) // no flag, and none after it
		}
		args = args[1:]
		name, _, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		wants, known := takesValue[name]
		wants = wants && !given
		if parts, more := letters(takesValue, arg[1:]); known || parts == nil {
			out = append(out, arg)
		} else {
			out, wants = append(out, parts...), more
		}
		if wants && len(args) > 0 {
			out, args = append(out, args[0]), args[1:]
		}
	}
	return out
}

// letters makes flags of the letters of s, up to one that takes the rest of s
// as its value, or wants the next argument; nil where a letter is no flag.
func letters(takesValue map[string]bool, s string) (out []string, wants bool) {
	for s != "" {
		value, known := takesValue[s[:1]]
		if !known {
			return nil, false
		}
		out, s = append(out, "-"+s[:1]), s[1:]
		if value && s != "" {
			return append(out, s), false
		}
		wants = value
	}
	return out, wants
}
