// Package operf measures what a flow carries: packets and bits per second,
// loss and order, at both of its ends. It speaks to the network through
// package ipc alone, as any program would; it binds and registers no name.
package operf

import (
	"context"

	"o7s/applets"
	"o7s/applets/internal/measure"
)

// Applet returns the applet operf.
func Applet() applets.Applet {
	return applets.Applet{Name: "operf", Summary: summary, Run: network(measure.IPC()).run}
}

const summary = "measure what flows carry"

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
	out := &output{
		lines: measure.NewLines(env.Stdout, ""), errs: measure.NewLines(env.Stderr, env.Name+": "),
		status: status, json: cfg.json, stream: cfg.jsonStream,
	}
	out.lines.Above(status)
	out.errs.Above(status)
	if cfg.listen {
		env.Serve(out.missing())
		return n.serve(ctx, cfg, out)
	}
	c := &client{cfg: cfg, out: out}
	return c.run(ctx, n)
}

func (n network) serve(ctx context.Context, cfg *config, out *output) error {
	l, err := measure.Network(n).Start(ctx, "the operf server")
	if l == nil {
		return err
	}
	s := &server{out: out, every: cfg.interval}
	out.people("Ouroboros perf server started.\n")
	return measure.Serve(ctx, l, out.errs, s.serveFlow)
}
