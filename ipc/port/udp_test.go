package port

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/ipcp/port"
)

func open(t testing.TB, addr string) port.UDP {
	t.Helper()
	u, err := Machine.UDP(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

func payload(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(seed + i*7)
	}
	return b
}

// receive returns n datagrams, as one goroutine receives them.
func receive(t testing.TB, u port.UDP, n, batch int) (all []port.Datagram) {
	t.Helper()
	d := make([]port.Datagram, batch)
	timer := time.AfterFunc(20*time.Second, func() { u.Close() })
	defer timer.Stop()
	for len(all) < n {
		got, err := u.Recv(d)
		if err != nil {
			t.Fatalf("%v after %d of %d datagrams", err, len(all), n)
		}
		for _, one := range d[:got] {
			all = append(all, port.Datagram{Peer: one.Peer, Body: bytes.Clone(one.Body)})
		}
	}
	return all
}

// Datagrams of all sizes come as they were sent, cut by the kernel or not.
func TestDatagramsKeepBoundaries(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			if addr == "::1" {
				if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
					t.Skipf("no IPv6 here: %v", err)
				} else {
					c.Close()
				}
			}
			a, b := open(t, addr), open(t, addr)
			other := open(t, addr)
			var d []port.Datagram
			var want [][]byte
			for i, n := range []int{4, 100, 100, 100, 60, 100, 1400, 1400, 1400, 1400, 1, 9000, 9000, 64, 64, 64, 64, 64, 63, 65, 40000, 40000} {
				p := payload(n, i)
				d = append(d, port.Datagram{Peer: b.LocalAddr(), Head: p[:n/2], Body: p[n/2:]})
				want = append(want, p)
				if i%5 == 4 { // another peer in between
					d = append(d, port.Datagram{Peer: other.LocalAddr(), Body: payload(100, i)})
				}
			}
			for range 200 {
				d = append(d, port.Datagram{Peer: b.LocalAddr(), Body: payload(64, 9)})
				want = append(want, payload(64, 9))
			}
			if n, err := a.Send(d); n != len(d) || err != nil {
				t.Fatalf("sent %d of %d, %v", n, len(d), err)
			}
			for i, got := range receive(t, b, len(want), 7) {
				if !bytes.Equal(got.Body, want[i]) {
					t.Fatalf("datagram %d has %d bytes, want other %d", i, len(got.Body), len(want[i]))
				}
				if got.Peer != a.LocalAddr() {
					t.Fatalf("datagram %d is from %v, want %v", i, got.Peer, a.LocalAddr())
				}
			}
			receive(t, other, 4, 8)
		})
	}
}

// An ordinary socket gets ordinary datagrams.
func TestSegmentsAreDatagrams(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := open(t, "127.0.0.1")
	var d []port.Datagram
	for i := range 50 {
		d = append(d, port.Datagram{Peer: c.LocalAddr().(*net.UDPAddr).AddrPort(), Body: payload(1000, i)})
	}
	if n, err := a.Send(d); n != 50 || err != nil {
		t.Fatal(n, err)
	}
	buf := make([]byte, 2000)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for i := range 50 {
		n, err := c.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], payload(1000, i)) {
			t.Fatalf("datagram %d: %d bytes, %v", i, n, err)
		}
	}
}

// A datagram that the socket refuses is told, and the others go.
func TestSendTellsWhatIsRefused(t *testing.T) {
	a, b := open(t, "127.0.0.1"), open(t, "127.0.0.1")
	d := []port.Datagram{
		{Peer: b.LocalAddr(), Body: payload(10, 1)},
		{Peer: b.LocalAddr(), Body: make([]byte, 70000)},
		{Peer: b.LocalAddr(), Body: payload(20, 2)},
	}
	n, err := a.Send(d)
	if n != 1 || err == nil || errors.Is(err, core.ErrClosed) {
		t.Fatalf("sent %d, %v; want 1 and an error", n, err)
	}
	if n, err := a.Send(d[2:]); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	receive(t, b, 2, 8)
}

