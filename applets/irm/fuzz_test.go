package irm

import (
	"reflect"
	"strings"
	"testing"
)

// write returns the words, in full, that give c the input in.
func write(c *command, path string, in input) []string {
	words := strings.Fields(path)
	if in.operand != "" {
		words = append(words, endOptions, in.operand)
	}
	for _, k := range c.table(in) {
		for _, v := range in.values[k.name] {
			if words = append(words, k.name); k.need != bare {
				words = append(words, v)
			}
		}
	}
	for _, f := range c.flags {
		if in.flags[f.name] {
			words = append(words, f.name)
		}
	}
	if in.rest != nil {
		words = append(append(words, endOptions), in.rest...)
	}
	return words
}

// FuzzGrammar: no words, which line feeds end here, make the grammar panic;
// and those that it understands it understands the same way when they are
// written in full.
func FuzzGrammar(f *testing.F) {
	for _, seed := range []string{
		"i b t local n x l y", "bind process 6810 name oping-server", "name create -- --help",
		"name register x l a* i b l c", "unbind proc 1", "bind program true name x auto -- --listen", "n l o", "ipcp help create", "ipcp list type --version",
	} {
		f.Add(strings.ReplaceAll(seed, " ", "\n"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := root.parse(strings.Split(line, "\n"))
		if err != nil {
			return
		}
		if r.ask != askRun {
			return
		}
		if r.cmd.tried(r.in) == "" {
			t.Error("tried nothing")
		}
		again, err := root.parse(write(r.cmd, r.path, r.in))
		if err != nil {
			t.Fatalf("%q, written in full: %v", line, err)
		}
		if r.ask != again.ask || r.cmd != again.cmd || r.path != again.path || !reflect.DeepEqual(r.in, again.in) {
			t.Fatalf("%q is %v, written in full %v", line, r.in, again.in)
		}
	})
}
