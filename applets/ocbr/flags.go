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

// flags returns the flags that ocbr knows.
func flags() []cli.Flag {
	return []cli.Flag{
		measure.NameFlag("send to the server that accepts for `NAME`", "server_apn"),
		&cli.StringFlag{Category: measure.ForClient, Name: "duration", Aliases: []string{"d"}, Value: "60s", DefaultText: "60s", Usage: "send for `TIME`, in s without a unit"},
		measure.SizeFlag("1000", "send packets of `BYTES`, 8 to 65535"),
		&cli.StringFlag{Category: measure.ForClient, Name: "rate", Aliases: []string{"r"}, Value: "1M", DefaultText: "1M", Usage: "send at `RATE`, in kb/s without a unit"},
		&cli.BoolFlag{Category: measure.ForClient, Name: "flood", Aliases: []string{"f"}, Usage: "send as fast as can be", DisableDefaultText: true},
		&cli.BoolFlag{Category: measure.ForClient, Name: "sleep", Usage: "sleep until packets are due: what it does without --spin", DisableDefaultText: true},
		&cli.BoolFlag{Category: measure.ForClient, Name: "spin", Usage: "look at the clock all the time instead, which takes a processor: each packet at its time", DisableDefaultText: true},
		measure.QoSFlag("ask for a flow with this `QOS`"),

		measure.ListenFlag(),
		&cli.StringFlag{Category: measure.ForServer, Name: "interval", Aliases: []string{"i"}, Value: "1s", DefaultText: "1s", Usage: "print a line every `TIME`, in s without a unit"},
		&cli.StringFlag{Category: measure.ForServer, Name: "timeout", Aliases: []string{"t"}, Value: "1s", DefaultText: "1s", Usage: "end a flow after `TIME`, in s without a unit, without a packet"},
	}
}

var help = applets.Help{
	Synopsis: `ocbr --server-name NAME [OPTIONS]
ocbr --listen [OPTIONS]`,
	Description: `Examples:
   ocbr --listen                      start a server
   ocbr -n ocbr-server -r 5M -d 10    send it 5 Mb/s for 10 s

A client reaches a server once that is bound to a name, by its pid or its
program, and the name is registered in a layer:
   irm bind process 6810 name ocbr-server
   irm name register ocbr-server layer local-layer`,
	Notes: `A TIME is a number with ms, s, m, h or d after it; a bare one is s.
A RATE is a number with k, M or G after it, for kb/s, Mb/s or Gb/s; a bare one
is kb/s.
A QOS is ` + measure.QoSNames + `.
The server tells what arrives on at most 10 flows at once.
Exit status: 0 all was sent, or the server was stopped; 1 something failed;
2 wrong usage.`,
}

// parse returns what env's arguments ask for, nil where that was help.
func parse(ctx context.Context, env *applets.Env) (*config, error) {
	return measure.Parse(ctx, env, summary, help, flags(), newConfig)
}

// newConfig checks the values of c's flags. It tells warn where it takes
// another value than the one asked for.
func newConfig(c *cli.Context, warn measure.Warn) (*config, error) {
	cfg := &config{listen: c.Bool("listen"), flood: c.Bool("flood"), spin: c.Bool("spin")}
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
	if cfg.name, cfg.qos, err = measure.ServerFlags(c); err != nil {
		return err
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
	if cfg.size, err = measure.SizeOf(c, warn, minSize, maxSize); err != nil {
		return err
	}
	cfg.rate, err = measure.RateOf(c, warn, cfg.size)
	return err
}

func timeAboveZero(c *cli.Context, flag string) (time.Duration, error) {
	d, err := measure.TimeOf(c, flag, time.Second)
	if err == nil && d < time.Millisecond {
		err = fmt.Errorf("--%s: %s is too short: it is 1 ms or more", flag, c.String(flag))
	}
	return d, err
}

// seconds returns d in seconds, without needless zeros.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
