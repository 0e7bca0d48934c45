package irm

import (
	"context"
	"fmt"

	"o7s/core"
	"o7s/core/logs"
)

var logLevel = &command{
	name:    "level",
	summary: "change what irmd and the IPCPs log, while they run",
	operand: operand{value: "LEVEL", help: "debug, info, warn or error: lines of that level and above are logged", check: checkLevel},
	example: "irm log level debug",
	limit:   quick,
	tried:   func(in input) string { return "set the log level to " + in.operand },
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.SetLogLevel(ctx, in.operand)
	},
}

func checkLevel(s string) error {
	if _, err := logs.ParseLevel(s); err != nil {
		return fmt.Errorf("%w: a level is debug, info, warn or error", core.ErrUsage)
	}
	return nil
}
