package ipcpctl

import (
	"context"
	"fmt"
	"log/slog"

	"o7s/core"
	"o7s/core/logs"
	"o7s/ipc/rpc"
)

// LogLevel changes from which level on the IPCP logs.
var LogLevel = rpc.Method[LevelReq, rpc.Empty]{Name: "log.level"}

// LevelReq is debug, info, warn or error.
type LevelReq struct{ Level string }

// HandleLogLevel registers LogLevel with m: it sets level.
func HandleLogLevel(m *rpc.Mux, level *slog.LevelVar) {
	rpc.HandleBlocking(m, LogLevel, func(_ context.Context, _ *rpc.Link, r *LevelReq) (*rpc.Empty, error) {
		l, err := logs.ParseLevel(r.Level)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", core.ErrUsage, err)
		}
		level.Set(l)
		return nil, nil
	})
}
