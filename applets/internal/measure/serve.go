package measure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Serve accepts flows from l, as Accept does, and runs handle for each, on a
// goroutine of its own. handle must Close its flow and end with its ctx, which
// is done no later than ctx. When Serve returns, l is closed and nothing of it
// runs.
func Serve(ctx context.Context, l Listener, errs *Lines, handle func(context.Context, Flow)) error {
	ctx, cancel := context.WithCancel(ctx)
	var flows sync.WaitGroup
	defer flows.Wait()
	defer cancel()
	return Accept(ctx, l, errs, func(f Flow) {
		flows.Go(func() { handle(ctx, f) })
	})
}

// Accept calls take with each flow that l accepts; take must not wait. When the
// IRMd has gone, Accept tells errs once and waits for the next IRMd. It closes l
// and returns when ctx is done, which is no error, or when l fails for good.
func Accept(ctx context.Context, l Listener, errs *Lines, take func(Flow)) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := OnDone(ctx, func() { l.Close() })
	defer stop()
	defer cancel()
	down := false // told that the IRMd is gone
	for {
		f, err := l.AcceptFlow()
		switch {
		case err == nil:
			down = false
			take(f)
		case ctx.Err() != nil:
			return nil
		case temporary(err):
			if !down {
				errs.Failure(fmt.Errorf("accept a flow: %w; it goes on with what it has, and waits", Cause(err)))
			}
			down = true
		default:
			return fmt.Errorf("accept a flow: %w", Cause(err))
		}
	}
}

// temporary reports whether err of an accept passes by itself.
func temporary(err error) bool {
	// Temporary is deprecated since most of its cases are vague. Those of
	// accept are not.
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary() && !errors.Is(err, net.ErrClosed)
}
