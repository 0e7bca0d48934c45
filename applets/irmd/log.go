package irmd

import (
	"context"
	"fmt"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/logs"
	"o7s/ipc/ipcpctl"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// handleLog registers the method that changes the level of the log, here and
// at the IPCPs.
func (d *daemon) handleLog(m *rpc.Mux) {
	rpc.HandleBlocking(m, irmctl.LogLevel, func(ctx context.Context, l *rpc.Link, r *irmctl.LevelReq) (*rpc.Empty, error) {
		level, err := logs.ParseLevel(r.Level)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", core.ErrUsage, err)
		}
		// SetLogLevel logs a line, which must pass the lower of the two levels.
		was := d.level.Level()
		d.level.Set(min(was, level))
		children, err := d.m.SetLogLevel(caller(l), r.Level)
		if err != nil {
			d.level.Set(was)
			return nil, err
		}
		d.level.Set(level)
		for _, c := range children {
			if err := setLevel(ctx, c, r.Level); err != nil {
				return nil, fmt.Errorf("IPCP %d: %w", c.PID(), err)
			}
		}
		return nil, nil
	})
}

// setLevel sets the level of an IPCP. It is no error if the IPCP has ended.
func setLevel(ctx context.Context, c irm.Child, level string) error {
	link := c.(*child).Link // this program's spawner makes no other
	if _, err := rpc.Do(ctx, link, ipcpctl.LogLevel, &ipcpctl.LevelReq{Level: level}, nil); err != nil && link.Err() == nil {
		return err
	}
	return nil
}
