package applets

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"o7s/applets/internal/output"
	"o7s/core/logs"
)

// CLI runs an applet whose command line is flags: it fills in what all of
// them share. A flag that is wrong ends it with StatusUsage, and so does an
// argument where ArgsUsage names none.
func CLI(ctx context.Context, env *Env, app *cli.App) error {
	if env.describe != nil {
		env.describe(app)
		return nil
	}
	app.Name = env.Name
	app.HelpName = env.Name
	app.Version = build()
	app.CustomAppHelpTemplate = helpTemplate
	app.Writer, app.ErrWriter = env.Stdout, env.Stderr
	app.HideHelpCommand = true
	app.ExitErrHandler = func(*cli.Context, error) {} // the status is Main's to choose
	wrong := func(text string) error { return Usagef("%s; \"%s --help\" lists the flags", text, env.Name) }
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return wrong(err.Error()) }
	action := app.Action
	app.Action = func(c *cli.Context) error {
		if c.NArg() > 0 && app.ArgsUsage == "" {
			text := fmt.Sprintf("unexpected argument %q", c.Args().First())
			if example := meantName(app, c); example != "" {
				text += fmt.Sprintf(": for a name it is %s %s", env.Name, example)
			}
			return Usagef("%s; \"%s --help\" tells what there is", text, env.Name)
		}
		return action(c)
	}
	args, err := spread(app.Flags, env.Args)
	if err != nil {
		return wrong(err.Error())
	}
	if len(args) == 1 && app.ArgsUsage == "" && (args[0] == "help" || args[0] == "version") {
		args[0] = "--" + args[0]
	}
	return app.RunContext(ctx, append([]string{env.Name}, args...))
}

// meantName returns the flag and the value that were meant where c has an argument
// that is no flag, and app has a flag --server-name that c lacks; else "".
func meantName(app *cli.App, c *cli.Context) string {
	for _, f := range app.Flags {
		if f.Names()[0] == "server-name" && !c.IsSet("server-name") && !c.Bool("listen") {
			return "-n " + logs.Word(c.Args().First())
		}
	}
	return ""
}

// Help is what --help and the manual page of an applet say beside its flags.
// Lines that begin with blanks are shown as they are.
type Help struct {
	Synopsis    string // how to call it: a line for each form
	Description string // before the flags: what it is for, and examples
	Notes       string // after the flags
}

const notesKey = "notes" // of cli.App.Metadata

// On makes h the help of app.
func (h Help) On(app *cli.App) *cli.App {
	app.UsageText, app.Description = h.Synopsis, h.Description
	if h.Notes != "" {
		app.Metadata = map[string]any{notesKey: h.Notes}
	}
	return app
}

// helpTemplate is how the help of every applet looks whose command line is flags.
const helpTemplate = `{{.Name}} - {{.Usage}}

Usage: {{trim (indent 7 .UsageText)}}
{{with .Description}}
{{.}}
{{end}}{{range .VisibleFlagCategories}}
{{if .Name}}{{.Name}} options{{else}}Options{{end}}:
{{range .Flags}}   {{.}}
{{end}}{{else}}
Options:
{{range .VisibleFlags}}   {{.}}
{{end}}{{end}}{{with index .Metadata "notes"}}
{{.}}
{{end}}`

// LogFlags returns the flags of an applet that logs.
func LogFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "stdout", Usage: "log to stdout at level debug; without it, to syslog at level info, or to stderr where there is no syslog", DisableDefaultText: true},
		&cli.StringFlag{Name: "log-level", Usage: "log lines of this `LEVEL` and above: debug, info, warn or error"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of the lines: text or json"},
	}
}

// LogArgs returns the arguments that make another applet log as c's does, at
// level.
func LogArgs(c *cli.Context, level *slog.LevelVar) []string {
	args := []string{"--log-format", c.String("log-format")}
	if c.Bool("stdout") {
		args = append(args, "--stdout")
	}
	return append(args, "--log-level", logs.LevelName(level.Level()))
}

// OpenLog returns the log that the flags of c ask for, and its level, which may
// be changed at any time. Without --stdout it is syslog, or stderr on a system
// that has none. It makes the applet a service: see Env.Serve.
func OpenLog(c *cli.Context, env *Env) (*logs.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if c.Bool("stdout") {
		level.Set(slog.LevelDebug)
	}
	if s := c.String("log-level"); s != "" {
		l, err := logs.ParseLevel(s)
		if err != nil {
			return nil, nil, Usagef("%v", err)
		}
		level.Set(l)
	}
	o := logs.Options{Level: level, Writer: env.Stderr}
	switch c.String("log-format") {
	case "text":
	case "json":
		o.JSON = true
	default:
		return nil, nil, Usagef("unknown log format %q: it is text or json", c.String("log-format"))
	}
	env.Serve(func(n uint64) []byte {
		var b bytes.Buffer
		logs.New(logs.Options{Writer: &b, JSON: o.JSON}).With(env.Name).Warnf("%s", missing(n))
		return b.Bytes()
	})
	if c.Bool("stdout") {
		o.Writer = env.Stdout
	} else if w := env.syslog(); w != nil {
		return logs.NewHandler(syslogHandler{level: level, w: w, tag: env.Name}), level, nil
	}
	o.Color = !o.JSON && Terminal(o.Writer) && os.Getenv("NO_COLOR") == ""
	return logs.New(o), level, nil
}

// Terminal reports whether w is a terminal.
func Terminal(w io.Writer) (yes bool) {
	onFile(w, func(fd int) { yes = term.IsTerminal(fd) })
	return yes
}

// Size returns how many columns and rows the terminal w has now; 0 where it does
// not tell, or is none.
func Size(w io.Writer) (columns, rows int) {
	onFile(w, func(fd int) {
		if c, r, err := term.GetSize(fd); err == nil {
			columns, rows = c, r
		}
	})
	return columns, rows
}

// onFile calls f with the descriptor of w, if w has one.
func onFile(w io.Writer, f func(fd int)) {
	c, ok := w.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// syslogHandler sends sentences to syslog.
type syslogHandler struct {
	slog.Handler // nil: the methods that are missing here are never called
	level        slog.Leveler
	w            io.Writer
	tag          string
	component    string
}

func (h syslogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "component" {
			h.component = a.Value.String()
		}
	}
	return h
}

func (h syslogHandler) Handle(_ context.Context, r slog.Record) error {
	_, err := h.w.Write(output.SyslogLine(r.Level, h.tag, h.component+": "+logs.Escape(r.Message)))
	return err
}
