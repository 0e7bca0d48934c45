// Package ipcpd is the process of an IPCP. irmd starts it with a link, and it
// serves its layer until the link ends.
package ipcpd

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"o7s/applets"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/ipc/ipcpctl"
	"o7s/ipc/irmctl"
	"o7s/ipc/lower"
	"o7s/ipc/port"
	"o7s/ipc/rpc"
)

// linkFD is the descriptor of the link: the first after stderr.
const linkFD = 3

// Applet returns the applet that is an IPCP of type typ: ipcpd-local.
func Applet(typ ipcp.Type) applets.Applet {
	return applets.Applet{
		Name:    "ipcpd-" + typ.Name,
		Summary: fmt.Sprintf("the process of a %s layer: irmd starts it", typ.Name),
		Hidden:  true,
		Run: func(ctx context.Context, env *applets.Env) error {
			// This comes first: a process that is started before would keep
			// the link open.
			conn, noLink := rpc.Inherit(linkFD)
			return applets.CLI(ctx, env, &cli.App{
				Usage:     fmt.Sprintf("the IPC process of a %s layer; irmd starts it", typ.Name),
				UsageText: fmt.Sprintf("irm ipcp bootstrap type %s name NAME layer LAYER", typ.Name),
				Flags:     append(applets.LogFlags(), &cli.StringFlag{Name: "name", Usage: "the `NAME` of the IPCP"}),
				Action: func(c *cli.Context) error {
					if noLink != nil {
						return applets.Usagef("this is the process of a %s layer, which irmd starts: irm ipcp bootstrap type %s name NAME layer LAYER", typ.Name, typ.Name)
					}
					log, level, err := applets.OpenLog(c, env)
					if err != nil {
						return err
					}
					// ps and pkill know it by its own name, not by the
					// executable's. Best effort.
					_ = os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid()), []byte(env.Name), 0)

					ctx, cancel := context.WithCancel(c.Context)
					defer cancel()
					irmctl.SetApplet(env.Name) // where it uses flows of other layers
					host := ipcpctl.NewHost()
					p := ipcp.NewProcess(typ, ipcp.Env{Name: c.String("name"), Host: host, Net: lower.Net{}, Ports: port.Machine, Clock: clock.Real, Log: log})
					mux := rpc.NewMux()
					ipcpctl.HandleControl(mux, p)
					ipcpctl.HandleLogLevel(mux, level)
					link, err := rpc.New(conn, rpc.Config{
						Mux: mux,
						// Without an irmd no process can use the layer.
						OnEnd:  func(*rpc.Link, error) { cancel() },
						Peer:   &rpc.Peer{PID: os.Getppid(), UID: os.Geteuid(), GID: os.Getegid()},
						Limits: rpc.Limits{Calls: 1 << 16, Queue: 64 << 20, Stall: ipcpctl.Stall},
					})
					if err != nil {
						return err
					}
					host.SetLink(link)
					err = p.Run(ctx)
					link.Close()
					<-link.Done()
					return err
				},
			})
		},
	}
}
