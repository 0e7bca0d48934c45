package applets

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// known is what spread knows of a flag by one of its names.
type known struct {
	name  string // the first of its names
	value bool   // it takes a value
	many  bool   // it may be given several times
	// check says what is wrong with a value, as the end of a sentence; "": nothing.
	check func(string) string
}

// spread checks the flags in args and rewrites what the package cli does not
// know of the POSIX conventions (Utility Syntax Guidelines 5 and 6): "-c5" for
// "-c 5", and "-Dq" for "-D -q". Its error names a flag as it is typed, which
// the errors of that package do not: a flag that does not exist, lacks its
// value, has a bad one, or is given twice.
func spread(flags []cli.Flag, args []string) (out []string, err error) {
	byName := knownFlags(flags)
	given := map[string]string{} // by the first name: as it was typed
	take := func(flag string, value *string) error {
		k := byName[strings.TrimLeft(flag, "-")]
		if value != nil && k.check != nil {
			if wrong := k.check(*value); wrong != "" {
				return fmt.Errorf("%s: %q is %s", flag, *value, wrong)
			}
		}
		first, again := given[k.name]
		given[k.name] = flag
		switch {
		case !again || k.many:
		case first == flag && k.value:
			return fmt.Errorf("%q is given twice: give it once", flag)
		case first != flag:
			return fmt.Errorf("%q and %q are one flag: give one of them", first, flag)
		}
		return nil
	}
	for len(args) > 0 {
		arg := args[0]
		if fixed := Hyphens(arg); fixed != arg {
			name, _, _ := strings.Cut(strings.TrimLeft(fixed, "-"), "=")
			if _, ok := byName[name]; ok {
				arg = fixed
			}
		}
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			return append(out, args...), nil // no flag, and none after it
		}
		args = args[1:]
		flag, text, assigned := strings.Cut(arg, "=")
		name := strings.TrimLeft(flag, "-")
		if name == "" || strings.HasPrefix(arg, "---") {
			out = append(out, arg) // the package cli refuses it
			continue
		}
		parts := []string{flag}
		var value *string
		if assigned {
			value = &text
		}
		if _, ok := byName[name]; !ok {
			if parts, value = letters(byName, arg[1:]); parts == nil {
				return nil, fmt.Errorf("there is no flag %q", flag)
			}
			assigned = false
		}
		last := parts[len(parts)-1]
		if byName[strings.TrimLeft(last, "-")].value && value == nil {
			if len(args) == 0 {
				return nil, fmt.Errorf("the flag %q needs a value", last)
			}
			value, args = &args[0], args[1:]
		}
		for i, part := range parts {
			v := value
			if i < len(parts)-1 {
				v = nil
			}
			if err := take(part, v); err != nil {
				return nil, err
			}
		}
		switch {
		case assigned:
			out = append(out, arg)
		case value != nil:
			out = append(append(out, parts...), *value)
		default:
			out = append(out, parts...)
		}
	}
	return out, nil
}

// knownFlags returns what is known of the flags, by each of their names.
func knownFlags(flags []cli.Flag) map[string]known {
	byName := map[string]known{}
	for _, name := range []string{"help", "h", "version", "v"} {
		byName[name] = known{name: name, many: true, check: isBool}
	}
	for _, f := range flags {
		k := known{name: f.Names()[0]}
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			k.value = doc.TakesValue()
		}
		switch f.(type) {
		case *cli.BoolFlag:
			k.check = isBool
		case *cli.IntFlag:
			k.check = isInt
		case *cli.DurationFlag:
			k.check = isDuration
		case *cli.StringSliceFlag:
			k.many = true
		}
		for _, name := range f.Names() {
			byName[name] = k
		}
	}
	return byName
}

func isBool(s string) string {
	if _, err := strconv.ParseBool(s); err != nil {
		return "neither true nor false"
	}
	return ""
}

func isInt(s string) string {
	if _, err := strconv.ParseInt(s, 0, 0); err != nil {
		return "no whole number"
	}
	return ""
}

func isDuration(s string) string {
	if _, err := time.ParseDuration(s); err != nil {
		return "no time: give a number and ms, s, m or h"
	}
	return ""
}

// letters makes flags of the letters of s, up to one that takes a value: the
// rest of s is that value, nil where there is no rest. It returns no flags
// where a letter is none.
func letters(byName map[string]known, s string) (out []string, value *string) {
	for s != "" {
		k, ok := byName[s[:1]]
		if !ok {
			return nil, nil
		}
		out, s = append(out, "-"+s[:1]), s[1:]
		if k.value && s != "" {
			return out, &s
		}
	}
	return out, nil
}
