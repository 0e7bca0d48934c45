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

const (
	forClient = "Client"
	forServer = "Server"
)

// flags returns the flags that operf knows. All values are strings to package
// cli, so that an error in one is told in operf's words.
func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "interval", Aliases: []string{"i"}, Value: "1s", DefaultText: "1s", Usage: "print a line every `TIME`, 0 for none"},
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object for each test, at its end", DisableDefaultText: true},
		&cli.BoolFlag{Name: "json-stream", Usage: "print a line of JSON for each event", DisableDefaultText: true},

		&cli.StringFlag{Category: forClient, Name: "server-name", Aliases: []string{"n"}, Usage: "test flows to the server that accepts for `NAME`"},
		&cli.StringFlag{Category: forClient, Name: "test", Aliases: []string{"t"}, Value: "uni", DefaultText: "uni", Usage: "`TYPE` of test: uni one way, bi the server echoes"},
		&cli.StringFlag{Category: forClient, Name: "duration", Aliases: []string{"d"}, Value: "60s", DefaultText: "60s", Usage: "send for `TIME`"},
		&cli.StringFlag{Category: forClient, Name: "rate", Aliases: []string{"r"}, Value: "1M", DefaultText: "1M", Usage: "send at `RATE` in bit/s, of each flow"},
		&cli.StringFlag{Category: forClient, Name: "size", Aliases: []string{"s"}, Value: "1500", DefaultText: "1500", Usage: "send packets of `BYTES`, 64 to 65535"},
		&cli.BoolFlag{Category: forClient, Name: "flood", Aliases: []string{"f"}, Usage: "send as fast as can be", DisableDefaultText: true},
		&cli.BoolFlag{Category: forClient, Name: "sleep", Usage: "sleep before each packet: an even pace, never two at once to catch up", DisableDefaultText: true},
		&cli.StringFlag{Category: forClient, Name: "parallel", Aliases: []string{"P"}, Value: "1", DefaultText: "1", Usage: "use `N` flows at once, at most 128"},
		&cli.BoolFlag{Category: forClient, Name: "reverse", Aliases: []string{"R"}, Usage: "the server sends, this end receives", DisableDefaultText: true},
		&cli.StringFlag{Category: forClient, Name: "qos", Aliases: []string{"q"}, Value: "raw", DefaultText: "raw", Usage: "ask for flows with this `QOS`"},

		&cli.BoolFlag{Category: forServer, Name: "listen", Aliases: []string{"l"}, Usage: "run as a server", DisableDefaultText: true},
	}
}

const qosNames = "raw, raw_no_errors, best, video, voice or data"

const help = `{{.Name}} - {{.Usage}}

Usage: {{.Name}} --server-name NAME [OPTIONS]
       {{.Name}} --listen [OPTIONS]

Examples:
   operf --listen                     start a server
   operf -n operf-server -f -d 10     send to it as fast as can be, for 10 s
   operf -n operf-server -r 2G -P 4   4 flows of 2 Gb/s each
   operf -n operf-server -f -R        the server sends

A client reaches a server once that is bound to a name, by its pid or its
program, and the name is registered in a layer:
   irm bind process 6810 name operf-server
   irm name register operf-server layer local-layer
{{range .VisibleFlagCategories}}
{{if .Name}}{{.Name}} options{{else}}Options{{end}}:
{{range .Flags}}   {{.}}
{{end}}{{end}}
A TIME is a number with ms, s, m, h or d after it; a bare one is seconds.
A RATE is a number with k, M or G after it; a bare one is k.
A QOS is raw, raw_no_errors, best, video, voice or data.
A packet is lost when a later one came and it did not, late when it came after
a later one. With -t bi the client's lines tell what came back.
Exit status: 0 the test was made, or the server was stopped; 1 something
failed; 2 wrong usage.
`

// parse returns what env's arguments ask for, nil where that was help.
func parse(ctx context.Context, env *applets.Env) (*config, error) {
	return measure.Parse(ctx, env, summary, help, flags(), newConfig)
}

// newConfig checks the values of c's flags. It tells warn where it takes
// another value than the one asked for.
func newConfig(c *cli.Context, warn measure.Warn) (_ *config, err error) {
	cfg := &config{listen: c.Bool("listen"), json: c.Bool("json"), jsonStream: c.Bool("json-stream")}
	if !cfg.listen && !c.IsSet("server-name") {
		return nil, errors.New("either --listen or --server-name NAME is needed")
	}
	for _, f := range flags() {
		name := f.Names()[0]
		if cfg.listen && c.IsSet(name) && f.(cli.CategorizableFlag).GetCategory() == forClient {
			return nil, fmt.Errorf("--%s is for the client: it does not go with --listen", name)
		}
	}
	if cfg.json && cfg.jsonStream {
		return nil, errors.New("--json and --json-stream exclude each other")
	}
	if cfg.interval, err = measure.ParseTime(c.String("interval"), time.Second); err != nil {
		return nil, fmt.Errorf("--interval: %w", err)
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
	cfg.name = c.String("server-name")
	if err := core.CheckName(cfg.name); err != nil {
		return fmt.Errorf("--server-name: %w", err)
	}
	var ok bool
	if cfg.qos, ok = core.QoSByName(c.String("qos")); !ok {
		return fmt.Errorf("--qos: unknown QoS %q: it is %s", c.String("qos"), qosNames)
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
	if p.Duration, err = measure.ParseTime(c.String("duration"), time.Second); err != nil {
		return fmt.Errorf("--duration: %w", err)
	}
	if p.Duration == 0 {
		return errors.New("--duration: 0 leaves no time to send a packet")
	}
	if p.Sleep = c.Bool("sleep"); c.Bool("flood") {
		if c.IsSet("rate") || p.Sleep {
			return errors.New("--flood goes with neither --rate nor --sleep: it sends as fast as can be")
		}
	} else if p.Rate, err = measure.ParseRate(c.String("rate")); err != nil {
		return fmt.Errorf("--rate: %w", err)
	}
	size, clamped, err := measure.ParseSize(c.String("size"), minSize, maxSize)
	if err != nil {
		return fmt.Errorf("--size: %w", err)
	}
	if p.Size = size; clamped {
		warn("size %s is not within %d to %d bytes: it is %d now", c.String("size"), minSize, maxSize, size)
	}
	return nil
}
