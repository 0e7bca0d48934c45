package measure

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"o7s/applets"
)

// Warn tells the user that a value was not taken as it is.
type Warn func(format string, args ...any)

// Parse returns what env's arguments ask for: of flags, as newConfig reads
// them, which tells its Warn where it takes another value than the one asked
// for. It returns nil when that was help or the version, which it has printed.
// Every error is a usage error.
func Parse[C any](ctx context.Context, env *applets.Env, summary, help string, flags []cli.Flag, newConfig func(*cli.Context, Warn) (*C, error)) (*C, error) {
	var cfg *C
	err := applets.CLI(ctx, env, &cli.App{
		Usage:                  summary,
		CustomAppHelpTemplate:  help,
		Flags:                  flags,
		UseShortOptionHandling: true,
		Action: func(c *cli.Context) (err error) {
			warn := func(format string, args ...any) {
				fmt.Fprintf(env.Stderr, env.Name+": "+format+"\n", args...)
			}
			if cfg, err = newConfig(c, warn); err != nil {
				return fmt.Errorf("%w; \"%s --help\" tells how", err, env.Name)
			}
			return nil
		},
	})
	if err != nil {
		return nil, applets.Usagef("%w", err)
	}
	return cfg, nil
}
