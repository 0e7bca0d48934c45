// Package oecho is the smallest client and server over flows: the client sends
// one message, the server sends it back. It speaks to the network through
// package ipc alone; it is meant to be read.
package oecho

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/core"
	"o7s/core/logs"
)

// The C prototype's oecho has the same name, message and bound.
const (
	serverName = "oecho"
	message    = "Client says hi!\x00"
	maxMessage = 256 // bytes

	// patience is how long either side waits for the other's message.
	patience = 10 * time.Second
)

// Applet returns the applet oecho.
func Applet() applets.Applet {
	return applets.Applet{Name: "oecho", Summary: summary, Run: network(measure.IPC()).run}
}

const summary = "send one message and get it back"

var help = applets.Help{
	Synopsis: `oecho --listen
oecho`,
	Description: `The client sends "Client says hi!" to the name oecho, the server sends back
what it gets. A client reaches a server once that is bound to the name and the
name is registered in a layer:
   irm bind process 6810 name oecho
   irm name register oecho layer local-layer`,
	Notes: `Exit status: 0 the message came back, or the server was stopped; 1 something
failed; 2 wrong usage.`,
}

// network is package ipc, or what a test has instead.
type network measure.Network

// run does what env's arguments ask for.
func (n network) run(ctx context.Context, env *applets.Env) error {
	out := measure.NewLines(env.Stdout, "")
	return applets.CLI(ctx, env, help.On(&cli.App{
		Usage: summary,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "listen", Aliases: []string{"l"}, Usage: "run as a server", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("listen") {
				env.Serve(nil)
				return n.serve(ctx, out, measure.NewLines(env.Stderr, env.Name+": "))
			}
			return n.ask(ctx, out)
		},
	}))
}

// ask sends the message and prints what comes back.
func (n network) ask(ctx context.Context, out *measure.Lines) error {
	f, err := measure.Network(n).Reach(ctx, serverName, core.QoSRaw, maxMessage)
	if err != nil {
		return err
	}
	defer f.Close()
	stop := measure.OnDone(ctx, func() { _ = f.SetDeadline(measure.LongAgo) })
	defer stop()
	reply, err := exchange(ctx, f)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted before %s replied", serverName)
	case measure.TimedOut(err):
		return fmt.Errorf("no reply from %s in %v: is it a server of oecho?", serverName, patience)
	case err != nil:
		return fmt.Errorf("no reply from %s: %w", serverName, measure.Cause(err))
	}
	out.Printf("Server replied with %s\n", text(reply))
	return nil
}

func exchange(ctx context.Context, f measure.Flow) ([]byte, error) {
	if err := measure.SetDeadline(ctx, f.SetDeadline, time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := f.WritePacket([]byte(message)); err != nil {
		return nil, err
	}
	buf := make([]byte, core.MaxPacket)
	n, err := f.ReadPacket(buf)
	return buf[:n], err
}

// text returns a message as it is printed: without its NUL, on one line.
func text(p []byte) string {
	p, _, _ = bytes.Cut(p, []byte{0})
	return logs.Escape(string(p))
}

func (n network) serve(ctx context.Context, out, errs *measure.Lines) error {
	l, err := measure.Network(n).Start(ctx, "the echo server")
	if l == nil {
		return err
	}
	out.Printf("Starting the server.\n")
	return measure.Serve(ctx, l, errs, func(ctx context.Context, f measure.Flow) {
		defer f.Close()
		stop := measure.OnDone(ctx, func() { _ = f.SetDeadline(measure.LongAgo) })
		defer stop()
		out.Printf("New flow.\n")
		if err := echo(ctx, f, out); err != nil && ctx.Err() == nil {
			errs.Failure(fmt.Errorf("flow %d: %w", f.FD(), err))
		}
	})
}

// echo sends back one message of at most maxMessage bytes.
func echo(ctx context.Context, f measure.Flow, out *measure.Lines) error {
	if err := measure.SetDeadline(ctx, f.SetDeadline, time.Now().Add(patience)); err != nil {
		return measure.Cause(err)
	}
	buf := make([]byte, core.MaxPacket)
	n, err := f.ReadPacket(buf)
	if measure.TimedOut(err) {
		return fmt.Errorf("no message in %v: it is closed", patience)
	}
	if err != nil {
		return fmt.Errorf("it ended before a message: %w", measure.Cause(err))
	}
	reply := measure.Refuse(buf[:n], "an oecho server")
	if reply == nil {
		if n > maxMessage {
			return fmt.Errorf("a message of %d bytes is none of oecho's, which has at most %d: it is closed", n, maxMessage)
		}
		out.Printf("Message from client is %s.\n", text(buf[:n]))
		reply = buf[:n]
	}
	return f.WritePacket(reply)
}
