// Package oping is the ping server and client over flows. It speaks to the
// network through package ipc alone, as any program would; it binds and
// registers no name: that is an administrator's act.
package oping

import (
	"context"
	"fmt"

	"o7s/applets"
	"o7s/applets/internal/measure"
)

// Applet returns the applet oping.
func Applet() applets.Applet {
	n := network(measure.IPC())
	return applets.Applet{Name: "oping", Summary: summary, Run: n.run}
}

const summary = "ping server and client over flows"

// network is package ipc, or what a test has instead.
type network measure.Network

// run does what env's arguments ask for.
func (n network) run(ctx context.Context, env *applets.Env) error {
	cfg, err := parse(ctx, env)
	if err != nil {
		return err
	}
	switch {
	case cfg == nil: // it was --help or --version
		return nil
	case cfg.listen:
		return n.serve(ctx, env, cfg)
	}
	return n.ping(ctx, env, cfg)
}

func (n network) serve(ctx context.Context, env *applets.Env, cfg *config) error {
	set, err := n.NewSet()
	if err != nil {
		return fmt.Errorf("start the ping server: %w", measure.Cause(err))
	}
	defer set.Close()
	l, err := measure.Network(n).Start(ctx, "the ping server")
	if l == nil {
		return err
	}
	env.Serve(nil)
	s := newServer(cfg, set)
	s.out = measure.NewLines(env.Stdout, "")
	s.errs = measure.NewLines(env.Stderr, env.Name+": ")
	return s.serve(ctx, l)
}

func (n network) ping(ctx context.Context, env *applets.Env, cfg *config) error {
	if cfg.deadline > 0 { // it bounds the wait for a flow too
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.deadline)
		defer cancel()
	}
	f, err := measure.Network(n).Reach(ctx, cfg.name, cfg.qos, cfg.size)
	if err != nil {
		return err
	}
	// The error of Close does not matter: the flow ends with this process at
	// the latest.
	defer f.Close()
	c := newClient(cfg)
	c.out = measure.NewLines(env.Stdout, "")
	c.errs = measure.NewLines(env.Stderr, env.Name+": ")
	status := measure.NewStatus(env.Stderr, (cfg.quiet || cfg.json) && applets.Terminal(env.Stderr))
	c.out.Above(status)
	c.errs.Above(status)
	stop := c.watch(status)
	defer stop()
	received := c.run(ctx, f)
	if received == 0 || cfg.deadline > 0 && received < cfg.count {
		return applets.Exit(applets.StatusFailed)
	}
	return nil
}
