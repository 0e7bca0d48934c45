package measure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/applets"
	"o7s/core"
)

// The categories of flags that one side alone takes. One without a category is
// for both.
const (
	ForClient = "Client"
	ForServer = "Server"
)

// The flags of every tool with two sides. To package cli all values are strings:
// the tools check them and word the errors.
const (
	listenFlag = "listen"
	nameFlag   = "server-name"
	qosFlag    = "qos"
	sizeFlag   = "size"
)

// QoSNames is what --qos takes, for people.
const QoSNames = "raw, raw_no_errors, best, video, voice or data"

// ListenFlag returns the flag that makes a tool its server.
func ListenFlag() cli.Flag {
	return &cli.BoolFlag{Category: ForServer, Name: listenFlag, Aliases: []string{"l"}, Usage: "run as a server", DisableDefaultText: true}
}

// NameFlag returns the flag that makes a tool its client; usage says what that
// does.
func NameFlag(usage string, aliases ...string) cli.Flag {
	return &cli.StringFlag{Category: ForClient, Name: nameFlag, Aliases: append([]string{"n"}, aliases...), Usage: usage}
}

// QoSFlag returns the flag for the QoS of a client's flows.
func QoSFlag(usage string) cli.Flag {
	return &cli.StringFlag{Category: ForClient, Name: qosFlag, Aliases: []string{"q"}, Value: "raw", DefaultText: "raw", Usage: usage}
}

// SizeFlag returns the flag for the size of a client's packets in bytes.
func SizeFlag(value, usage string) cli.Flag {
	return &cli.StringFlag{Category: ForClient, Name: sizeFlag, Aliases: []string{"s"}, Value: value, DefaultText: value, Usage: usage}
}

// Warn tells the user that a value was not taken as it is.
type Warn func(format string, args ...any)

// Parse parses env's arguments with the flags of a tool that is a client or, with
// --listen, a server. It refuses flags of the other side. Then newConfig makes a
// config of the flags, and tells its Warn about each value that it changed.
// Parse returns nil if the arguments asked for help or the version, which it has
// printed. Every error is a usage error.
func Parse[C any](ctx context.Context, env *applets.Env, summary string, help applets.Help, flags []cli.Flag, newConfig func(*cli.Context, Warn) (*C, error)) (*C, error) {
	var cfg *C
	err := applets.CLI(ctx, env, help.On(&cli.App{
		Usage:                  summary,
		Flags:                  flags,
		UseShortOptionHandling: true,
		Action: func(c *cli.Context) (err error) {
			warn := func(format string, args ...any) {
				fmt.Fprintf(env.Stderr, env.Name+": "+format+"\n", args...)
			}
			if err = oneSide(c, flags); err == nil {
				cfg, err = newConfig(c, warn)
			}
			if err != nil {
				return fmt.Errorf("%w; \"%s --help\" tells how", err, env.Name)
			}
			return nil
		},
	}))
	if err != nil {
		return nil, applets.Usagef("%w", err)
	}
	return cfg, nil
}

// oneSide returns an error unless c is for a client or for a server, and has
// flags of that side only.
func oneSide(c *cli.Context, flags []cli.Flag) error {
	listen := c.Bool(listenFlag)
	if !listen && !c.IsSet(nameFlag) {
		return errors.New("either --listen or --server-name NAME is needed")
	}
	for _, f := range flags {
		name := f.Names()[0]
		if name == listenFlag || !c.IsSet(name) {
			continue
		}
		switch category := f.(cli.CategorizableFlag).GetCategory(); {
		case listen && category == ForClient:
			return fmt.Errorf("--%s is for the client: it does not go with --listen", name)
		case !listen && category == ForServer:
			return fmt.Errorf("--%s is for the server: it goes with --listen", name)
		}
	}
	return nil
}

// ServerFlags returns the name that a client's flags ask for, and the QoS.
func ServerFlags(c *cli.Context) (name string, qos core.QoS, err error) {
	name = c.String(nameFlag)
	if err := core.CheckName(name); err != nil {
		return "", qos, fmt.Errorf("--%s: %w", nameFlag, err)
	}
	qos, ok := core.QoSByName(c.String(qosFlag))
	if !ok {
		return "", qos, fmt.Errorf("--%s: unknown QoS %q: it is %s", qosFlag, c.String(qosFlag), QoSNames)
	}
	return name, qos, nil
}

// SizeOf returns the size that c's flags ask for, moved to be within low and
// high, which it tells warn.
func SizeOf(c *cli.Context, warn Warn, low, high int) (int, error) {
	s := c.String(sizeFlag)
	size, clamped, err := ParseSize(s, low, high)
	if err != nil {
		return 0, fmt.Errorf("--%s: %w", sizeFlag, err)
	}
	if clamped {
		warn("size %s is not within %d to %d bytes: it is %d now", s, low, high, size)
	}
	return size, nil
}

// TimeOf returns the time that flag of c asks for; a bare number is in bare.
func TimeOf(c *cli.Context, flag string, bare time.Duration) (time.Duration, error) {
	d, err := ParseTime(c.String(flag), bare)
	if err != nil {
		return 0, fmt.Errorf("--%s: %w", flag, err)
	}
	return d, nil
}

// MillisecondsOf is TimeOf for a flag whose bare number is in ms. People often mean
// seconds by it: it tells warn where a bare number is below least.
func MillisecondsOf(c *cli.Context, warn Warn, flag string, least time.Duration) (time.Duration, error) {
	d, err := TimeOf(c, flag, time.Millisecond)
	if s := c.String(flag); err == nil && 0 < d && d < least && strings.Trim(s, "0123456789") == "" {
		warn("--%s %s is %s ms: %ss is in seconds, and %sms says that it is meant", flag, s, s, s, s)
	}
	return d, err
}

// RateOf returns the bit/s that --rate of c asks for; a bare number is in kb/s. It
// tells warn where a bare number gives less than one packet of size bytes in a second.
func RateOf(c *cli.Context, warn Warn, size int) (float64, error) {
	s := c.String("rate")
	rate, err := ParseRate(s)
	if err != nil {
		return 0, fmt.Errorf("--rate: %w", err)
	}
	if period := 8 * float64(size) / rate; period > 1 && strings.Trim(s, "0123456789.") == "" {
		warn("--rate %s is %s kb/s, one packet in %.3g s: %sM is in Mb/s, and %sk says that it is meant", s, s, period, s, s)
	}
	return rate, nil
}
