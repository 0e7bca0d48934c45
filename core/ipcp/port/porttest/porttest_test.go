package porttest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp/port"
)

var (
	here  = netip.MustParseAddrPort("10.0.0.1:7")
	there = netip.MustParseAddrPort("10.0.0.2:7")
)

func open(t *testing.T, n *Network, a netip.AddrPort) port.UDP {
	t.Helper()
	u, err := n.Opener(port.MAC{}).UDP(a)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// carried is what arrives, in order, of 1,000 datagrams sent a millisecond apart,
// and after how long each was there.
func carried(t *testing.T, seed uint64, w Wire) (got []string, took []time.Duration, count Count) {
	synctest.Test(t, func(t *testing.T) {
		n := New(seed, w)
		a, b := open(t, n, here), open(t, n, there)
		var mu sync.Mutex // guards sent
		sent := make(map[string]time.Time)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			d := make([]port.Datagram, 8)
			for {
				k, err := b.Recv(d)
				if err != nil {
					return
				}
				mu.Lock()
				for _, one := range d[:k] {
					got = append(got, string(one.Body))
					took = append(took, time.Since(sent[string(one.Body)]))
				}
				mu.Unlock()
			}
		}()
		for i := range 1000 {
			text := fmt.Sprint("datagram ", i)
			mu.Lock()
			sent[text] = time.Now()
			mu.Unlock()
			if k, err := a.Send([]port.Datagram{{Peer: there, Head: []byte(text[:3]), Body: []byte(text[3:])}}); k != 1 || err != nil {
				t.Fatal(k, err)
			}
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		b.Close()
		<-ended
		a.Close()
		count = n.Count()
	})
	return got, took, count
}

func TestWire(t *testing.T) {
	tests := []struct {
		name      string
		wire      Wire
		low, high int  // how many arrive
		inOrder   bool // all of them
		delay     time.Duration
	}{
		{"perfect", Wire{}, 1000, 1000, true, 0},
		{"loss", Wire{Loss: 0.1}, 850, 950, true, 0},
		{"duplication", Wire{Duplicate: 0.1}, 1050, 1150, true, 0},
		{"disorder", Wire{Disorder: 0.2, Delay: 10 * time.Millisecond}, 1000, 1000, false, 10 * time.Millisecond},
		{"delay", Wire{Delay: 20 * time.Millisecond}, 1000, 1000, true, 20 * time.Millisecond},
		{"a size that is too small", Wire{MTU: 11}, 100, 100, true, 0}, // up to datagram 99
		{"cut", Wire{Cut: true}, 0, 0, true, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, took, count := carried(t, 1, tt.wire)
			if len(got) < tt.low || len(got) > tt.high {
				t.Errorf("%d arrive, want %d to %d", len(got), tt.low, tt.high)
			}
			if c := count; c.Sent != 1000 || c.Received != uint64(len(got)) || c.Sent-c.Lost+c.Duplicated != c.Received {
				t.Errorf("%d arrive and the counts are %+v", len(got), c)
			}
			last, inOrder := -1, true
			for i, text := range got {
				var n int
				if _, err := fmt.Sscanf(text, "datagram %d", &n); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				inOrder = inOrder && n >= last
				last = n
				if took[i] < tt.delay {
					t.Errorf("datagram %d takes %v", n, took[i])
				}
			}
			if inOrder != tt.inOrder {
				t.Errorf("in order: %v", inOrder)
			}
			again, _, _ := carried(t, 1, tt.wire)
			if !slices.Equal(got, again) {
				t.Error("the same seed gives something else")
			}
			if other, _, _ := carried(t, 2, tt.wire); tt.low != tt.high && slices.Equal(got, other) {
				t.Error("another seed gives the same")
			}
		})
	}
}

