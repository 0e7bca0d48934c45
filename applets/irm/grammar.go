package irm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"o7s/applets"
	"o7s/core/ipcp"
)

// command is a word of the command line: a group of commands, or a command that
// runs.
//
// A command takes its operand first, if it has one, and then its keywords in any
// order, each followed by a value. Every word but an operand or a value may be
// shortened: it means the first entry of its table that begins with it. So the
// order of each table is part of the user interface.
type command struct {
	name    string
	summary string // for help: what it does
	example string // for help: lines to type

	sub    []*command        // of a group
	absent map[string]string // of a group: words that are no command of it, and what to say to them

	// All below is for a command that runs.

	operand  operand
	keywords []keyword
	types    []ipcp.Type // whose options are keywords too: see table
	flags    []toggle
	rest     string // what help calls the words after "--"; "": it takes none
	notes    string // for help

	check func(in input) error  // what the whole of the input must satisfy; may be nil
	limit time.Duration         // for the whole of run; 0: until the user ends it
	tried func(in input) string // what run tries, for its error
	run   func(ctx context.Context, d irmd, in input, out *screen) error
}

// operand is the value that a command takes without a keyword.
type operand struct {
	value    string // what help calls it, "PID"; "" where there is none
	help     string
	optional bool
	check    func(string) error
}

// keyword is a word that gives the next word its meaning.
type keyword struct {
	name  string
	value string // what help calls the value: "NAME"
	help  string
	need  need
	alone bool               // the value may be the first word of all, without the keyword
	check func(string) error // nil: input.check does it

	suggest func() []string // of an option: values for completion
}

// toggle is an option of a command, a word of its own: --json.
type toggle struct{ name, help string }

// need says how often a keyword is given.
type need int

const (
	optional need = iota // at most once
	bare                 // at most once, and without a value
	required             // once
	some                 // as often as one likes, and a command's keywords of this need once in all
)

// input is what the user gives a command. An operand that is not given is "":
// no operand may be empty.
type input struct {
	operand string
	values  map[string][]string // by keyword, in the order given
	flags   map[string]bool
	rest    []string // the words after "--"
}

// one returns the value of a keyword that is given at most once, or "".
func (in input) one(keyword string) string {
	if v := in.values[keyword]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// ask says what a command line asks for.
type ask int

const (
	askRun ask = iota
	askHelp
	askVersion
)

// request is a command line that was understood.
type request struct {
	ask  ask
	cmd  *command // what is asked, or asked about
	path string   // its words, in full: "ipcp create"
	in   input    // for askRun
}

// parse returns what args, which follow the word c, ask for. The error says
// what to do instead.
func (c *command) parse(args []string) (*request, error) {
	r := &request{cmd: c}
	for r.cmd.sub != nil {
		if len(args) == 0 {
			return nil, noCommand{r, r.usage(fmt.Errorf("a command is missing: it is %s", r.cmd.words()))}
		}
		if r.ask = option(args[0]); r.ask != askRun {
			return r, nil
		}
		next := r.cmd.find(args[0])
		if next == nil {
			switch {
			case matches(args[0], helpWord):
				return r.about(args[1:])
			case args[0] == versionWord && r.cmd == c:
				r.ask = askVersion
				return r, nil
			}
			return nil, r.unknown(args[0], c)
		}
		r.down(next)
		args = args[1:]
	}
	var err error
	if r.in, r.ask, err = r.cmd.input(args); err != nil {
		return nil, r.usage(err)
	}
	return r, nil
}

// noCommand is the error for a group of commands without a command.
type noCommand struct {
	*request
	error
}

// helpWord is the last command of each group. versionWord is understood after irm
// alone: help has --version.
const (
	helpWord    = "help"
	versionWord = "version"
)

// about returns the request for help on the command, below r's, that words
// name.
func (r *request) about(words []string) (*request, error) {
	r.ask = askHelp
	for _, w := range words {
		next := r.cmd.find(w)
		if next == nil {
			if r.cmd.sub == nil || w == helpWord || option(w) != askRun {
				return r, nil
			}
			return nil, r.usage(fmt.Errorf("no help on %q: there is some on %s", w, r.cmd.words()))
		}
		r.down(next)
	}
	return r, nil
}

// down moves r to c, a command of its group.
func (r *request) down(c *command) {
	r.cmd = c
	r.path = strings.TrimPrefix(r.path+" "+c.name, " ")
}

// usage returns err with the words of r before it and the command for help after
// it. err says what is wrong with the words after those of r.
func (r *request) usage(err error) error {
	if r.path == "" {
		return fmt.Errorf("%w: try \"irm --help\"", err)
	}
	return fmt.Errorf("%s: %w: try \"irm %s --help\"", r.path, err, r.path)
}

// option returns what arg asks for if it is --help, --version or a short form of
// them. It may stand where a command, an operand or a keyword may.
func option(arg string) ask {
	switch applets.Hyphens(arg) {
	case "--help", "-h":
		return askHelp
	case "--version", "-v":
		return askVersion
	}
	return askRun
}

// matches reports whether arg stands for word.
func matches(arg, word string) bool {
	return arg != "" && strings.HasPrefix(word, arg)
}

// find returns the command of group c that arg stands for, or nil.
func (c *command) find(arg string) *command {
	for _, s := range c.sub {
		if matches(arg, s.name) {
			return s
		}
	}
	return nil
}

// words lists the commands of group c.
func (c *command) words() string {
	var all []string
	for _, s := range c.sub {
		all = append(all, s.name)
	}
	return alternatives(append(all, helpWord))
}

// alternatives joins words as in "a, b or c".
func alternatives(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
