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

	// A bare number below these is told: few people mean so few milliseconds.
	leastInterval = 5 * time.Millisecond
	leastTime     = 100 * time.Millisecond
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

// flags returns the flags that oping knows.
func flags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"Q"}, Usage: "print no line for each packet", DisableDefaultText: true},

		measure.NameFlag("ping the server that accepts flows for `NAME`"),
		&cli.StringFlag{Category: measure.ForClient, Name: "count", Aliases: []string{"c"}, Usage: "send `N` packets", DefaultText: "until interrupted"},
		&cli.StringFlag{Category: measure.ForClient, Name: "interval", Aliases: []string{"i"}, Value: "1000ms", DefaultText: "1000ms", Usage: "send a packet every `TIME`, in ms without a unit, at most 10 s"},
		&cli.StringFlag{Category: measure.ForClient, Name: "duration", Aliases: []string{"d"}, Usage: "end after `TIME`, in ms without a unit", DefaultText: "no bound"},
		&cli.StringFlag{Category: measure.ForClient, Name: "deadline", Aliases: []string{"w"}, Usage: "end after `TIME`, in ms without a unit, the wait for a flow included, whatever is still to come; with --count, fewer replies are a failure", DefaultText: "no bound"},
		measure.SizeFlag("64", "send packets of `BYTES`, 64 to 1500"),
		measure.QoSFlag("ask for a flow with this `QOS`"),
		&cli.BoolFlag{Category: measure.ForClient, Name: "flood", Aliases: []string{"f"}, Usage: "send as soon as a reply comes, or an interval is over", DisableDefaultText: true},
		&cli.BoolFlag{Category: measure.ForClient, Name: "flood-busy", Aliases: []string{"F"}, Usage: "flood, and look for replies all the time rather than sleep", DisableDefaultText: true},
		&cli.BoolFlag{Category: measure.ForClient, Name: "timeofday", Aliases: []string{"D"}, Usage: "print the time, in s since 1970, before each reply", DisableDefaultText: true},
		&cli.BoolFlag{Category: measure.ForClient, Name: "histogram", Usage: "print percentiles and a histogram of the round trips at the end", DisableDefaultText: true},
		&cli.BoolFlag{Category: measure.ForClient, Name: "json", Usage: "print one JSON object at the end, and no lines", DisableDefaultText: true},

		measure.ListenFlag(),
		&cli.StringFlag{Category: measure.ForServer, Name: "idle", Value: "10s", DefaultText: "10s", Usage: "end a flow after `TIME`, in ms without a unit, without a packet"},
	}
}

var help = applets.Help{
	Synopsis: `oping --server-name NAME [OPTIONS]
oping --listen [OPTIONS]`,
	Description: `Examples:
   oping --listen                               start a ping server
   oping --server-name oping-server --count 5   send it 5 packets
   oping -n oping-server -c 5                   the short form of that

A client reaches a server once that is bound to a name, by its pid or its
program, and the name is registered in a layer:
   irm bind process 6810 name oping-server
   irm name register oping-server layer local-layer`,
	Notes: `A TIME is a number with ms, s, m, h or d after it; a bare one is ms.
A QOS is ` + measure.QoSNames + `.
Ctrl-\ prints a short summary while it runs.
Exit status: 0 replies came, or the server was stopped; 1 no reply came, or
something failed; 2 wrong usage.`,
}

// parse returns what env's arguments ask for, nil where that was help.
func parse(ctx context.Context, env *applets.Env) (*config, error) {
	return measure.Parse(ctx, env, summary, help, flags(), newConfig)
}

// newConfig checks the values of c's flags. It tells warn where it takes
// another value than the one asked for.
func newConfig(c *cli.Context, warn measure.Warn) (*config, error) {
	cfg := &config{listen: c.Bool("listen"), quiet: c.Bool("quiet")}
	if cfg.listen {
		return cfg, cfg.setServer(c, warn)
	}
	return cfg, cfg.setClient(c, warn)
}

func (cfg *config) setServer(c *cli.Context, warn measure.Warn) (err error) {
	if cfg.idle, err = measure.MillisecondsOf(c, warn, "idle", leastTime); err != nil {
		return err
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
	if cfg.name, cfg.qos, err = measure.ServerFlags(c); err != nil {
		return err
	}
	if s := c.String("count"); c.IsSet("count") {
		if cfg.count, err = strconv.ParseUint(s, 10, 64); err != nil || cfg.count == 0 {
			return fmt.Errorf("--count: %q is no number of packets: it is 1 or more", s)
		}
	}
	if cfg.interval, err = measure.MillisecondsOf(c, warn, "interval", leastInterval); err != nil {
		return err
	}
	if cfg.interval == 0 {
		return errors.New("--interval: 0 is no interval: --flood sends as fast as replies come")
	}
	if cfg.interval > maxInterval {
		warn("interval %s is longer than 10 s: truncated to 10 s", c.String("interval"))
		cfg.interval = maxInterval
	}
	if cfg.duration, err = bound(c, warn, "duration"); err != nil {
		return err
	}
	if cfg.deadline, err = bound(c, warn, "deadline"); err != nil {
		return err
	}
	cfg.size, err = measure.SizeOf(c, warn, minSize, maxSize)
	return err
}

// bound returns the time that flag asks for, above 0; 0 where it is not set.
func bound(c *cli.Context, warn measure.Warn, flag string) (time.Duration, error) {
	if !c.IsSet(flag) {
		return 0, nil
	}
	d, err := measure.MillisecondsOf(c, warn, flag, leastTime)
	if err == nil && d == 0 {
		err = fmt.Errorf("--%s: 0 leaves no time to send a packet", flag)
	}
	return d, err
}
