package ipc_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/oap"
	"o7s/ipc"
	"o7s/ipc/irmctl"
)

// far is two systems in one layer over UDP, on addresses of the loopback device,
// and this process as one of either. Between them packets are lost, come twice and
// change their order.
type far struct {
	a, b  *world
	hosts string
	relay *udpRelay
}

// newFar starts one. names are those that b registers.
func newFar(t testing.TB, loss, dup, swap float64, names ...string) *far {
	t.Helper()
	f := &far{a: newSystem(t), b: newSystem(t), hosts: filepath.Join(t.TempDir(), "hosts")}
	prefix := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))
	ip := func(n int) netip.Addr { return netip.MustParseAddr(prefix + fmt.Sprint(n)) }
	f.relay = newRelay(t, ip(1), ip(3), ip(4), ip(2), loss, dup, swap)
	var lines bytes.Buffer
	for _, name := range names {
		fmt.Fprintln(&lines, ip(3), hash.MD5.Sum(name).Full())
	}
	must(t, os.WriteFile(f.hosts, lines.Bytes(), 0o644))
	for i, w := range []*world{f.a, f.b} {
		w.connect(t)
		_, err := w.admin.BootstrapIPCP(wait(t), irmctl.BootstrapReq{Name: "ipcp", Type: "udp4", Draft: ipcp.Draft{
			Layer:    "layer",
			Settings: []ipcp.Setting{{Name: "ip", Value: ip(1 + i).String()}, {Name: "hosts", Value: f.hosts}},
		}})
		must(t, err)
	}
	f.b.register(t, names...)
	return f
}

// pair returns the two ends of a flow from a to a listener of b.
func (f *far) pair(t testing.TB, l *ipc.Listener, name string, q core.QoS) (client, server *ipc.Conn) {
	t.Helper()
	accepted := make(chan *ipc.Conn, 1)
	go func() {
		c, err := l.AcceptFlow()
		if err == nil {
			accepted <- c
		}
	}()
	client, err := f.a.node.Dial(wait(t), name, ipc.WithQoS(q))
	must(t, err)
	return client, result(t, "accept", accepted)
}

// udpRelay carries datagrams between two members of a layer, each of which takes it
// for the other one. Those of flows have a bad way.
type udpRelay struct {
	socks [2]*net.UDPConn // the side of a, the side of b
	peers [2]netip.AddrPort
	done  sync.WaitGroup

	mu              sync.Mutex // guards the fields below
	rng             *rand.Rand
	loss, dup, swap float64
}

// newRelay starts a relay between a and b. To a it has the address nearA, to b nearB.
func newRelay(t testing.TB, a, nearA, nearB, b netip.Addr, loss, dup, swap float64) *udpRelay {
	t.Helper()
	const port = 3435
	r := &udpRelay{
		peers: [2]netip.AddrPort{netip.AddrPortFrom(a, port), netip.AddrPortFrom(b, port)},
		rng:   rand.New(rand.NewPCG(1, 2)), loss: loss, dup: dup, swap: swap,
	}
	for i, addr := range []netip.Addr{nearA, nearB} {
		s, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
		must(t, err)
		must(t, s.SetReadBuffer(4<<20))
		t.Cleanup(func() { s.Close() })
		r.socks[i] = s
	}
	t.Cleanup(func() {
		for _, s := range r.socks {
			s.Close()
		}
		r.done.Wait()
	})
	for from := range r.socks {
		r.done.Go(func() { r.run(from) })
	}
	return r
}

func (r *udpRelay) run(from int) {
	buf, held := make([]byte, 65536), []byte(nil)
	for {
		n, addr, err := r.socks[from].ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // a datagram met no socket
		}
		if addr.Addr() != r.peers[from].Addr() {
			continue
		}
		send := func(p []byte) { r.socks[1-from].WriteToUDPAddrPort(p, r.peers[1-from]) }
		r.mu.Lock()
		lost, twice, late := r.rng.Float64() < r.loss, r.rng.Float64() < r.dup, r.rng.Float64() < r.swap
		r.mu.Unlock()
		switch {
		case n < 4 || binary.BigEndian.Uint32(buf) == 0:
			// A request or its reply. Four in a row are lost now and then, and the
			// allocation fails then, as it must.
			send(buf[:n])
			continue
		case lost:
			continue
		case late && held == nil:
			held = bytes.Clone(buf[:n])
			continue
		}
		send(buf[:n])
		if twice {
			send(buf[:n])
		}
		if held != nil {
			send(held)
			held = nil
		}
	}
}

// A reliable flow over a bad network is a net.Conn like any other.
func TestFarNetConn(t *testing.T) {
	t.Parallel()
	f := newFar(t, 0.05, 0.05, 0.05, "conn")
	l := f.b.listen(t, "conn")
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := f.pair(t, l, "conn", core.QoSData)
		return a, b, func() {
			for _, c := range []*ipc.Conn{a, b} {
				c.SetLinger(0)
				c.Close()
			}
		}, nil
	})
}

// net/http over a bad network.
func TestFarHTTP(t *testing.T) {
	t.Parallel()
	f := newFar(t, 0.05, 0.05, 0.05, "greeter")
	l := f.b.listen(t, "greeter")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%x", sha256.Sum256(body))
	})}
	go server.Serve(l)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return f.a.node.Dial(ctx, "greeter", ipc.WithQoS(core.QoSData))
		},
	}}
	defer client.CloseIdleConnections()
	for size := 1; size <= 1<<20; size *= 32 {
		body := fill(make([]byte, size), size)
		r, err := client.Post("http://greeter/", "application/octet-stream", bytes.NewReader(body))
		must(t, err)
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		if want := fmt.Sprintf("%x", sha256.Sum256(body)); err != nil || string(got) != want {
			t.Errorf("%d bytes: %q, %v; want %q", size, got, err, want)
		}
	}
}

