package oping

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/core"
)

// The bounds of what flags ask for.
const (
	minSize     = 64               // bytes
	maxSize     = 1500             // bytes
	maxInterval = 10 * time.Second // longer ones are truncated to it
)

// config is what the command line asks for.
type config struct {
	listen bool
	quiet  bool

	// of the server
	idle time.Duration // above 0

	// of the client
	name      string
	qos       core.QoS
	count     uint64        // 0: until interrupted
	interval  time.Duration // above 0, at most maxInterval
	duration  time.Duration // 0: no bound
	size      int           // minSize to maxSize bytes
	flood     bool
	busy      bool // of a flood: poll
	timeOfDay bool
	deadline  time.Duration // 0: no bound
	histogram bool
	json      bool
}

const (
	forClient = "Client"
	forServer = "Server"
)

// flags returns the flags that oping knows. A flag with a category is for the
// client or the server only. All values are strings to package cli, so that
// an error in one is told in oping's words.
func flags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"Q"}, Usage: "print no line for each packet", DisableDefaultText: true},

		&cli.StringFlag{Category: forClient, Name: "server-name", Aliases: []string{"n"}, Usage: "ping the server that accepts flows for `NAME`"},
		&cli.StringFlag{Category: forClient, Name: "count", Aliases: []string{"c"}, Usage: "send `N` packets", DefaultText: "until interrupted"},
		&cli.StringFlag{Category: forClient, Name: "interval", Aliases: []string{"i"}, Value: "1000ms", DefaultText: "1000ms", Usage: "send a packet every `TIME`, at most 10 s"},
		&cli.StringFlag{Category: forClient, Name: "duration", Aliases: []string{"d"}, Usage: "end after `TIME`", DefaultText: "no bound"},
		&cli.StringFlag{Category: forClient, Name: "deadline", Aliases: []string{"w"}, Usage: "end after `TIME`, whatever is still to come; with --count, fewer replies are a failure", DefaultText: "no bound"},
		&cli.StringFlag{Category: forClient, Name: "size", Aliases: []string{"s"}, Value: "64", DefaultText: "64", Usage: "send packets of `BYTES`, 64 to 1500"},
		&cli.StringFlag{Category: forClient, Name: "qos", Aliases: []string{"q"}, Value: "raw", DefaultText: "raw", Usage: "ask for a flow with this `QOS`"},
		&cli.BoolFlag{Category: forClient, Name: "flood", Aliases: []string{"f"}, Usage: "send as soon as a reply comes, or an interval is over", DisableDefaultText: true},
		&cli.BoolFlag{Category: forClient, Name: "flood-busy", Aliases: []string{"F"}, Usage: "flood, and look for replies all the time rather than sleep", DisableDefaultText: true},
		&cli.BoolFlag{Category: forClient, Name: "timeofday", Aliases: []string{"D"}, Usage: "print the time, in s since 1970, before each reply", DisableDefaultText: true},
		&cli.BoolFlag{Category: forClient, Name: "histogram", Usage: "print percentiles and a histogram of the round trips at the end", DisableDefaultText: true},
		&cli.BoolFlag{Category: forClient, Name: "json", Usage: "print one JSON object at the end, and no lines", DisableDefaultText: true},

		&cli.BoolFlag{Category: forServer, Name: "listen", Aliases: []string{"l"}, Usage: "run as a server", DisableDefaultText: true},
		&cli.StringFlag{Category: forServer, Name: "idle", Value: "10s", DefaultText: "10s", Usage: "end a flow after `TIME` without a packet"},
	}
}

const qosNames = "raw, raw_no_errors, best, video, voice or data"

const help = `{{.Name}} - {{.Usage}}

Usage: {{.Name}} --server-name NAME [OPTIONS]
       {{.Name}} --listen [OPTIONS]

Examples:
   oping --listen                               start a ping server
   oping --server-name oping-server --count 5   send it 5 packets
   oping -n oping-server -c 5                   the short form of that

A client reaches a server once that is bound to a name, by its pid or its
program, and the name is registered in a layer:
   irm bind process 6810 name oping-server
   irm name register oping-server layer local-layer
{{range .VisibleFlagCategories}}
{{if .Name}}{{.Name}} options{{else}}Options{{end}}:
{{range .Flags}}   {{.}}
{{end}}{{end}}
A TIME is a number with ms, s, m, h or d after it; a bare one is milliseconds.
A QOS is raw, raw_no_errors, best, video, voice or data.
Ctrl-\ prints a short summary while it runs.
Exit status: 0 replies came, or the server was stopped; 1 no reply came, or
something failed; 2 wrong usage.
`

