// Package ocat joins a flow to standard input and output, to a program, or to a
// TCP or Unix socket. So programs that know nothing of flows use them.
package ocat

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/core"
)

const summary = "join a flow to stdin and stdout, a program or a socket"

var help = applets.Help{
	Synopsis: `ocat [--qos QOS] [--packets] NAME
ocat --listen NAME [--layer LAYER] [--packets]
ocat --listen NAME [--layer LAYER] --exec COMMAND | --to SOCKET
ocat --from SOCKET [--qos QOS] NAME`,
	Description: `The first form allocates a flow to NAME, sends what it reads from stdin and
writes to stdout what comes. The second form does so with the first flow that it
accepts. The third form accepts any number of flows: each gets a COMMAND of its
own, or a connection of its own to SOCKET. The fourth form listens on SOCKET and
allocates a flow to NAME for each connection. A SOCKET is tcp:HOST:PORT or
unix:PATH.

The end of the input is told to the other end, and what that still sends is
taken. With a terminal as stdin, ocat ends with the flow.`,
	Notes: `Example: a web server that knows nothing of flows, reached by its name
   ocat --listen web --layer local-layer --to tcp:127.0.0.1:8080
   ocat --from tcp:127.0.0.1:9000 web
   curl http://127.0.0.1:9000/
And ssh by a name
   ocat --listen ssh --layer local-layer --to tcp:127.0.0.1:22
   ssh -o ProxyCommand='ocat ssh' me@anything

Exit status: 0 both directions ended in order, or a server was stopped; 1
something failed; 2 wrong usage.`,
}

// config is what the arguments ask for.
type config struct {
	name    string
	listen  bool
	layers  []string // to register the name in
	qos     core.QoS
	packets bool
	command string // for the shell; "": none
	to      *socket
	from    *socket
}

// Applet returns the applet ocat.
func Applet() applets.Applet {
	return applets.Applet{Name: "ocat", Summary: summary, Run: run}
}

func run(ctx context.Context, env *applets.Env) error {
	return applets.CLI(ctx, env, help.On(&cli.App{
		Usage:     summary,
		ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Aliases: []string{"l"}, Usage: "accept flows to `NAME`"},
			&cli.StringSliceFlag{Name: "layer", Usage: "register the name in `LAYER` first, which may hold the wildcard *: takes an administrator's rights"},
			&cli.StringFlag{Name: "exec", Aliases: []string{"e"}, Usage: "run `COMMAND` by the shell for each flow, with the flow as its stdin and stdout"},
			&cli.StringFlag{Name: "to", Usage: "connect each flow to `SOCKET`"},
			&cli.StringFlag{Name: "from", Usage: "listen on `SOCKET`, and allocate a flow for each connection"},
			&cli.BoolFlag{Name: "packets", Usage: "send each line as one packet, write each packet as one line", DisableDefaultText: true},
			&cli.StringFlag{Name: "qos", Aliases: []string{"q"}, Value: "data", DefaultText: "data", Usage: "`QOS` of the flow: " + measure.QoSNames},
		},
		Action: func(c *cli.Context) error {
			cfg, err := parse(c)
			if err != nil {
				return applets.Usagef("%w; \"%s --help\" tells how", err, env.Name)
			}
			return cfg.run(c.Context, env)
		},
	}))
}

// parse returns what c asks for.
func parse(c *cli.Context) (*config, error) {
	cfg := &config{
		name: c.Args().First(), listen: c.IsSet("listen"), layers: c.StringSlice("layer"),
		packets: c.Bool("packets"), command: c.String("exec"),
	}
	if cfg.listen {
		if c.NArg() > 0 {
			return nil, fmt.Errorf("unexpected argument %q after the options: --listen has the name", c.Args().First())
		}
		cfg.name = c.String("listen")
	}
	if c.NArg() > 1 {
		return nil, fmt.Errorf("unexpected argument %q: options stand before the name", c.Args().Get(1))
	}
	if cfg.name == "" && !cfg.listen {
		return nil, errors.New("a name is missing: ocat NAME, or ocat --listen NAME")
	}
	if err := core.CheckName(cfg.name); err != nil {
		return nil, err
	}
	var ok bool
	if cfg.qos, ok = core.QoSByName(c.String("qos")); !ok {
		return nil, fmt.Errorf("--qos: unknown QoS %q: it is %s", c.String("qos"), measure.QoSNames)
	}
	for flag, s := range map[string]**socket{"to": &cfg.to, "from": &cfg.from} {
		if !c.IsSet(flag) {
			continue
		}
		parsed, err := parseSocket(c.String(flag))
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		*s = parsed
	}
	if c.IsSet("exec") && strings.TrimSpace(cfg.command) == "" {
		return nil, errors.New("--exec: a command is missing")
	}
	return cfg, cfg.check(c)
}

// check returns which flags don't go together.
func (cfg *config) check(c *cli.Context) error {
	switch {
	case cfg.listen && cfg.from != nil:
		return errors.New("--from allocates flows and --listen accepts them: give one")
	case cfg.listen && c.IsSet("qos"):
		return errors.New("--qos is for the end that allocates the flow: it does not go with --listen")
	case !cfg.listen && (cfg.command != "" || cfg.to != nil):
		return errors.New("--exec and --to are for flows that are accepted: they go with --listen NAME")
	case !cfg.listen && len(cfg.layers) > 0:
		return errors.New("--layer registers a name that is accepted: it goes with --listen NAME")
	case cfg.command != "" && cfg.to != nil:
		return errors.New("a flow goes to a command or to a socket: give --exec or --to")
	case cfg.packets && (cfg.command != "" || cfg.to != nil || cfg.from != nil):
		return errors.New("--packets is for stdin and stdout")
	}
	return nil
}

// socket is the address of a TCP or Unix socket.
type socket struct{ network, address string }

func (s *socket) String() string { return s.network + ":" + s.address }

func parseSocket(text string) (*socket, error) {
	network, address, ok := strings.Cut(text, ":")
	if !ok || address == "" || network != "tcp" && network != "unix" {
		return nil, fmt.Errorf("%q is no socket: it is tcp:HOST:PORT or unix:PATH", text)
	}
	return &socket{network, address}, nil
}