var farBytes = flag.Int64("far-bytes", 8<<20, "bytes that TestFarTransfer sends")

// Many bytes over a bad network come as they were sent, and then the end.
func TestFarTransfer(t *testing.T) {
	t.Parallel()
	f := newFar(t, 0.01, 0.01, 0.01, "sink")
	a, b := f.pair(t, f.b.listen(t, "sink"), "sink", core.QoSData)
	defer b.Close()
	sum := make(chan []byte, 1)
	go func() {
		h := sha256.New()
		if n, err := io.Copy(h, b); err != nil {
			t.Errorf("read %d bytes: %v", n, err)
		}
		sum <- h.Sum(nil)
	}()
	h := sha256.New()
	start := time.Now()
	_, err := io.Copy(a, io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), *farBytes), h))
	must(t, err)
	must(t, a.Close())
	if got := <-sum; !bytes.Equal(got, h.Sum(nil)) {
		t.Error("other bytes came than were sent")
	}
	took := time.Since(start)
	st, _ := a.OrderStats()
	t.Logf("%d bytes in %v, %.1f MB/s; %+v", *farBytes, took, float64(*farBytes)/1e6/took.Seconds(), st)
}

// Without retransmission a flow that goes one way does not stop, and packets stay
// in order.
func TestFarInOrder(t *testing.T) {
	t.Parallel()
	f := newFar(t, 0.05, 0.05, 0.05, "ordered")
	l := f.b.listen(t, "ordered")
	for _, q := range []core.QoS{core.QoSBest, core.QoSVideo, core.QoSVoice} {
		a, b := f.pair(t, l, "ordered", q)
		const packets = 2000
		sent := async(func() error {
			for i := range packets {
				if err := a.WritePacket([]byte(fmt.Sprintf("%6d", i))); err != nil {
					return err
				}
				if i%32 == 0 {
					time.Sleep(time.Millisecond) // a socket's buffer is not to overflow
				}
			}
			return a.Close()
		})
		must(t, b.SetReadDeadline(time.Now().Add(patience)))
		last, n := -1, 0
		for p := make([]byte, 100); ; n++ {
			size, err := b.ReadPacket(p)
			if err == io.EOF {
				break
			}
			must(t, err)
			var i int
			if _, err := fmt.Sscanf(string(p[:size]), "%d", &i); err != nil || i <= last {
				t.Fatalf("%q came after %d: %v", p[:size], last, err)
			}
			last = i
		}
		must(t, result(t, "send", sent))
		if n < packets*8/10 || n == packets {
			t.Errorf("%s: %d of %d packets came over a network that loses one in twenty", core.QoSName(q), n, packets)
		}
		must(t, b.Close())
	}
}

// exchange sends a packet from a to b.
func exchange(t *testing.T, a, b *ipc.Conn) {
	t.Helper()
	must(t, a.WritePacket([]byte("hello")))
	must(t, b.SetReadDeadline(time.Now().Add(patience)))
	p := make([]byte, 100)
	if n, err := b.ReadPacket(p); err != nil || string(p[:n]) != "hello" {
		t.Fatalf("read %q, %v", p[:n], err)
	}
}

// What strangers send to a system's address harms no flow of it, and takes a bounded
// part of it: bytes that are no messages, of all sizes, and requests for a name
// whose process accepts none.
func TestFarStrangers(t *testing.T) {
	t.Parallel()
	f := newFar(t, 0, 0, 0, "server", "busy")
	l := f.b.listen(t, "server")
	client, server := f.pair(t, l, "server", core.QoSRaw)
	f.b.listen(t, "busy")
	to := f.relay.peers[1]
	request := make([]byte, 47) // as far as its hash
	request[44] = 1
	var sizes []int
	for n := range 47 {
		sizes = append(sizes, n)
	}
	for _, n := range append(sizes, 2049, 9000, 65507) {
		d := make([]byte, n)
		copy(d, request)
		_, err := f.relay.socks[1].WriteToUDPAddrPort(d, to)
		must(t, err)
	}
	dst := []byte(hash.MD5.Sum("busy"))
	ip := to.Addr().As4()
	const strangers, requests = 200, 10
	for i := range strangers {
		ip[3] = byte(10 + i)
		s, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(ip), to.Port())))
		must(t, err)
		for j := range requests {
			_, data, err := oap.Ask(nil, "", time.Now())
			must(t, err)
			binary.BigEndian.PutUint32(request[4:], uint32(1+j))
			_, err = s.WriteToUDPAddrPort(append(append(bytes.Clone(request), dst...), data...), to)
			must(t, err)
		}
		must(t, s.Close())
		exchange(t, client, server)
	}
	n := 0
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		flows, err := f.b.admin.Flows(wait(t))
		must(t, err)
		// Those that were withdrawn may be on their way out.
		if n = len(flows); n <= 1100 || time.Now().After(end) {
			break
		}
	}
	if n < 100 || n > 1100 {
		t.Errorf("%d flows, want some of the %d requests, and at most 1024 that wait", n, strangers*requests)
	}
	exchange(t, client, server)
	a, b := f.pair(t, l, "server", core.QoSRaw)
	exchange(t, a, b)
	for _, c := range []*ipc.Conn{client, server, a, b} {
		must(t, c.Close())
	}
}
