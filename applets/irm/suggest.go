package irm

import (
	"fmt"
	"strings"

	"o7s/applets"
	"o7s/core/ipcp"
)

// foreign are words that people type although irm has no such command.
func foreign() map[string]string {
	layer := `a layer is shown with its IPCPs, by "irm ipcp list", and made by "irm ipcp bootstrap"`
	return map[string]string{
		"layer": layer, "layers": layer,
		"ps":   `"irm process list" shows the processes`,
		"ping": `"oping -n NAME" pings a name`,
	}
}

// lacking are the commands of IPCPs that none of types has.
func lacking(types []ipcp.Type) map[string]string {
	all := make(map[string]string)
	var names []string
	for _, t := range types {
		names = append(names, t.Name)
	}
	for verb, a := range map[string]ipcp.Ability{"enroll": ipcp.Enrolls, "connect": ipcp.Connects, "disconnect": ipcp.Connects} {
		if capable(types, a) == "" {
			all[verb] = fmt.Sprintf("the word is right, but no layer type of this executable has that command; its types are %s", alternatives(names))
		}
	}
	return all
}

// unknown returns the error for a word that is no command of r's group.
func (r *request) unknown(word string, root *command) error {
	err := fmt.Errorf("unknown command %q", word)
	if text := r.cmd.absent[word]; text != "" {
		return r.usage(fmt.Errorf("%w: %s", err, text))
	}
	if all := r.cmd.meant(word, root); len(all) > 0 {
		full := strings.TrimSpace("irm " + r.path)
		return fmt.Errorf("%w: did you mean %s? \"%s --help\" lists the commands", err, alternatives(all), full)
	}
	return r.usage(fmt.Errorf("%w: it is %s", err, r.cmd.words()))
}

// meant returns the commands that word, which is none of group c, may stand for: those
// of c whose name is almost word, else those of other groups.
func (c *command) meant(word string, root *command) []string {
	var here, there []string
	var walk func(g *command, path string)
	walk = func(g *command, path string) {
		for _, s := range g.sub {
			full := path + " " + s.name
			switch {
			case !applets.Near(word, s.name):
			case g == c:
				here = append(here, `"`+full+`"`)
			default:
				there = append(there, `"`+full+`"`)
			}
			walk(s, full)
		}
	}
	walk(root, "irm")
	if here != nil {
		return here
	}
	return there
}
