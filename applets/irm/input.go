package irm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// endOptions is the word after which an operand may look like an option.
const endOptions = "--"

// input returns what args give the command c, and whether they ask to run it.
func (c *command) input(args []string) (input, ask, error) {
	in := input{values: make(map[string][]string), flags: make(map[string]bool)}
	if c.asksHelp(args) {
		return in, askHelp, nil
	}
	args = c.takeFlags(&in, args)
	args, what, err := c.takeOperand(&in, args)
	if err != nil || what != askRun {
		return in, what, err
	}
	for len(args) > 0 {
		if args = c.takeFlags(&in, args); len(args) == 0 {
			break
		}
		if what := option(args[0]); what != askRun {
			return in, what, nil
		}
		if args[0] == endOptions && c.rest != "" {
			in.rest = args[1:]
			break
		}
		if args, err = c.takeKeyword(&in, args); err != nil {
			return in, askRun, err
		}
	}
	if err := c.complete(in); err != nil {
		return in, askRun, err
	}
	if c.check != nil {
		return in, askRun, c.check(in)
	}
	return in, askRun, nil
}

// asksHelp reports whether args are the word help. A command with an operand takes
// that word as its operand.
func (c *command) asksHelp(args []string) bool {
	return c.operand.value == "" && len(args) == 1 && args[0] == helpWord
}

// takeFlags puts the flags that args begin with into in and returns the words
// after them.
func (c *command) takeFlags(in *input, args []string) []string {
	for len(args) > 0 && slices.ContainsFunc(c.flags, func(f toggle) bool { return f.name == args[0] }) {
		in.flags[args[0]] = true
		args = args[1:]
	}
	return args
}

// takeKeyword puts the first of args, a keyword, and its value into in and
// returns the words after them.
func (c *command) takeKeyword(in *input, args []string) ([]string, error) {
	k, err := c.keyword(*in, args[0])
	if err != nil {
		for _, alone := range c.keywords {
			if alone.alone && len(in.values) == 0 {
				return c.takeValue(in, alone, args)
			}
		}
		return nil, err
	}
	if k.need == bare {
		if len(in.values[k.name]) > 0 {
			return nil, fmt.Errorf("the keyword %q is given twice", k.name)
		}
		in.values[k.name] = []string{k.name}
		return args[1:], nil
	}
	if len(args) == 1 {
		return nil, fmt.Errorf("the keyword %q needs a value", k.name)
	}
	return c.takeValue(in, k, args[1:])
}

// takeValue puts the first of args, the value of the keyword k, into in and returns
// the words after it.
func (c *command) takeValue(in *input, k keyword, args []string) ([]string, error) {
	value := args[0]
	if k.need != some && len(in.values[k.name]) > 0 {
		return nil, fmt.Errorf("the keyword %q is given twice", k.name)
	}
	if k.check != nil {
		if err := k.check(value); err != nil {
			return nil, fmt.Errorf("%s %q: %w", k.name, value, err)
		}
	}
	in.values[k.name] = append(in.values[k.name], value)
	return args[1:], nil
}

// takeOperand puts c's operand into in and returns the words after it.
func (c *command) takeOperand(in *input, args []string) ([]string, ask, error) {
	o := c.operand
	if o.value == "" {
		return args, askRun, nil
	}
	if len(args) > 0 && args[0] == endOptions {
		args = args[1:]
	} else if len(args) > 0 {
		if what := option(args[0]); what != askRun {
			return nil, what, nil
		}
	}
	if len(args) == 0 {
		if o.optional {
			return nil, askRun, nil
		}
		return nil, askRun, fmt.Errorf("the %s is missing", o.value)
	}
	if err := o.check(args[0]); err != nil {
		return nil, askRun, fmt.Errorf("%s %q: %w", o.value, args[0], err)
	}
	in.operand = args[0]
	return args[1:], askRun, nil
}

// keyword returns the keyword of c that arg means after the words of in.
func (c *command) keyword(in input, arg string) (keyword, error) {
	var names []string
	for _, k := range c.table(in) {
		if matches(arg, k.name) {
			return k, nil
		}
		names = append(names, k.name)
	}
	if len(names) == 0 && in.operand == "name" && c.operand.value == "NAME" {
		return keyword{}, fmt.Errorf("%q is one word too many: the NAME stands without the word name", arg)
	}
	if len(names) == 0 {
		return keyword{}, fmt.Errorf("%q is one word too many", arg)
	}
	return keyword{}, fmt.Errorf("unknown keyword %q: it is %s", arg, alternatives(names))
}

// complete returns an error that names the keywords that in lacks.
func (c *command) complete(in input) error {
	var lacks, any []string
	given := false
	for _, k := range c.keywords {
		n := len(in.values[k.name])
		switch {
		case k.need == required && n == 0:
			lacks = append(lacks, quoted(k.name, k.value))
		case k.need == some:
			any = append(any, quoted(k.name, k.value))
			given = given || n > 0
		}
	}
	if len(any) > 0 && !given {
		lacks = append(lacks, strings.Join(any, " or "))
	}
	switch len(lacks) {
	case 0:
		return nil
	case 1:
		return errors.New(lacks[0] + " is missing")
	}
	return errors.New(strings.Join(lacks, " and ") + " are missing")
}

func quoted(words ...string) string { return `"` + strings.Join(words, " ") + `"` }
