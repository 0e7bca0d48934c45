package applets

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
)

// spread rewrites what the package cli does not know of the POSIX conventions
// (Utility Syntax Guidelines 5 and 6): "-c5" for "-c 5", and "-Dq" for "-D -q".
// Its error names a flag that there is not, or that lacks its value, as it is
// typed, which that package does not.
func spread(flags []cli.Flag, args []string) (out []string, err error) {
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
			return append(out, args...), nil // no flag, and none after it
		}
		args = args[1:]
		flag, _, given := strings.Cut(arg, "=")
		name := strings.TrimLeft(flag, "-")
		wants, known := takesValue[name]
		wants = wants && !given
		if parts, more := letters(takesValue, arg[1:]); known || name == "" {
			out = append(out, arg) // where it has no name that package refuses it
		} else if parts == nil {
			return nil, fmt.Errorf("there is no flag %q", flag)
		} else {
			out, wants = append(out, parts...), more
		}
		if wants && len(args) == 0 {
			return nil, fmt.Errorf("the flag %q needs a value", out[len(out)-1])
		}
		if wants {
			out, args = append(out, args[0]), args[1:]
		}
	}
	return out, nil
}

// What the package flag says of a value, and the package cli of a flag that is
// given by two of its names.
var (
	badValue = regexp.MustCompile(`^(invalid .*" for (?:flag )?-)([^ :]{2,}: )`)
	twoForms = regexp.MustCompile(`^Cannot use two forms of the same flag: (\S+) (\S+)$`)
)

// asTyped returns the text of err with the dashes that people type.
func asTyped(err error) string {
	if m := twoForms.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Sprintf("%q and %q are one flag: give one of them", dashes(m[1]), dashes(m[2]))
	}
	return badValue.ReplaceAllString(err.Error(), "$1-$2")
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
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
