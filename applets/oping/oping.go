// Package oping is the ping server and client over flows. It speaks to the
// network through package ipc alone, as any program would; it binds and
// registers no name: that is an administrator's act.
package oping

import (
	"context"
	"fmt"

	"o7s/applets"
	"o7s/core"
	"o7s/ipc"
)

// Applet returns the applet oping.
func Applet() applets.Applet {
	n := network{dial: dial, listen: listen}
	return applets.Applet{Name: "oping", Summary: summary, Run: n.run}
}

const summary = "ping server and client over flows"

// network is what oping needs of package ipc; tests have one of their own.
type network struct {
	dial   func(ctx context.Context, name string, qos core.QoS) (flow, error)
	listen func(ctx context.Context) (listener, error)
}

func dial(ctx context.Context, name string, qos core.QoS) (flow, error) {
	c, err := ipc.Dial(ctx, name, ipc.WithQoS(qos))
	if err != nil {
		return nil, err // not c: a nil *ipc.Conn is no nil flow
	}
	return c, nil
}

func listen(ctx context.Context) (listener, error) {
	l, err := ipc.Listen(ctx, "")
	if err != nil {
		return nil, err
	}
	return ipcListener{l}, nil
}

type ipcListener struct{ *ipc.Listener }

func (l ipcListener) accept() (flow, error) {
	c, err := l.AcceptFlow()
	if err != nil {
		return nil, err
	}
	return c, nil
}

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
	l, err := n.listen(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it had begun
		}
		return fmt.Errorf("start the ping server: %w", cause(err))
	}
	s := &server{
		idle:  cfg.idle,
		quiet: cfg.quiet,
		out:   lines{w: env.Stdout},
		errs:  lines{w: env.Stderr, prefix: env.Name + ": "},
	}
	return s.serve(ctx, l)
}

func (n network) ping(ctx context.Context, env *applets.Env, cfg *config) error {
	f, err := n.dial(ctx, cfg.name, cfg.qos)
	if err != nil {
		return fmt.Errorf("allocate a flow to %s: %w", cfg.name, cause(err))
	}
	// What a Close can say matters to nobody any more: the flow ends, at the
	// latest, with this process.
	defer f.Close()
	c := newClient(cfg)
	c.out = lines{w: env.Stdout}
	c.errs = lines{w: env.Stderr, prefix: env.Name + ": "}
	if c.run(ctx, f) == 0 {
		return applets.Exit(applets.StatusFailed)
	}
	return nil
}
