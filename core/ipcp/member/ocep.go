// Package member is what members of a layer say to each other before anything
// else on a flow between them: which component the flow is for (OCEP), and, to
// become a member, what the layer's configuration is (OEP). The form of the
// messages is the C prototype's. Layer types use it over flows of an ipcp.Net.
package member

import (
	"context"
	"fmt"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp"
	"o7s/core/ipcp/internal/pb"
)

// Component is a part of a member that a flow is for, and what is spoken there.
type Component struct {
	Name     string
	Protocol string
	Version  int32
	Syntax   int32 // 0: protocol buffers; 2: fixed
}

// The components of the layer types.
var (
	Enrollment   = Component{"Enrollment", "OEP", 1, 0}
	Management   = Component{"Management", "LSP", 1, 0}
	DataTransfer = Component{"Data Transfer", "dtp", 1, 2}
)

// Hello is the message with which each end of a flow begins.
type Hello struct {
	Component
	Address uint64 // of the member that sends it; 0: it has none
}

// maxHello bounds a Hello, in bytes.
const maxHello = 128

const (
	// helloTime is how long the initiator of a flow may take to say it. A flow that
	// says nothing keeps no place of an acceptor for longer.
	helloTime = time.Second
	// answerTime is how long the initiator waits for an answer of the other member,
	// whose machine may have much to do.
	answerTime = 5 * time.Second
)

// Append appends h as it is on the wire.
func (h Hello) Append(b []byte) []byte {
	b = pb.Bytes(b, 1, h.Name)
	b = pb.Bytes(b, 2, h.Protocol)
	b = pb.Int(b, 3, int64(h.Version))
	b = pb.Int(b, 5, int64(h.Syntax))
	return pb.Uint(b, 8, h.Address)
}

// ParseHello returns the Hello that b holds.
func ParseHello(b []byte) (Hello, error) {
	if len(b) > maxHello {
		return Hello{}, fmt.Errorf("%w: the first message has %d bytes, the bound is %d", core.ErrMessage, len(b), maxHello)
	}
	m, err := pb.Parse(b)
	if err != nil {
		return Hello{}, err
	}
	h := Hello{
		Component: Component{string(m.Bytes(1)), string(m.Bytes(2)), m.Int32(3), m.Int32(5)},
		Address:   m.Uint(8),
	}
	return h, m.Err()
}

// Greet is the initiator's part: it says h on flow and returns what the other
// member answers. The error is core.ErrNotAllocated where that one does not have
// the component, or speaks it in another way. The caller closes flow.
func Greet(ctx context.Context, clk clock.Clock, flow ipcp.Lower, h Hello) (Hello, error) {
	if err := send(ctx, clk, flow, h.Append(nil)); err != nil {
		return Hello{}, fmt.Errorf("say which component it is for: %w", err)
	}
	got, err := receiveHello(ctx, clk, flow, answerTime)
	if err != nil {
		return Hello{}, err
	}
	if got.Component != h.Component {
		return Hello{}, fmt.Errorf("%w: the other member has no component %s with protocol %s, version %d, syntax %d", core.ErrNotAllocated, h.Name, h.Protocol, h.Version, h.Syntax)
	}
	return got, nil
}

// Receive is the acceptor's part: it waits for what the other member says on flow.
// The acceptor answers with Accept or Refuse.
func Receive(ctx context.Context, clk clock.Clock, flow ipcp.Lower) (Hello, error) {
	return receiveHello(ctx, clk, flow, helloTime)
}

// Accept answers that flow is for c; own is this member's address there.
func Accept(ctx context.Context, clk clock.Clock, flow ipcp.Lower, c Component, own uint64) error {
	return send(ctx, clk, flow, Hello{c, own}.Append(nil))
}

// Refuse answers that there is no such component.
func Refuse(ctx context.Context, clk clock.Clock, flow ipcp.Lower) {
	_ = send(ctx, clk, flow, Hello{}.Append(nil))
}

func receiveHello(ctx context.Context, clk clock.Clock, flow ipcp.Lower, limit time.Duration) (Hello, error) {
	b, err := receive(ctx, clk, flow, limit)
	if err != nil {
		return Hello{}, fmt.Errorf("wait for which component it is for: %w", err)
	}
	return ParseHello(b)
}

// sendTime is how long a member may take to make room for a packet. There is always
// room on a new flow, unless the other end lies about it.
const sendTime = time.Second

// send sends a packet.
func send(ctx context.Context, clk clock.Clock, flow ipcp.Lower, b []byte) error {
	return within(ctx, clk, flow, sendTime, "there was no room", func() error { return flow.WritePacket(b) })
}

// receive waits for a packet, at most limit.
func receive(ctx context.Context, clk clock.Clock, flow ipcp.Lower, limit time.Duration) ([]byte, error) {
	b := make([]byte, core.MaxPacket)
	n := 0
	err := within(ctx, clk, flow, limit, "nothing came", func() (err error) {
		n, err = flow.ReadPacket(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

// within lets do wait for flow, at most limit. Where that passes, or ctx ends, flow is
// closed.
func within(ctx context.Context, clk clock.Clock, flow ipcp.Lower, limit time.Duration, what string, do func() error) error {
	late := make(chan struct{})
	timer := clk.AfterFunc(limit, func() { close(late); _ = flow.Close() })
	defer timer.Stop()
	stop := context.AfterFunc(ctx, func() { _ = flow.Close() })
	defer stop()
	err := do()
	if err == nil {
		return nil
	}
	select {
	case <-late:
		return fmt.Errorf("%w: %s in %v", core.ErrTimeout, what, limit)
	default:
	}
	if ctx.Err() != nil {
		return core.ContextError(ctx.Err())
	}
	return err
}
