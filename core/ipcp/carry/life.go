package carry

import (
	"context"
	"fmt"
	"sync"

	"o7s/core"
)

// life orders the Bootstrap of a layer type and the end of its Run, which may happen at
// the same time.
type life struct {
	mu    sync.Mutex // held while a Bootstrap works; guards ended
	up    chan struct{}
	ended bool
}

// Begin is for a type's Bootstrap. It calls wire, which opens the wire, and then begins
// to carry. If that fails it calls end, which closes the wire again. After the end of
// Serve it returns an error that wraps core.ErrState.
func (f *Flows[P]) Begin(wire func() error, end func()) error {
	f.life.mu.Lock()
	defer f.life.mu.Unlock()
	if f.life.ended {
		return fmt.Errorf("%w: the IPCP ends", core.ErrState)
	}
	if err := wire(); err != nil {
		return err
	}
	if err := f.start(); err != nil {
		end()
		return err
	}
	close(f.life.up)
	return nil
}

// Serve is for a type's Run. It runs read, the type's reader, from Begin on. When ctx
// ends it ends all flows and calls end, which closes the wire and so ends read. It
// returns when no goroutine is left.
func (f *Flows[P]) Serve(ctx context.Context, read, end func()) {
	var reader sync.WaitGroup
	select {
	case <-ctx.Done():
	case <-f.life.up:
		reader.Go(read)
		<-ctx.Done()
	}
	f.life.mu.Lock()
	f.life.ended = true
	f.life.mu.Unlock()
	select {
	case <-f.life.up:
		f.stop()
		end()
	default:
	}
	reader.Wait()
}
