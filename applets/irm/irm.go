// Package irm is the command line of the IRMd. It reads the user's words, calls the
// IRMd and prints the answer. It checks only how a command is written. The IRMd
// decides whether the user may do it, and whether it is possible.
package irm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"o7s/applets"
	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc/irmctl"
)

// Applet returns the applet irm of an executable that has the layer types.
func Applet(types []ipcp.Type) applets.Applet {
	root := newRoot(types)
	return applets.Applet{
		Name:    "irm",
		Summary: "manage the IPCPs, layers and names of this system",
		Run: func(ctx context.Context, env *applets.Env) error {
			err := run(ctx, newScreen(env.Stdout), root, env.Args, dial)
			if b, ok := errors.AsType[noCommand](err); ok {
				help(env.Stderr, b.cmd, b.path)
				return applets.Exit(applets.StatusUsage)
			}
			return err
		},
		Complete: func(ctx context.Context, w io.Writer, args []string) { complete(ctx, w, root, args, dial) },
		Manual:   func() string { return manual(root) },
	}
}

// irmd is what irm asks of an IRMd. It is irmctl's Client.
type irmd interface {
	ipcpManager
	binder
	nameManager
	seer
	Close() error
}

var _ irmd = (*irmctl.Client)(nil)

func dial(ctx context.Context) (irmd, error) {
	c, err := irmctl.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// How long irm waits for an answer: a command that starts, ends or asks an
// IPCP may take longer than one that the IRMd answers by itself.
const (
	quick = 10 * time.Second
	slow  = 30 * time.Second
)

// run does what args ask for. It writes data and help to stdout, in one Write
// once all is well, and nothing else: a command that was done says nothing.
func run(ctx context.Context, stdout *screen, root *command, args []string, dial func(context.Context) (irmd, error)) error {
	req, err := root.parse(args)
	if err != nil {
		return applets.Usagef("%w", err)
	}
	var buf bytes.Buffer
	out := stdout.to(&buf)
	switch req.ask {
	case askHelp:
		help(out, req.cmd, req.path)
	case askVersion:
		fmt.Fprintln(out, applets.VersionLine("irm"))
	default:
		if req.cmd.limit == 0 {
			out = stdout
		}
		if err := req.do(ctx, out, dial); err != nil {
			return fmt.Errorf("%s: %w", req.cmd.tried(req.in), err)
		}
	}
	if buf.Len() == 0 {
		return nil
	}
	if _, err := stdout.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// do asks the IRMd, within the command's time.
func (r *request) do(ctx context.Context, out *screen, dial func(context.Context) (irmd, error)) error {
	if r.cmd.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.cmd.limit)
		defer cancel()
	}
	d, err := dial(ctx)
	if err != nil {
		return explain(ctx, r.cmd.limit, err)
	}
	defer d.Close()
	return explain(ctx, r.cmd.limit, r.cmd.run(ctx, d, r.in, out))
}

// explain returns an error that says what to do, in two cases: the IRMd ended before
// it answered, or it did not answer within limit. All other errors explain
// themselves.
func explain(ctx context.Context, limit time.Duration, err error) error {
	if errors.Is(err, core.ErrIRMd) && errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it has ended; start one with \"irmd\"", core.ErrIRMd)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer from the IRMd in %v, its log may tell why", err, limit)
	}
	return err
}
