// Package tutorial runs Tutorial 01 or 02 with real processes and tells what it
// does. It knows the steps and how to end them in order. It uses the processes as a
// person does: by typing commands and reading what they print.
package tutorial

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/applets"
)

// Applet returns the applet tutorial.
func Applet() applets.Applet {
	return applets.Applet{
		Name:    "tutorial",
		NoLink:  true,
		Summary: "run Tutorial 01, a layer, a server, a client, or 02, a layer over a layer",
		Run: func(ctx context.Context, env *applets.Env) error {
			return applets.CLI(ctx, env, &cli.App{
				Usage:     "run Tutorial 01, or 02, and tell what happens",
				UsageText: "o7s tutorial [--fast] [1|2]",
				ArgsUsage: "[1|2]",
				Description: "It starts an IRMd, makes a local layer, starts a ping server, binds and\n" +
					"registers its name, and pings it: real processes, in a runtime directory of\n" +
					"their own. It takes some 16 seconds, needs no root and leaves nothing behind.\n" +
					"Ctrl-C ends it at any time. Tutorial 2 makes a layer over a layer.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "fast", Usage: "ping faster and wait less for the server's time-out", DisableDefaultText: true},
				},
				Action: func(c *cli.Context) error {
					story := tutorial1
					switch which := c.Args().First(); {
					case c.NArg() > 1 || which != "" && which != "1" && which != "2":
						return applets.Usagef("unexpected argument %q: there are the tutorials 1 and 2", c.Args().Get(c.NArg()-1))
					case which == "2":
						story = tutorial2
					}
					return run(c.Context, env, story, c.Bool("fast"))
				},
			})
		},
	}
}

// programs are the applets that the tutorial types.
var programs = []string{"irmd", "irm", "oping"}

// tutorial is a tutorial that runs.
type tutorial struct {
	story  story
	screen *screen
	fast   bool
	env    []string                // of every process
	fail   context.CancelCauseFunc // ends the tutorial

	started            []*process // in this order
	irmd, server, ping *process
}

// run runs the tutorial. In any case it ends the processes that it started and
// removes its directory. Only after a SIGKILL the directory stays, and the kernel ends
// the processes.
func run(ctx context.Context, env *applets.Env, story story, fast bool) (err error) {
	// The processes get SIGTERM when the thread that started them ends; so
	// this one lasts as long as they do.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	steps, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	t := &tutorial{story: story, fast: fast, fail: fail}
	t.screen = newScreen(env.Stdout, applets.Terminal(env.Stdout) && os.Getenv("NO_COLOR") == "", fail)

	dir, err := t.makeDir()
	if err != nil {
		return err
	}
	t.screen.say(story.intro, dir)
	err = t.walk(steps)
	if err != nil && ctx.Err() != nil {
		t.screen.say("Interrupted. What was started is ended now.")
	}
	if e := t.end(); err == nil {
		err = e
	}
	if e := os.RemoveAll(dir); e != nil && err == nil {
		err = fmt.Errorf("remove the runtime directory: %w", e)
	}
	if err == nil {
		t.screen.say("%s", story.outro)
		err = t.screen.failed()
	}
	return err
}

// makeDir makes the directory that all of the tutorial happens in, with a
// link to this executable for each program, and the environment for it.
func (t *tutorial) makeDir() (_ string, err error) {
	dir, err := os.MkdirTemp("", "o7s-tutorial-")
	if err != nil {
		return "", fmt.Errorf("make a runtime directory: %w; TMPDIR chooses another place", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this executable: %w", err)
	}
	// The processes say by which path they were invoked: with PATH set like
	// this it is the link, as it would be after "o7s install".
	for _, name := range programs {
		if err := os.Symlink(exe, filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("make the commands: %w; TMPDIR chooses another place", err)
		}
	}
	t.env = append(os.Environ(),
		"O7S_RUNTIME_DIR="+filepath.Join(dir, "run"),
		"O7S_CONFIG_DIR="+filepath.Join(dir, "config"), // the user's own is for other IRMds
		"PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return dir, nil
}

// walk takes the steps of the tutorial, until one fails or ctx ends.
func (t *tutorial) walk(ctx context.Context) error {
	for i, s := range t.story.steps {
		t.screen.title(i+1, s.title)
		if err := s.do(t, ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause // which explains what the step says
			}
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
	}
	return nil
}

// end ends the processes that still run, the last one first: the IRMd ends
// its IPCP. It returns the first error.
func (t *tutorial) end() (err error) {
	for i := len(t.started) - 1; i >= 0; i-- {
		if e := t.started[i].stop(); err == nil {
			err = e
		}
	}
	return err
}

// The times that the tutorial takes.
const (
	// patience bounds the wait for whatever should come at once.
	patience = 20 * time.Second
	// stopTime is how long a process may take to end after SIGTERM. The IRMd
	// gives its IPCP a second of it.
	stopTime = 5 * time.Second
)
