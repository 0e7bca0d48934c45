package irm

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// help writes what there is to know about c, whose words are path.
func help(w io.Writer, c *command, path string) {
	full := strings.TrimSuffix("irm "+path, " ")
	fmt.Fprintf(w, "%s - %s\n\n", full, c.summary)
	if c.sub != nil {
		helpGroup(w, c, full)
	} else {
		helpCommand(w, c, full)
	}
	fmt.Fprintf(w, "\nExample:\n  %s\n", strings.ReplaceAll(c.example, "\n", "\n  "))
}

func helpCommand(w io.Writer, c *command, full string) {
	fmt.Fprintf(w, "Usage: %s\n", usage(c, full))
	if c.operand.value != "" || len(c.keywords)+len(c.flags) > 0 || c.rest != "" {
		fmt.Fprintln(w)
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if c.operand.value != "" {
		fmt.Fprintf(tw, "  %s\t%s\n", c.operand.value, c.operand.help)
	}
	for _, k := range c.keywords {
		fmt.Fprintf(tw, "  %s\t%s\n", strings.TrimSuffix(k.name+" "+k.value, " "), k.help)
	}
	for _, f := range c.flags {
		fmt.Fprintf(tw, "  %s\t%s\n", f.name, f.help)
	}
	if c.rest != "" {
		fmt.Fprintf(tw, "  -- %s...\tthe words after --, as they are\n", c.rest)
	}
	tw.Flush()
	helpOptions(w, c)
	if c.notes != "" {
		fmt.Fprintf(w, "\n%s\n", c.notes)
	}
	if len(c.keywords) > 1 {
		fmt.Fprint(w, "\nThe keywords may come in any order, and be shortened.\n")
	}
}

func helpGroup(w io.Writer, c *command, full string) {
	fmt.Fprintf(w, "Usage: %s COMMAND ...\n\nCommands:\n", full)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	eachCommand(c, "", func(c *command, path string) { fmt.Fprintf(tw, "  %s\t%s\n", path, c.summary) })
	fmt.Fprintf(tw, "  %s\t%s\n", helpWord+" [COMMAND]", "explain a command")
	tw.Flush()
	fmt.Fprintf(w, `
"%s COMMAND --help" explains one.
Commands and keywords may be shortened: "irm i b t local n x l y".
`, full)
}

// eachCommand calls f for the commands below c that run. Their words after
// c's begin with path.
func eachCommand(c *command, path string, f func(c *command, path string)) {
	for _, s := range c.sub {
		p := strings.TrimPrefix(path+" "+s.name, " ")
		if s.sub == nil {
			f(s, p)
		} else {
			eachCommand(s, p, f)
		}
	}
}

// usage returns how to write the command c.
func usage(c *command, full string) string {
	words := []string{full}
	if v := c.operand.value; v != "" {
		words = append(words, bracket(v, c.operand.optional))
	}
	var any []string
	for _, k := range c.keywords {
		word := strings.TrimSuffix(k.name+" "+k.value, " ")
		if k.need == some {
			any = append(any, word)
			continue
		}
		if k.alone {
			word = bracket(k.name, true) + " " + k.value
		}
		words = append(words, bracket(word, k.need == optional || k.need == bare))
	}
	if c.hasOptions() {
		words = append(words, "[OPTION]...")
	}
	if len(any) > 0 {
		words = append(words, "{"+strings.Join(any, " | ")+"}...")
	}
	for _, f := range c.flags {
		words = append(words, bracket(f.name, true))
	}
	if c.rest != "" {
		words = append(words, "[-- "+c.rest+"...]")
	}
	return strings.Join(words, " ")
}

func bracket(s string, optional bool) string {
	if optional {
		return "[" + s + "]"
	}
	return s
}
