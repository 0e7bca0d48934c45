package rpc

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"

	"o7s/core"
)

const (
	// Version is the version of the protocol, said in the hello both ways. The
	// layout of a flow's memory is part of it.
	Version = 3

	// MaxMessage is the size of the largest packet, in bytes, header included.
	MaxMessage = 64 << 10

	// MaxFiles is how many descriptors one packet carries at most.
	MaxFiles = 4

	// MaxMethod is the length of the longest method name, in bytes.
	MaxMethod = 255
)

// Method names one call and ties it to its message types; see the package
// comment for what these may be.
type Method[Req, Resp any] struct{ Name string }

// Empty is the message without fields.
type Empty struct{}

// Mux holds the handlers of one side. It is fixed when the first link uses
// it and may then serve many links.
type Mux struct {
	handlers map[string]serveFunc
	frozen   atomic.Bool
}

// serveFunc decodes the body and runs a handler. It owns files. It runs on the
// link's reader and must not keep body.
type serveFunc func(l *Link, id uint32, oneway bool, body []byte, f *files)

// NewMux returns a Mux without handlers.
func NewMux() *Mux {
	return &Mux{handlers: make(map[string]serveFunc)}
}

func (m *Mux) add(name string, req, resp reflect.Type, s serveFunc) {
	if m.frozen.Load() {
		panic("rpc: handler of " + name + " added while a link uses the Mux")
	}
	if name == "" || len(name) > MaxMethod {
		panic(fmt.Sprintf("rpc: a method name has 1 to %d bytes: %q", MaxMethod, name))
	}
	if _, dup := m.handlers[name]; dup {
		panic("rpc: two handlers of " + name)
	}
	for _, t := range []reflect.Type{req, resp} {
		if _, err := shapeOf(t); err != nil {
			panic(fmt.Sprintf("rpc: method %s: %v", name, err))
		}
	}
	m.handlers[name] = s
}

// exchange is a call and its request in one allocation.
type exchange[Req, Resp any] struct {
	call Call[Resp]
	req  Req
}

// begin admits a call and decodes its request; nil: it is answered already.
func begin[Req, Resp any](l *Link, name string, id uint32, oneway, blocking bool, body []byte, f *files) *exchange[Req, Resp] {
	x := new(exchange[Req, Resp])
	x.call.in = inbound{link: l, id: id, oneway: oneway, files: f}
	if !l.admit(&x.call.in, name, blocking) {
		return nil
	}
	if err := decode(body, &x.req); err != nil {
		x.call.in.reject(name, err)
		return nil
	}
	return x
}

// Handle registers h for method. h runs on the link's reader and must not
// block; it answers exactly once through call, before it returns or later,
// from any goroutine. It owns req. Handle panics where two handlers share a
// name, a message type cannot be carried, or a link uses m already.
func Handle[Req, Resp any](m *Mux, method Method[Req, Resp], h func(call *Call[Resp], req *Req)) {
	m.add(method.Name, reflect.TypeFor[Req](), reflect.TypeFor[Resp](),
		func(l *Link, id uint32, oneway bool, body []byte, f *files) {
			defer f.close()
			if x := begin[Req, Resp](l, method.Name, id, oneway, false, body, f); x != nil {
				h(&x.call, &x.req)
			}
		})
}

// HandleBlocking registers h for method. Each call gets a goroutine, at most
// Limits.Calls of them on a link; ctx ends when the caller cancels or the link
// ends. The link waits for h before it is done, so h must heed ctx. Such
// handlers of one link run at once, in no order; descriptors that come with
// the request are closed. A nil response without an error is the zero Resp.
func HandleBlocking[Req, Resp any](m *Mux, method Method[Req, Resp], h func(ctx context.Context, l *Link, req *Req) (*Resp, error)) {
	handleBlocking(m, method, h, false)
}

// HandleInTurn is HandleBlocking for work that takes long: where the link has
// Shares, such calls of one user run one after the other. So h must not wait
// for anything else.
func HandleInTurn[Req, Resp any](m *Mux, method Method[Req, Resp], h func(ctx context.Context, l *Link, req *Req) (*Resp, error)) {
	handleBlocking(m, method, h, true)
}

func handleBlocking[Req, Resp any](m *Mux, method Method[Req, Resp], h func(ctx context.Context, l *Link, req *Req) (*Resp, error), inTurn bool) {
	m.add(method.Name, reflect.TypeFor[Req](), reflect.TypeFor[Resp](),
		func(l *Link, id uint32, oneway bool, body []byte, f *files) {
			f.close()
			x := begin[Req, Resp](l, method.Name, id, oneway, true, body, nil)
			if x == nil {
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			x.call.OnCancel(cancel)
			l.wg.Go(func() {
				defer cancel()
				resp, err := (*Resp)(nil), error(nil)
				if inTurn && l.share != nil {
					resp, err = takeTurn(ctx, l, func() (*Resp, error) { return h(ctx, l, &x.req) })
				} else {
					resp, err = h(ctx, l, &x.req)
				}
				x.call.in.release() // first: the answer may bring the next call
				if err != nil {
					x.call.Fail(err)
				} else {
					x.call.Reply(resp)
				}
			})
		})
}

// InTurn calls f in the turn of l's user, as HandleInTurn does: for what a handler of
// HandleBlocking does without waiting for anything.
func (l *Link) InTurn(ctx context.Context, f func() error) error {
	if l.share == nil {
		return f()
	}
	_, err := takeTurn(ctx, l, func() (*Empty, error) { return nil, f() })
	return err
}

// takeTurn calls f in the user's turn, unless ctx is done or the link ends before.
func takeTurn[Resp any](ctx context.Context, l *Link, f func() (*Resp, error)) (*Resp, error) {
	select {
	case l.share.turn <- struct{}{}:
		defer func() { <-l.share.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if ctx.Err() != nil || l.ending.Load() {
		return nil, core.ErrCanceled
	}
	return f()
}
