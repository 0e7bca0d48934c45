package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/port"
	machine "o7s/ipc/port"
)

// The kinds of links over UDP: a flow between two systems, a socket with many
// datagrams in a system call, and a socket with one.
const (
	farFlow   = "far flow"
	segmented = "sockets, many at a time"
	plain     = "sockets, one at a time"
)

// lossy reports whether packets may be lost.
func (s *spec) lossy() bool {
	switch s.Kind {
	case farFlow, segmented, plain, ethFlow, rawFrames, rowFlow, freeFlow:
		return true
	}
	return false
}

// loopback returns the addresses of the two systems. They are addresses of the
// loopback device that other programs rarely use.
func loopback() (client, server string) {
	net := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))
	return net + "1", net + "2"
}

// maxNames bounds the names of flows in one run.
const maxNames = 10000

// runUDP measures flows between two systems.
func (b *bench) runUDP(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "o7s-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	hosts := filepath.Join(dir, "hosts")
	b.ips[0], b.ips[1] = loopback()
	if err := writeHosts(hosts, b.ips[1]); err != nil {
		return err
	}
	at := func(ip string) []ipcp.Setting {
		return []ipcp.Setting{{Name: "ip", Value: ip}, {Name: "hosts", Value: hosts}}
	}
	if b.client, err = startNode(ctx, "udp4", at(b.ips[0])...); err != nil {
		return err
	}
	defer b.client.stop()
	if b.server, err = startNode(ctx, "udp4", at(b.ips[1])...); err != nil {
		return err
	}
	defer b.server.stop()
	b.head("two processes, and for a flow two IPCPs")
	if err := b.lossyWays(ctx, fmt.Sprintf("Over UDP, from %s to %s", b.ips[0], b.ips[1]), []string{farFlow, segmented, plain}); err != nil {
		return err
	}
	if err := b.allocations(ctx); err != nil {
		return err
	}
	return b.idle(ctx)
}

// writeHosts writes the file in which the names of the bench's flows are found.
func writeHosts(file, ip string) error {
	var text strings.Builder
	for n := range maxNames {
		fmt.Fprintf(&text, "%s %s\n", ip, hash.MD5.Sum(fmt.Sprintf("bench-%d", n+1)).Full())
	}
	return os.WriteFile(file, []byte(text.String()), 0o600)
}

// lossyWays measures all kinds, on which packets may be lost.
func (b *bench) lossyWays(ctx context.Context, title string, kinds []string) error {
	sizes := []int{64, 1400}
	trips, ways, err := b.measure(ctx, "", kinds, sizes, anywhere)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n%s\n", title)
	fmt.Fprintf(b.out, "%-24s %19s  %s\n", "", "round trip 64 B", "one way: million packets/s that arrive (lost)")
	fmt.Fprintf(b.out, "%-24s %9s %9s", "", "p50 us", "p99 us")
	for _, size := range sizes {
		fmt.Fprintf(b.out, " %18s", fmt.Sprintf("%d B", size))
	}
	fmt.Fprintln(b.out)
	for _, kind := range kinds {
		fmt.Fprintf(b.out, "%-24s", kind)
		if t := trips[kind]; len(t) > 0 {
			fmt.Fprintf(b.out, " %9.1f %9.1f", median(t, p50), median(t, p99))
		} else {
			fmt.Fprintf(b.out, " %19s", "")
		}
		for _, size := range sizes {
			w := ways[kind][size]
			fmt.Fprintf(b.out, " %18s", fmt.Sprintf("%.3g (%.0f%%)", median(w, millions), median(w, lost)))
		}
		fmt.Fprintln(b.out)
	}
	return nil
}

// freePort returns a port that both addresses have free.
func (b *bench) freePort() (uint16, error) {
	if b.ips[0] == "" {
		return 0, nil // not over UDP
	}
	for {
		c, err := net.ListenPacket("udp4", b.ips[1]+":0")
		if err != nil {
			return 0, err
		}
		p := c.LocalAddr().(*net.UDPAddr).Port
		d, err := net.ListenPacket("udp4", net.JoinHostPort(b.ips[0], strconv.Itoa(p)))
		c.Close()
		if err == nil {
			d.Close()
			return uint16(p), nil
		}
	}
}

// quiet is how long a worker waits for the next datagram. If none comes, the other
// socket is closed: UDP has no message for that.
const quiet = 500 * time.Millisecond

// openUDP returns a worker's end over a socket.
func openUDP(s spec) (link, error) {
	own, peer := s.IPs[0], s.IPs[1]
	if s.Role == "passive" {
		own, peer = peer, own
	}
	from := netip.AddrPortFrom(netip.MustParseAddr(own), s.Port)
	to := netip.AddrPortFrom(netip.MustParseAddr(peer), s.Port)
	if s.Kind == segmented {
		u, err := machine.Machine.UDP(from)
		if err != nil {
			return nil, err
		}
		return newManyUDP(u, to, s.Size), nil
	}
	c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	return &oneUDP{c, make([]byte, s.Size), make([]byte, s.Size)}, nil
}

// oneUDP passes one datagram a system call.
type oneUDP struct {
	*net.UDPConn
	out, in []byte
}

func (l *oneUDP) send(n uint64) (int, error) {
	stamp(l.out, n)
	_, err := l.Write(l.out)
	return 1, err
}

func (l *oneUDP) recv(got func(uint64)) error {
	if err := l.SetReadDeadline(time.Now().Add(max(quiet, time.Second))); err != nil {
		return err
	}
	n, err := l.Read(l.in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return io.EOF
	}
	if err == nil && n == len(l.in) {
		got(stamped(l.in))
	}
	return err
}

// manyUDP passes many datagrams a system call.
type manyUDP struct {
	port.UDP
	out, in []port.Datagram
	end     *time.Timer
}

func newManyUDP(u port.UDP, to netip.AddrPort, size int) *manyUDP {
	l := &manyUDP{UDP: u, out: make([]port.Datagram, 64), in: make([]port.Datagram, 128)}
	for i := range l.out {
		l.out[i] = port.Datagram{Peer: to, Body: make([]byte, size)}
	}
	l.end = time.AfterFunc(time.Hour, func() { u.Close() })
	return l
}

func (l *manyUDP) send(n uint64) (int, error) {
	for i, d := range l.out {
		stamp(d.Body, n+uint64(i))
	}
	return l.Send(l.out)
}

func (l *manyUDP) recv(got func(uint64)) error {
	n, err := l.Recv(l.in)
	if err != nil {
		return io.EOF // end has closed it
	}
	l.end.Reset(quiet)
	for _, d := range l.in[:n] {
		got(stamped(d.Body))
	}
	return nil
}
