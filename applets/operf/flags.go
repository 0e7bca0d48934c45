package operf

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

// config is what the command line asks for.
type config struct {
	listen           bool
	interval         time.Duration // between lines; 0: none
	json, jsonStream bool

	// of the client
	name     string
	qos      core.QoS
	parallel int
	plan     plan // without Test and Streams
}

// flags returns the flags that operf knows.
func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "interval", Aliases: []string{"i"}, Value: "1s", DefaultText: "1s", Usage: "print a line every `TIME`, in s without a unit, 0 for none"},
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object for each test, at its end", DisableDefaultText: true},
		&cli.BoolFlag{Name: "json-stream", Usage: "print a line of JSON for each event", DisableDefaultText: true},

		measure.NameFlag("test flows to the server that accepts for `NAME`"),
		&cli.StringFlag{Category: measure.ForClient, Name: "test", Aliases: []string{"t"}, Value: "uni", DefaultText: "uni", Usage: "`TYPE` of test: uni one way, bi the server echoes"},
		&cli.StringFlag{Category: measure.ForClient, Name: "duration", Aliases: []string{"d"}, Value: "60s", DefaultText: "60s", Usage: "send for `TIME`, in s without a unit"},
		&cli.StringFlag{Category: measure.ForClient, Name: "rate", Aliases: []string{"r"}, Value: "1M", DefaultText: "1M", Usage: "send at `RATE` on each flow, in kb/s without a unit"},
		measure.SizeFlag("1500", "send packets of `BYTES`, 64 to 65535"),
		&cli.BoolFlag{Category: measure.ForClient, Name: "flood", Aliases: []string{"f"}, Usage: "send as fast as can be", DisableDefaultText: true},
		&cli.BoolFlag{Category: measure.ForClient, Name: "sleep", Usage: "sleep before each packet: an even pace, never two at once to catch up", DisableDefaultText: true},
		&cli.StringFlag{Category: measure.ForClient, Name: "parallel", Aliases: []string{"P"}, Value: "1", DefaultText: "1", Usage: "use `N` flows at once, at most 128"},
		&cli.BoolFlag{Category: measure.ForClient, Name: "reverse", Aliases: []string{"R"}, Usage: "the server sends, this end receives", DisableDefaultText: true},
		measure.QoSFlag("ask for flows with this `QOS`"),

		measure.ListenFlag(),
	}
}

var help = applets.Help{
	Synopsis: `operf --server-name NAME [OPTIONS]
operf --listen [OPTIONS]`,
	Description: `Examples:
   operf --listen                     start a server
   operf -n operf-server -f -d 10     send as fast as can be, for 10 s
   operf -n operf-server -r 2G -P 4   4 flows of 2 Gb/s each
   operf -n operf-server -f -R        the server sends

A client reaches a server once that is bound to a name, by its pid or its
program, and the name is registered in a layer:
   irm bind process 6810 name operf-server
   irm name register operf-server layer local-layer`,
	Notes: `A TIME is a number with ms, s, m, h or d after it; a bare one is s.
A RATE is a number with k, M or G after it, for kb/s, Mb/s or Gb/s; a bare one
is kb/s.
A QOS is ` + measure.QoSNames + `.
A packet is lost when a later one came and it did not, late when it came after
a later one. With -t bi the client's lines tell what came back.
Exit status: 0 the test was made, or the server was stopped; 1 something
failed; 2 wrong usage.`,
}

// parse returns what env's arguments ask for, nil where that was help.
func parse(ctx context.Context, env *applets.Env) (*config, error) {
	return measure.Parse(ctx, env, summary, help, flags(), newConfig)
}

// newConfig checks the values of c's flags. It tells warn where it takes
// another value than the one asked for.
func newConfig(c *cli.Context, warn measure.Warn) (_ *config, err error) {
	cfg := &config{listen: c.Bool("listen"), json: c.Bool("json"), jsonStream: c.Bool("json-stream")}
	if cfg.json && cfg.jsonStream {
		return nil, errors.New("--json and --json-stream exclude each other")
	}
	if cfg.interval, err = measure.TimeOf(c, "interval", time.Second); err != nil {
		return nil, err
	}
	if cfg.interval > 0 && cfg.interval < 10*time.Millisecond {
		return nil, fmt.Errorf("--interval: %s is too short: it is 10 ms or more, or 0 for none", c.String("interval"))
	}
	if cfg.listen {
		return cfg, nil
	}
	return cfg, cfg.setClient(c, warn)
}

func (cfg *config) setClient(c *cli.Context, warn measure.Warn) (err error) {
	if cfg.name, cfg.qos, err = measure.ServerFlags(c); err != nil {
		return err
	}
	if cfg.parallel, err = strconv.Atoi(c.String("parallel")); err != nil || cfg.parallel < 1 || cfg.parallel > maxStreams {
		return fmt.Errorf("--parallel: %q is no number of flows: it is 1 to %d", c.String("parallel"), maxStreams)
	}
	return cfg.setPlan(c, warn)
}

func (cfg *config) setPlan(c *cli.Context, warn measure.Warn) (err error) {
	p := &cfg.plan
	switch t := c.String("test"); t {
	case "uni":
	case "bi":
		p.both = true
	default:
		return fmt.Errorf("--test: unknown type %q: it is uni or bi", t)
	}
	if p.Reverse = c.Bool("reverse"); p.Reverse && p.both {
		return errors.New("--reverse does not go with --test bi, which goes both ways")
	}
	if p.Duration, err = measure.TimeOf(c, "duration", time.Second); err != nil {
		return err
	}
	if p.Duration == 0 {
		return errors.New("--duration: 0 leaves no time to send a packet")
	}
	if p.Sleep = c.Bool("sleep"); c.Bool("flood") {
		if c.IsSet("rate") || p.Sleep {
			return errors.New("--flood goes with neither --rate nor --sleep: it sends as fast as can be")
		}
	}
	if p.Size, err = measure.SizeOf(c, warn, minSize, maxSize); err == nil && !c.Bool("flood") {
		p.Rate, err = measure.RateOf(c, warn, p.Size)
	}
	return err
}