// A socket that is not there any more is told, and what is sent to others goes on.
func TestRefusedIsTold(t *testing.T) {
	a, b, c := open(t, "127.0.0.1"), open(t, "127.0.0.1"), open(t, "127.0.0.1")
	gone := b.LocalAddr()
	b.Close()
	for range 3 {
		if n, err := a.Send([]port.Datagram{{Peer: gone, Body: payload(10, 1)}, {Peer: c.LocalAddr(), Body: payload(20, 1)}}); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	receive(t, c, 3, 8)
	d := make([]port.Datagram, 8)
	n, err := a.Recv(d)
	if err != nil || n < 1 || !d[0].Refused || d[0].Peer != gone || d[0].Body != nil {
		t.Errorf("%d datagrams, %v: %+v; want one of %v that is refused", n, err, d[0], gone)
	}
}

func TestCloseEndsRecv(t *testing.T) {
	a := open(t, "127.0.0.1")
	ended := make(chan error, 1)
	go func() {
		_, err := a.Recv(make([]port.Datagram, 8))
		ended <- err
	}()
	a.Close()
	if err := <-ended; !errors.Is(err, core.ErrClosed) {
		t.Errorf("Recv ended with %v", err)
	}
	if _, err := a.Send([]port.Datagram{{Peer: a.LocalAddr()}}); !errors.Is(err, core.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
}

func TestBindErrors(t *testing.T) {
	a := open(t, "127.0.0.1")
	for want, addr := range map[error]netip.AddrPort{
		core.ErrExists: a.LocalAddr(),
		core.ErrUsage:  netip.MustParseAddrPort("192.0.2.1:3435"),
	} {
		if _, err := Machine.UDP(addr); !errors.Is(err, want) {
			t.Errorf("bind to %v: %v, want %v", addr, err, want)
		}
	}
	if os.Geteuid() != 0 {
		if _, err := Machine.UDP(netip.MustParseAddrPort("127.0.0.1:1")); err != nil && !errors.Is(err, core.ErrPermission) {
			t.Errorf("bind to port 1: %v", err)
		}
	}
}

func TestPathMTU(t *testing.T) {
	a := open(t, "127.0.0.1")
	if mtu := a.PathMTU(netip.MustParseAddr("127.0.0.1")); mtu < 1500 {
		t.Errorf("the loopback device carries %d bytes", mtu)
	}
}

func TestSendAndRecvTakeNoMemory(t *testing.T) {
	a, b := open(t, "127.0.0.1"), open(t, "127.0.0.1")
	d := make([]port.Datagram, 64)
	in := make([]port.Datagram, 64)
	body := payload(100, 1)
	for i := range d {
		d[i] = port.Datagram{Peer: b.LocalAddr(), Head: body[:4], Body: body[4:]}
	}
	round := func() {
		if n, err := a.Send(d); n != len(d) || err != nil {
			t.Fatal(n, err)
		}
		for left := len(d); left > 0; {
			n, err := b.Recv(in)
			if err != nil {
				t.Fatal(err)
			}
			left -= n
		}
	}
	round()
	if n := testing.AllocsPerRun(50, round); n > 1 { // the poller's, where Recv waits
		t.Errorf("%v allocations for 64 datagrams", n)
	}
}

// BenchmarkUDP sends and receives on one goroutine: ours in batches of 64, and
// one system call a datagram.
func BenchmarkUDP(b *testing.B) {
	for _, size := range []int{64, 1400} {
		for _, kind := range []string{"batch", "single"} {
			b.Run(kind+"/"+map[int]string{64: "64", 1400: "1400"}[size], func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				if kind == "batch" {
					x, y := open(b, "127.0.0.1"), open(b, "127.0.0.1")
					d, in := make([]port.Datagram, 64), make([]port.Datagram, 64)
					body := payload(size, 1)
					for i := range d {
						d[i] = port.Datagram{Peer: y.LocalAddr(), Head: body[:4], Body: body[4:]}
					}
					b.ResetTimer()
					for i := 0; i < b.N; i += 64 {
						x.Send(d)
						for left := 64; left > 0; {
							n, _ := y.Recv(in)
							left -= n
						}
					}
					return
				}
				y, _ := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
				x, _ := net.DialUDP("udp4", nil, y.LocalAddr().(*net.UDPAddr))
				defer x.Close()
				defer y.Close()
				body, buf := payload(size, 1), make([]byte, 2000)
				b.ResetTimer()
				for i := 0; i < b.N; i++ {
					x.Write(body)
					y.Read(buf)
				}
			})
		}
	}
}
