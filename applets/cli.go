package applets

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

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
	app.Version = Version
	app.Writer, app.ErrWriter = env.Stdout, env.Stderr
	app.HideHelpCommand = true
	app.ExitErrHandler = func(*cli.Context, error) {} // the status is Main's to choose
	wrong := func(text string) error { return Usagef("%s; \"%s --help\" lists the flags", text, env.Name) }
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return wrong(asTyped(err)) }
	action := app.Action
	app.Action = func(c *cli.Context) error {
		if c.NArg() > 0 && app.ArgsUsage == "" {
			return Usagef("unexpected argument %q; \"%s --help\" tells what there is", c.Args().First(), env.Name)
		}
		return action(c)
	}
	args, err := spread(app.Flags, env.Args)
	if err != nil {
		return wrong(err.Error())
	}
	return app.RunContext(ctx, append([]string{env.Name}, args...))
}

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
// that has none.
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
	if c.Bool("stdout") {
		o.Writer = env.Stdout
	} else if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, env.Name); err == nil {
		return logs.NewHandler(syslogHandler{level: level, w: w}), level, nil
	}
	o.Color = !o.JSON && Terminal(o.Writer) && os.Getenv("NO_COLOR") == ""
	if f, ok := o.Writer.(*os.File); ok {
		o.Writer = &noWait{f: f}
	}
	return logs.New(o), level, nil
}

// Terminal reports whether w is a terminal.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Size returns how many columns and rows the terminal w has now; 0 where it does
// not tell, or is none.
func Size(w io.Writer) (columns, rows int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

// syslogHandler sends sentences to syslog, which adds the pid and the time.
type syslogHandler struct {
	slog.Handler // nil: what it has and this has not, nobody calls
	level        slog.Leveler
	w            *syslog.Writer
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

func (h syslogHandler) WithGroup(string) slog.Handler { return h }

func (h syslogHandler) Handle(_ context.Context, r slog.Record) error {
	line := fmt.Sprintf("%s: %s", h.component, logs.Escape(r.Message))
	switch logs.Level(r.Level) {
	case "DB":
		return h.w.Debug(line)
	case "II":
		return h.w.Info(line)
	case "WW":
		return h.w.Warning(line)
	}
	return h.w.Err(line)
}
