package ocat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/core"
	"o7s/ipc"
)

// run does what cfg asks for until it is done or ctx ends.
func (cfg *config) run(ctx context.Context, env *applets.Env) error {
	errs := measure.NewLines(env.Stderr, env.Name+": ")
	switch {
	case cfg.from != nil:
		return cfg.forward(ctx, errs)
	case cfg.command != "" || cfg.to != nil:
		return cfg.serve(ctx, errs)
	}
	c, err := cfg.one(ctx)
	if err != nil || c == nil {
		return err
	}
	if cfg.packets {
		err = cfg.packetsOf(ctx, env, c)
	} else {
		err = cfg.bytesOf(ctx, env, c)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("flow to %q: %w", cfg.name, measure.Cause(err))
	}
	return nil
}

// one returns the one flow for stdin and stdout, nil where ctx has ended.
func (cfg *config) one(ctx context.Context) (*ipc.Conn, error) {
	if !cfg.listen {
		c, err := ipc.Dial(ctx, cfg.name, ipc.WithQoS(cfg.qos))
		if ctx.Err() != nil {
			return c, nil
		}
		return c, err
	}
	l, err := cfg.listener(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	defer measure.OnDone(ctx, func() { l.Close() })()
	c, err := l.Accept()
	if ctx.Err() != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.(*ipc.Conn), nil
}

func (cfg *config) listener(ctx context.Context) (*ipc.Listener, error) {
	var opts []ipc.Option
	if len(cfg.layers) > 0 {
		opts = append(opts, ipc.WithLayer(cfg.layers...))
	}
	return ipc.Listen(ctx, cfg.name, opts...)
}

// bytesOf joins c to stdin and stdout. When c gives no more, ctx ends or both
// directions have ended, it returns: a read of stdin that waits goes with the
// process. What is not read from a stdin that is no terminal is still sent.
func (cfg *config) bytesOf(ctx context.Context, env *applets.Env, c *ipc.Conn) error {
	std := stdio{env.Stdin, env.Stdout}
	return cfg.both(ctx, env, c,
		func() error { return copyStream(c, std) },
		func() error { return copyStream(std, c) })
}

// packetsOf is bytesOf for lines and packets.
func (cfg *config) packetsOf(ctx context.Context, env *applets.Env, c *ipc.Conn) error {
	send := func() error {
		l := newLines(env.Stdin)
		for {
			line, err := l.next()
			if errors.Is(err, io.EOF) {
				return c.CloseWrite()
			}
			if err == nil {
				err = c.WritePacket(line)
			}
			if err != nil {
				return err
			}
		}
	}
	receive := func() error {
		out := bufio.NewWriter(env.Stdout)
		buf := make([]byte, core.MaxPacket+1)
		for {
			n, err := c.ReadPacket(buf[:core.MaxPacket])
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			buf[n] = '\n'
			if _, err := out.Write(buf[:n+1]); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
	return cfg.both(ctx, env, c, send, receive)
}

// both runs the two directions of c and closes it.
func (cfg *config) both(ctx context.Context, env *applets.Env, c *ipc.Conn, send, receive func() error) error {
	defer c.Close()
	defer measure.OnDone(ctx, func() { c.Close() })()
	sent := make(chan error, 1)
	received := make(chan error, 1)
	go func() { sent <- send() }() // it may wait for stdin, which ends with the process
	go func() { received <- receive() }()
	in, _ := env.Stdin.(*os.File)
	terminal := applets.Terminal(in)
	for sent != nil || received != nil {
		select {
		case err := <-sent:
			if err != nil {
				return err
			}
			sent = nil
		case err := <-received:
			if err != nil || terminal {
				return err
			}
			received = nil
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// flowListener is the measure.Listener for a name.
type flowListener struct{ *ipc.Listener }

// AcceptFlow implements measure.Listener.
func (l flowListener) AcceptFlow() (measure.Flow, error) {
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return c.(*ipc.Conn), nil
}

// serve accepts flows until ctx ends, and joins each to what cfg says.
func (cfg *config) serve(ctx context.Context, errs *measure.Lines) error {
	l, err := cfg.listener(ctx)
	if err != nil {
		return err
	}
	handle := cfg.execute
	if cfg.to != nil {
		handle = cfg.connect
	}
	return measure.Serve(ctx, flowListener{l}, errs, func(ctx context.Context, f measure.Flow) {
		if err := handle(ctx, f.(*ipc.Conn)); err != nil && ctx.Err() == nil {
			errs.Failure(err)
		}
	})
}

// connect joins c to a connection of its own to the socket.
func (cfg *config) connect(ctx context.Context, c *ipc.Conn) error {
	var d net.Dialer
	s, err := d.DialContext(ctx, cfg.to.network, cfg.to.address)
	if err != nil {
		c.Close()
		return fmt.Errorf("connect a flow to %v: %w", cfg.to, measure.Cause(err))
	}
	return joinUntil(ctx, c, s.(stream))
}

// acceptPause is the time until the next attempt where the system has no
// descriptor for a connection.
const acceptPause = 100 * time.Millisecond

// forward listens on a socket until ctx ends, and joins each connection to a
// flow of its own.
func (cfg *config) forward(ctx context.Context, errs *measure.Lines) error {
	l, err := net.Listen(cfg.from.network, cfg.from.address)
	if err != nil {
		return err
	}
	defer measure.OnDone(ctx, func() { l.Close() })()
	errs.Printf("listening on %s:%s\n", cfg.from.network, l.Addr())
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		s, err := l.Accept()
		switch {
		case err == nil:
			conns.Go(func() {
				if err := cfg.dial(ctx, s.(stream)); err != nil && ctx.Err() == nil {
					errs.Failure(measure.Cause(err))
				}
			})
		case ctx.Err() != nil:
			return nil
		default:
			errs.Failure(err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
		}
	}
}

// dial joins s to a flow of its own.
func (cfg *config) dial(ctx context.Context, s stream) error {
	c, err := ipc.Dial(ctx, cfg.name, ipc.WithQoS(cfg.qos))
	if err != nil {
		s.Close()
		return err
	}
	return joinUntil(ctx, c, s)
}

// joinUntil joins a and b until ctx ends.
func joinUntil(ctx context.Context, a, b stream) error {
	defer measure.OnDone(ctx, func() {
		a.Close()
		b.Close()
	})()
	return join(a, b)
}

// execute runs the command for c. It ends when the command has ended and all
// that it wrote is sent; ctx kills it.
func (cfg *config) execute(ctx context.Context, c *ipc.Conn) error {
	defer c.Close()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", cfg.command)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends when c gives no more, or the command takes no more
		_ = copyBytes(in, c)
		in.Close()
	})
	sent := copyBytes(c, out)
	if sent != nil {
		out.Close() // the command hears of it by SIGPIPE
	} else {
		_ = c.CloseWrite()
	}
	err = cmd.Wait()
	c.Close()
	wg.Wait()
	if err != nil {
		return fmt.Errorf("%q: %w", cfg.command, err)
	}
	return sent
}
