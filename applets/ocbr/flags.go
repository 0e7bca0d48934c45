package ocbr

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

const (
	minSize = numberSize
	maxSize = core.MaxPacket
)

// config is what the command line asks for.
type config struct {
	listen bool

	// of the server
	interval, timeout time.Duration // above 0

	// of the client
	name        string
	qos         core.QoS
	duration    time.Duration // above 0
	size        int           // bytes
	rate        float64       // bit/s
	flood, spin bool
}

const (
	forClient = "Client"
	forServer = "Server"
)

// flags returns the flags that ocbr knows. All values are strings to package
// cli, so that an error in one is told in ocbr's words.
func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Category: forClient, Name: "server-name", Aliases: []string{"n", "server_apn"}, Usage: "send to the server that accepts for `NAME`"},
		&cli.StringFlag{Category: forClient, Name: "duration", Aliases: []string{"d"}, Value: "60s", DefaultText: "60s", Usage: "send for `TIME`"},
		&cli.StringFlag{Category: forClient, Name: "size", Aliases: []string{"s"}, Value: "1000", DefaultText: "1000", Usage: "send packets of `BYTES`, 8 to 65535"},
		&cli.StringFlag{Category: forClient, Name: "rate", Aliases: []string{"r"}, Value: "1M", DefaultText: "1M", Usage: "send at `RATE` in bit/s"},
		&cli.BoolFlag{Category: forClient, Name: "flood", Aliases: []string{"f"}, Usage: "send as fast as can be", DisableDefaultText: true},
		&cli.BoolFlag{Category: forClient, Name: "sleep", Usage: "sleep until packets are due: what it does without --spin", DisableDefaultText: true},
		&cli.BoolFlag{Category: forClient, Name: "spin", Usage: "look at the clock all the time instead, which takes a processor: each packet at its time", DisableDefaultText: true},
		&cli.StringFlag{Category: forClient, Name: "qos", Aliases: []string{"q"}, Value: "raw", DefaultText: "raw", Usage: "ask for a flow with this `QOS`"},

		&cli.BoolFlag{Category: forServer, Name: "listen", Aliases: []string{"l"}, Usage: "run as a server", DisableDefaultText: true},
		&cli.StringFlag{Category: forServer, Name: "interval", Aliases: []string{"i"}, Value: "1s", DefaultText: "1s", Usage: "print a line every `TIME`"},
		&cli.StringFlag{Category: forServer, Name: "timeout", Aliases: []string{"t"}, Value: "1s", DefaultText: "1s", Usage: "end a flow after `TIME` without a packet"},
	}
}

const qosNames = "raw, raw_no_errors, best, video, voice or data"

const help = `{{.Name}} - {{.Usage}}

Usage: {{.Name}} --server-name NAME [OPTIONS]
       {{.Name}} --listen [OPTIONS]

Examples:
   ocbr --listen                      start a server
   ocbr -n ocbr-server -r 5M -d 10    send it 5 Mb/s for 10 s

A client reaches a server once that is bound to a name, by its pid or its
program, and the name is registered in a layer:
   irm bind process 6810 name ocbr-server
   irm name register ocbr-server layer local-layer
{{range .VisibleFlagCategories}}
{{if .Name}}{{.Name}} options{{else}}Options{{end}}:
{{range .Flags}}   {{.}}
{{end}}{{end}}
A TIME is a number with ms, s, m, h or d after it; a bare one is seconds.
A RATE is a number with k, M or G after it; a bare one is k.
A QOS is raw, raw_no_errors, best, video, voice or data.
The server tells what arrives on at most 10 flows at once.
Exit status: 0 all was sent, or the server was stopped; 1 something failed;
2 wrong usage.
`

// parse returns what env's arguments ask for, nil where that was help.
func parse(ctx context.Context, env *applets.Env) (*config, error) {
	return measure.Parse(ctx, env, summary, help, flags(), newConfig)
}

// newConfig checks the values of c's flags. It tells warn where it takes
// another value than the one asked for.
func newConfig(c *cli.Context, warn measure.Warn) (*config, error) {
	cfg := &config{listen: c.Bool("listen"), flood: c.Bool("flood"), spin: c.Bool("spin")}
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
	if cfg.interval, err = timeAboveZero(c, "interval"); err != nil {
		return err
	}
	cfg.timeout, err = timeAboveZero(c, "timeout")
	return err
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
	if cfg.duration, err = timeAboveZero(c, "duration"); err != nil {
		return err
	}
	switch {
	case cfg.spin && c.Bool("sleep"):
		return errors.New("--spin and --sleep exclude each other")
	case cfg.flood && (cfg.spin || c.Bool("sleep") || c.IsSet("rate")):
		return errors.New("--flood goes with neither --rate, --sleep nor --spin: it sends as fast as can be")
	}
	if cfg.rate, err = measure.ParseRate(c.String("rate")); err != nil {
		return fmt.Errorf("--rate: %w", err)
	}
	size, clamped, err := measure.ParseSize(c.String("size"), minSize, maxSize)
	if err != nil {
		return fmt.Errorf("--size: %w", err)
	}
	if cfg.size = size; clamped {
		warn("size %s is not within %d to %d bytes: it is %d now", c.String("size"), minSize, maxSize, size)
	}
	return nil
}

func timeAboveZero(c *cli.Context, flag string) (time.Duration, error) {
	d, err := measure.ParseTime(c.String(flag), time.Second)
	if err == nil && d < time.Millisecond {
		err = fmt.Errorf("%s is too short: it is 1 ms or more", c.String(flag))
	}
	if err != nil {
		return 0, fmt.Errorf("--%s: %w", flag, err)
	}
	return d, nil
}

// seconds returns d in seconds, without needless zeros.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
