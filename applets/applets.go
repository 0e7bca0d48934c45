// Package applets is the multitool around the applets. It picks an applet by
// argv[0] or by the first argument, gives it a context that ends at a signal,
// and turns its error into an exit status. Each applet has a package of its own.
package applets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/core/logs"
	"o7s/ipc/irmctl"
)

// Applet is one tool of the multitool.
type Applet struct {
	Name    string // argv[0], or the first argument
	Summary string // one line for the list of applets
	Hidden  bool   // not for people: left out of that list and of install
	NoLink  bool   // an argument only: left out of install

	// Run does the applet's work until it is done or ctx ends, which it does
	// at the first SIGINT, SIGTERM or SIGHUP. Its error is printed on
	// stderr; Usagef and Exit choose the status, which is 1 otherwise.
	Run func(ctx context.Context, env *Env) error

	// Early, if any, comes before Run, and before there are signals and outputs: a
	// call that needs neither starts sooner. It reports whether args are such a
	// call, which it has done then, and the exit status.
	Early func(args []string) (status int, done bool)

	// Complete prints the words that may replace the last of args, by
	// Candidate. Manual returns the manual page. An applet needs neither if
	// its command line is flags and its Run calls CLI first.
	Complete func(ctx context.Context, w io.Writer, args []string)
	Manual   func() string
}

// Env is what an applet has of the world outside.
//
// All applets print by Stdout and Stderr alone, whole lines in one Write. In a
// process of its own an applet may ignore their errors: an error of Stdout ends
// the applet's ctx, Main tells it, and the status is 1. See Serve for those
// that go on.
type Env struct {
	Name           string   // the applet's name
	Args           []string // the arguments after it
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	describe func(*cli.App) // set where CLI is to tell what there is, and to run nothing
	streams  *streams       // nil in tests: what Stdout and Stderr are is not known
}

// The exit statuses of every applet.
const (
	StatusDone   = 0
	StatusFailed = 1
	StatusUsage  = 2
	// statusPipe is what a shell shows of a process that SIGPIPE has killed.
	statusPipe = 128 + int(syscall.SIGPIPE)
)

// statusError is an error with an exit status of its own.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// Usagef returns an error that ends the applet with status 2: it was called
// the wrong way.
func Usagef(format string, args ...any) error {
	return statusError{StatusUsage, fmt.Errorf(format, args...)}
}

// Exit returns an error that ends the applet with status. Nothing is printed:
// the applet has told already what went wrong.
func Exit(status int) error { return statusError{status, nil} }

// sameSignal is how long a second signal counts as a copy of the first.
// timeout(1) sends a signal to the process and to its group. If the copy killed
// the applet, the applet could not clean up.
var sameSignal = time.Second

