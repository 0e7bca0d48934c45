// Package ocbr sends packets at a constant bit rate, and tells what of them
// arrives. It speaks to the network through package ipc alone, as any program
// would; it binds and registers no name.
package ocbr

import (
	"context"

	"o7s/applets"
	"o7s/applets/internal/measure"
)

// Applet returns the applet ocbr.
func Applet() applets.Applet {
	return applets.Applet{Name: "ocbr", Summary: summary, Run: network(measure.IPC()).run}
}

const summary = "send packets at a constant bit rate"

// network is package ipc, or what a test has instead.
type network measure.Network

// run does what env's arguments ask for.
func (n network) run(ctx context.Context, env *applets.Env) error {
	cfg, err := parse(ctx, env)
	if err != nil || cfg == nil { // nil: it was --help or --version
		return err
	}
	status := measure.NewStatus(env.Stderr, applets.Terminal(env.Stderr) && !cfg.listen)
	defer status.Close()
	out, errs := measure.NewLines(env.Stdout, ""), measure.NewLines(env.Stderr, env.Name+": ")
	out.Above(status)
	errs.Above(status)
	if cfg.listen {
		env.Serve(nil)
		return n.serve(ctx, cfg, out, errs)
	}
	f, err := measure.Network(n).Reach(ctx, cfg.name, cfg.qos, cfg.size)
	if err != nil {
		return err
	}
	// The error of Close does not matter: the flow ends with this process at
	// the latest.
	defer f.Close()
	return send(ctx, cfg, f, out, status)
}

func (n network) serve(ctx context.Context, cfg *config, out, errs *measure.Lines) error {
	l, err := measure.Network(n).Start(ctx, "the ocbr server")
	if l == nil {
		return err
	}
	out.Printf("Server started, interval is %s s, timeout is %s s.\n", seconds(cfg.interval), seconds(cfg.timeout))
	s := &server{cfg: cfg, out: out, errs: errs, seats: make(chan struct{}, maxFlows)}
	return measure.Serve(ctx, l, errs, s.serveFlow)
}
