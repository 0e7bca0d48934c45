package ipc

import (
	"context"

	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// Node is this process as one more IRMd knows it: a test has an IRMd of its
// own. One IRMd takes two nodes of one process for one.
type Node struct{ n *node }

// NewNode returns a node for the IRMd of the runtime directory dir.
func NewNode(dir string) *Node {
	return &Node{newNode(func(ctx context.Context, cfg rpc.Config) (*rpc.Link, error) {
		return irmctl.ConnectTo(ctx, dir, cfg)
	})}
}

// ProcessNode returns the node that Dial and Listen use.
func ProcessNode() *Node { return &Node{process} }

// Dial is Dial.
func (n *Node) Dial(ctx context.Context, name string, opts ...Option) (*Conn, error) {
	return n.n.dial(ctx, name, opts)
}

// Listen is Listen.
func (n *Node) Listen(ctx context.Context, name string, opts ...Option) (*Listener, error) {
	return n.n.listen(ctx, name, opts)
}

// Close ends the connection to the IRMd and returns when it has ended.
func (n *Node) Close() {
	n.n.mu.Lock()
	a, s := n.n.attempt, n.n.liveLocked()
	n.n.mu.Unlock()
	if a != nil {
		<-a.done
		s = a.s
	}
	if s != nil {
		s.link.Close()
		<-s.link.Done()
	}
}