// Until returns a context that ends with ctx or at the first of signals. A later
// signal does what it does to any process, should the first not be enough. A
// SIGHUP or SIGINT that was ignored when the process started, as by nohup or by a
// script's "&", stays ignored. Of other signals Go does not tell.
func Until(ctx context.Context, signals ...os.Signal) (context.Context, context.CancelFunc) {
	// To package signal, no signals are all signals.
	if signals = slices.DeleteFunc(signals, signal.Ignored); len(signals) == 0 {
		return context.WithCancel(ctx)
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	context.AfterFunc(ctx, func() { time.AfterFunc(sameSignal, stop) })
	return ctx, stop
}

// Main runs the applet that args, the process's, ask for and returns the exit
// status. Two applets of one name are a programmer's error: it panics.
func Main(args []string, table []Applet) int {
	byName := make(map[string]Applet, len(table))
	for _, a := range table {
		if _, ok := byName[a.Name]; ok {
			panic("two applets are called " + a.Name)
		}
		byName[a.Name] = a
	}
	env := &Env{Name: filepath.Base(args[0]), Args: args[1:], Stdin: os.Stdin}
	a, ok := byName[env.Name]
	if !ok {
		if a, ok = byName[first(env.Args)]; ok {
			env.Name, env.Args = a.Name, env.Args[1:]
			irmctl.SetApplet(a.Name)
		} else {
			a = multitool(table)
			env.Name = "o7s"
		}
	}
	if a.Early != nil {
		if code, done := a.Early(env.Args); done {
			return code
		}
	}
	ctx, stop := Until(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	env.open(ctx, cancel)
	return env.end(ctx, a.Run(ctx, env))
}

// status prints err for the user and returns the exit status.
func status(env *Env, err error) int {
	if err == nil {
		return StatusDone
	}
	code := StatusFailed
	if se, ok := errors.AsType[statusError](err); ok {
		code = se.status
		if se.error == nil {
			return code
		}
	}
	fmt.Fprintf(env.Stderr, "%s: %s\n", env.Name, logs.Escape(err.Error()))
	return code
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

type multiCommand struct{ name, args, summary string }

// multiCommands are o7s's own commands.
var multiCommands = []multiCommand{
	{"install", "DIR | --prefix DIR", "copy o7s to DIR and make the symlinks there; with --prefix to DIR/bin, and manual pages and completions below DIR"},
	{"uninstall", "DIR | --prefix DIR", "remove what install wrote"},
	{"completion", "SHELL", "print the completion for bash, zsh or fish"},
	{"man", "DIR", "write the manual pages to DIR"},
	{"help", "", "list the applets"},
	{"version", "", "print the version"},
}

// multitool is what runs when no applet was asked for: it lists and installs
// them.
func multitool(table []Applet) Applet {
	return Applet{Name: "o7s", Run: func(ctx context.Context, env *Env) error {
		arg := Hyphens(first(env.Args))
		// "o7s install --help" asks, and makes no directory of that name.
		if len(env.Args) == 2 && (env.Args[1] == "--help" || env.Args[1] == "-h") && isCommand(arg) {
			arg = "help"
		}
		switch arg {
		case "", "help", "--help", "-h":
			if len(env.Args) > 1 && env.Args[0] == "help" && !isCommand(env.Args[1]) {
				return helpOn(ctx, env, table)
			}
			list(env.Stdout, table)
			return nil
		case "version", "--version", "-v":
			fmt.Fprintln(env.Stdout, VersionLine("o7s"))
			return nil
		case "install":
			i, err := newInstaller(env.Stdout, arg, env.Args[1:], table)
			if err != nil {
				return err
			}
			return i.install(ctx)
		case "uninstall":
			i, err := newInstaller(env.Stdout, arg, env.Args[1:], table)
			if err != nil {
				return err
			}
			return i.uninstall()
		case "completion":
			return completion(env.Stdout, env.Args[1:], table)
		case "man":
			if !oneDir(env.Args) {
				return Usagef("man takes one directory: o7s man DIR")
			}
			return man(ctx, env.Stdout, env.Args[1], table)
		case completeWord:
			complete(ctx, env.Stdout, env.Args[1:], table)
			return nil
		default:
			return unknownApplet(arg, table)
		}
	}}
}

// helpOn runs "APPLET WORD... --help" for "o7s help APPLET WORD...".
func helpOn(ctx context.Context, env *Env, table []Applet) error {
	name := env.Args[1]
	for _, a := range table {
		if a.Name == name {
			env.Name, env.Args = name, append(slices.Clone(env.Args[2:]), "--help")
			return a.Run(ctx, env)
		}
	}
	return unknownApplet(name, table)
}

// unknownApplet returns the error for a word that is no applet.
func unknownApplet(name string, table []Applet) error {
	var near []string
	for _, a := range table {
		if !a.Hidden && Near(name, a.Name) {
			near = append(near, fmt.Sprintf("%q", "o7s "+a.Name))
		}
	}
	for _, c := range multiCommands {
		if Near(name, c.name) {
			near = append(near, fmt.Sprintf("%q", "o7s "+c.name))
		}
	}
	if len(near) > 0 {
		return Usagef("unknown applet %q: did you mean %s? \"o7s --help\" lists them", name, strings.Join(near, " or "))
	}
	return Usagef("unknown applet %q: \"o7s --help\" lists them", name)
}

// isCommand reports whether name is one of o7s's own commands.
func isCommand(name string) bool {
	return slices.ContainsFunc(multiCommands, func(c multiCommand) bool { return c.name == name })
}

// oneDir reports whether args are a command and a directory. What looks like a
// flag is none: "./-x" is one of such a name.
func oneDir(args []string) bool {
	return len(args) == 2 && args[1] != "" && args[1][0] != '-'
}

func list(w io.Writer, table []Applet) {
	fmt.Fprint(w, `o7s - the Ouroboros recursive network in one executable

Usage: o7s APPLET [ARGUMENTS]      or, by a symlink: APPLET [ARGUMENTS]
       o7s install DIR             copy o7s to DIR and make the symlinks there
       o7s install --prefix DIR    the same in DIR/bin, and manual pages and completions
       o7s uninstall DIR | --prefix DIR      remove what install wrote
       o7s completion SHELL        print the completion for bash, zsh or fish
       o7s man DIR                 write the manual pages to DIR
       o7s --version

Applets:
`)
	for _, a := range table {
		if !a.Hidden {
			fmt.Fprintf(w, "  %-10s %s\n", a.Name, a.Summary)
		}
	}
	fmt.Fprint(w, "\n\"o7s APPLET --help\" tells about each. New here? \"o7s tutorial\" shows it all.\n")
}