// TestHooks: what a test sees and makes of the datagrams.
func TestHooks(t *testing.T) {
	n := New(1, Wire{})
	a, b := open(t, n, here), open(t, n, there)
	defer a.Close()
	var sent, arrived []string
	n.Tap(func(_, _ netip.AddrPort, d []byte) { sent = append(sent, string(d)) })
	n.Arrived(func(_, _ netip.AddrPort, d []byte) { arrived = append(arrived, string(d)) })
	n.Lose(func(_, _ netip.AddrPort, d []byte) bool { return string(d) == "two" })
	for _, text := range []string{"one", "two", "three"} {
		if _, err := a.Send([]port.Datagram{{Peer: there, Body: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	n.Inject(netip.MustParseAddrPort("10.9.9.9:9"), there, []byte("four"))
	if !slices.Equal(sent, []string{"one", "two", "three", "four"}) || !slices.Equal(arrived, []string{"one", "three", "four"}) {
		t.Errorf("sent %q, arrived %q", sent, arrived)
	}
	d := make([]port.Datagram, 8)
	if k, err := b.Recv(d); k != 3 || err != nil || d[0].Peer != here || string(d[1].Body) != "three" || d[2].Peer == here {
		t.Errorf("%d datagrams, error %v: %+v", k, err, d[:k])
	}
	if _, err := n.Opener(port.MAC{}).UDP(there); !errors.Is(err, core.ErrExists) {
		t.Errorf("an address in use: error %v", err)
	}
	b.Close()
	if _, err := b.Recv(d); !errors.Is(err, core.ErrClosed) {
		t.Errorf("a closed socket receives: error %v", err)
	}
	if _, err := a.Send([]port.Datagram{{Peer: there, Body: []byte("five")}}); err != nil {
		t.Error(err)
	}
	if k, err := a.Recv(d); k != 1 || err != nil || !d[0].Refused || d[0].Peer != there {
		t.Errorf("where nobody receives, the sender gets %d, %v: %+v", k, err, d[0])
	}
}

// TestFullSocket: a socket that nobody reads keeps what it can hold, and counts the
// others.
func TestFullSocket(t *testing.T) {
	n := New(1, Wire{})
	a, b := open(t, n, here), open(t, n, there)
	defer a.Close()
	defer b.Close()
	for range queueLen + 10 {
		if _, err := a.Send([]port.Datagram{{Peer: there, Body: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
	}
	if b.Lost() != 10 {
		t.Errorf("%d are lost, want 10", b.Lost())
	}
}

// TestEther: a frame goes to one station or to all others, of its own protocol.
func TestEther(t *testing.T) {
	n := New(1, Wire{})
	stations := make([]port.Ether, 4)
	for i := range stations {
		proto := port.Proto(0xa000)
		if i == 3 {
			proto = port.LLC
		}
		var err error
		if stations[i], err = n.Opener(port.MAC{2, 0, 0, 0, 0, byte(i)}).Ether("eth0", proto); err != nil {
			t.Fatal(err)
		}
		defer stations[i].Close()
	}
	to := func(mac port.MAC, text string) {
		if _, err := stations[0].Send([]port.Frame{{Peer: mac, Head: []byte("h"), Body: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
	}
	to(port.Broadcast, "all")
	to(stations[1].MAC(), "one")
	to(stations[3].MAC(), "another protocol's")
	f := make([]port.Frame, 4)
	for i, want := range [][]string{1: {"hall", "hone"}, 2: {"hall"}} {
		if len(want) == 0 {
			continue
		}
		k, err := stations[i].Recv(f)
		if err != nil || k != len(want) {
			t.Fatalf("station %d gets %d frames, error %v; want %q", i, k, err, want)
		}
		for j, one := range f[:k] {
			if string(one.Body) != want[j] || one.Peer != stations[0].MAC() || one.Group != (j == 0) {
				t.Errorf("station %d gets %+v, want %q", i, one, want[j])
			}
		}
	}
	if _, err := stations[0].Send([]port.Frame{{Peer: port.Broadcast, Body: make([]byte, 1501)}}); !errors.Is(err, core.ErrUsage) {
		t.Errorf("a frame of 1501 bytes: error %v", err)
	}
}
