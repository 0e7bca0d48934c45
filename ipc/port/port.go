// Package port opens the sockets of this machine for layer types: it is what
// package o7s/core/ipcp/port says, for real.
package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"o7s/core"
	"o7s/core/ipcp/port"
)

// Machine is the sockets of this machine.
var Machine port.Opener = machine{}

type machine struct{}

// UDP implements port.Opener.
func (machine) UDP(local netip.AddrPort) (port.UDP, error) { return openUDP(local) }

// Resolver implements port.Opener.
func (machine) Resolver() port.Resolver { return resolver{&net.Resolver{PreferGo: true}} }

type resolver struct{ *net.Resolver }

// Lookup implements port.Resolver.
func (r resolver) Lookup(ctx context.Context, host string, v6 bool) ([]netip.Addr, error) {
	network := "ip4"
	if v6 {
		network = "ip6"
	}
	addrs, err := r.LookupNetIP(ctx, network, host)
	if err == nil {
		for i := range addrs {
			addrs[i] = addrs[i].Unmap()
		}
		return addrs, nil
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return nil, fmt.Errorf("%w: the resolver knows no address of %s", core.ErrName, host)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("the resolver did not answer: %w", core.ContextError(ctx.Err()))
	}
	return nil, fmt.Errorf("%w: the resolver did not answer: %w", core.ErrTimeout, err)
}
