package irmctl

import (
	"context"

	"o7s/ipc/rpc"
)

// LogLevel changes from which level on the IRMd and the IPCPs log.
var LogLevel = rpc.Method[LevelReq, rpc.Empty]{Name: "log.level"}

// LevelReq is debug, info, warn or error.
type LevelReq struct{ Level string }

// SetLogLevel changes from which level on the IRMd and the IPCPs log: debug,
// info, warn or error.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	_, err := do(ctx, c, LogLevel, LevelReq{level})
	return err
}