// parse returns what env's arguments ask for, nil where that was help.
func parse(ctx context.Context, env *applets.Env) (*config, error) {
	return measure.Parse(ctx, env, summary, help, flags(), newConfig)
}

// newConfig checks the values of c's flags. It tells warn where it takes
// another value than the one asked for.
func newConfig(c *cli.Context, warn measure.Warn) (*config, error) {
	cfg := &config{listen: c.Bool("listen"), quiet: c.Bool("quiet")}
	if !cfg.listen && !c.IsSet("server-name") {
		return nil, errors.New("either --listen or --server-name NAME is needed")
	}
	for _, f := range flags() {
		name := f.Names()[0]
		if !c.IsSet(name) {
			continue
		}
		switch category := f.(cli.CategorizableFlag).GetCategory(); {
		case cfg.listen && category == forClient:
			return nil, fmt.Errorf("--%s is for the client: it does not go with --listen", name)
		case !cfg.listen && category == forServer:
			return nil, fmt.Errorf("--%s is for the server: it goes with --listen", name)
		}
	}
	if cfg.listen {
		return cfg, cfg.setServer(c)
	}
	return cfg, cfg.setClient(c, warn)
}

func (cfg *config) setServer(c *cli.Context) (err error) {
	if cfg.idle, err = measure.ParseTime(c.String("idle"), time.Millisecond); err != nil {
		return fmt.Errorf("--idle: %w", err)
	}
	if cfg.idle == 0 {
		return errors.New("--idle: 0 would end every flow at once")
	}
	return nil
}

func (cfg *config) setClient(c *cli.Context, warn measure.Warn) (err error) {
	cfg.busy = c.Bool("flood-busy")
	cfg.flood, cfg.timeOfDay = c.Bool("flood") || cfg.busy, c.Bool("timeofday")
	cfg.histogram, cfg.json = c.Bool("histogram"), c.Bool("json")
	cfg.name = c.String("server-name")
	if err := core.CheckName(cfg.name); err != nil {
		return fmt.Errorf("--server-name: %w", err)
	}
	var ok bool
	if cfg.qos, ok = core.QoSByName(c.String("qos")); !ok {
		return fmt.Errorf("--qos: unknown QoS %q: it is %s", c.String("qos"), qosNames)
	}
	if s := c.String("count"); c.IsSet("count") {
		if cfg.count, err = strconv.ParseUint(s, 10, 64); err != nil || cfg.count == 0 {
			return fmt.Errorf("--count: %q is no number of packets: it is 1 or more", s)
		}
	}
	if cfg.interval, err = measure.ParseTime(c.String("interval"), time.Millisecond); err != nil {
		return fmt.Errorf("--interval: %w", err)
	}
	if cfg.interval == 0 {
		return errors.New("--interval: 0 is no interval: --flood sends as fast as replies come")
	}
	if cfg.interval > maxInterval {
		warn("interval %s is longer than 10 s: truncated to 10 s", c.String("interval"))
		cfg.interval = maxInterval
	}
	if c.IsSet("duration") {
		if cfg.duration, err = measure.ParseTime(c.String("duration"), time.Millisecond); err != nil {
			return fmt.Errorf("--duration: %w", err)
		}
		if cfg.duration == 0 {
			return errors.New("--duration: 0 leaves no time to send a packet")
		}
	}
	if c.IsSet("deadline") {
		if cfg.deadline, err = measure.ParseTime(c.String("deadline"), time.Millisecond); err != nil {
			return fmt.Errorf("--deadline: %w", err)
		}
		if cfg.deadline == 0 {
			return errors.New("--deadline: 0 leaves no time to send a packet")
		}
	}
	return cfg.setSize(c.String("size"), warn)
}

func (cfg *config) setSize(s string, warn measure.Warn) error {
	size, clamped, err := measure.ParseSize(s, minSize, maxSize)
	if err != nil {
		return fmt.Errorf("--size: %w", err)
	}
	if cfg.size = size; clamped {
		warn("size %s is not within %d to %d bytes: it is %d now", s, minSize, maxSize, size)
	}
	return nil
}
