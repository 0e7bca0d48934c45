package flow

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"o7s/core"
	"o7s/ipc/internal/testkit"
)

// drain takes what a layer sees at e now, at most batch packets at a time.
func drain(t *testing.T, e *End, batch int) (all [][]byte, err error) {
	t.Helper()
	p := make([][]byte, batch)
	for {
		n, err := e.Look(p)
		if n == 0 {
			return all, err
		}
		for _, b := range p[:n] {
			all = append(all, bytes.Clone(b))
		}
		e.Drop(n)
	}
}

func TestLookLendsWhatIsThereAndPutIsSeenAfterShow(t *testing.T) {
	for _, batch := range []int{1, 3, 64} {
		a, b := pair(t, MinRing)
		seed := 0
		// Enough to go round the ring several times, with packets of all sizes.
		for round := range 200 {
			var want [][]byte
			for _, n := range []int{1, 7, 8, 9, 1400, 65535}[:3+round%4] {
				seed++
				p := testkit.Packet(n, seed)
				head := n / 3
				if ok, err := a.Put(p[:head], p[head:]); !ok || err != nil {
					t.Fatalf("Put of %d bytes: %v, %v", n, ok, err)
				}
				want = append(want, p)
			}
			if got, err := drain(t, b, batch); len(got) != 0 || err != nil {
				t.Fatalf("%d packets, %v before Publish", len(got), err)
			}
			a.Publish()
			if a.Unread() <= 0 {
				t.Fatal("nothing is unread")
			}
			got, err := drain(t, b, batch)
			if err != nil || len(got) != len(want) {
				t.Fatalf("%d packets, %v; want %d", len(got), err, len(want))
			}
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Fatalf("round %d: packet %d differs", round, i)
				}
			}
			if n := a.Unread(); n != 0 {
				// What is read is said at the latest when nothing is left.
				t.Fatalf("%d bytes are unread after all is read", n)
			}
		}
	}
}

func TestDropLeavesTheRest(t *testing.T) {
	a, b := pair(t, MinRing)
	for i := range 5 {
		if err := a.WritePacket(testkit.Packet(10+i, i)); err != nil {
			t.Fatal(err)
		}
	}
	p := make([][]byte, 4)
	if n, err := b.Look(p); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := b.TryReadPacket(make([]byte, 100)); !errors.Is(err, core.ErrState) {
		t.Errorf("a read while packets are lent: %v", err)
	}
	b.Drop(2)
	buf := make([]byte, 100)
	if n, err := b.ReadPacket(buf); n != 12 || err != nil {
		t.Fatalf("%d bytes, %v come after the first two packets", n, err)
	}
	if n, err := b.Look(p); n != 2 || err != nil || len(p[0]) != 13 || len(p[1]) != 14 {
		t.Fatal(n, err)
	}
	b.Drop(0)
	if got, _ := drain(t, b, 4); len(got) != 2 {
		t.Errorf("%d packets are left, want 2", len(got))
	}
	if c := b.Counters(); c.PacketsIn != 5 || c.BytesIn != 10+11+12+13+14 {
		t.Errorf("counted %+v", c)
	}
}

func TestPutWithoutRoom(t *testing.T) {
	a, b := pair(t, MinRing)
	p := testkit.Packet(1000, 1)
	n := 0
	for {
		ok, err := a.Put(p[:4], p[4:])
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		n++
	}
	a.Publish()
	if got, err := drain(t, b, 64); len(got) != n || err != nil {
		t.Fatalf("%d packets, %v; want %d", len(got), err, n)
	}
	for _, size := range []int{0, core.MaxPacket + 1} {
		if ok, err := a.Put(nil, make([]byte, size)); ok || !errors.Is(err, core.ErrUsage) {
			t.Errorf("Put of %d bytes: %v, %v", size, ok, err)
		}
	}
	b.Close()
	if ok, err := a.Put(nil, p); ok || !errors.Is(err, core.ErrFlowDown) {
		t.Errorf("Put to a closed end: %v, %v", ok, err)
	}
	a.Publish() // does no harm
}

func TestLookTellsTheEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*End) error
		want error
	}{"closed": {(*End).Close, io.EOF}, "half closed": {(*End).CloseWrite, io.EOF}, "died": {(*End).Abort, core.ErrFlowDown}} {
		a, b := pair(t, MinRing)
		s, err := NewSet()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Add(b, 1); err != nil {
			t.Fatal(err)
		}
		if err := a.WritePacket(testkit.Packet(10, 1)); err != nil {
			t.Fatal(err)
		}
		if err := tt.end(a); err != nil {
			t.Fatal(err)
		}
		packets := 0
		for {
			waitSet(t, s)
			got, err := drain(t, b, 4)
			packets += len(got)
			if err != nil {
				if !errors.Is(err, tt.want) || packets != 1 {
					t.Errorf("%s: %v after %d packets, want %v after 1", name, err, packets, tt.want)
				}
				break
			}
		}
	}
}

func TestCloseWhilePacketsAreLent(t *testing.T) {
	a, b := pair(t, MinRing)
	want := testkit.Packet(1000, 1)
	if err := a.WritePacket(want); err != nil {
		t.Fatal(err)
	}
	p := make([][]byte, 1)
	if n, err := b.Look(p); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.Close()
	if !bytes.Equal(p[0], want) { // still mapped
		t.Error("the packet has changed")
	}
	b.Drop(1)
	if b.mem != nil {
		t.Error("the memory is still mapped after Drop")
	}
}

// Room tells once, when the peer has read.
func TestSetTellsOfRoom(t *testing.T) {
	s, in, peers := setOf(t, 2)
	a, b := in[0], peers[0]
	n := 0
	for {
		ok, err := a.Put(nil, testkit.Packet(1000, n))
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		n++
	}
	a.Publish()
	s.Room(a, 1000)
	if v, ok := s.Next(); ok {
		t.Fatalf("%v has news", v)
	}
	buf := make([]byte, core.MaxPacket)
	for range n {
		if _, err := b.ReadPacket(buf); err != nil {
			t.Fatal(err)
		}
	}
	// The reader says so at the latest when it finds nothing.
	if m, err := b.TryReadPacket(buf); m != 0 || err != nil {
		t.Fatal(m, err)
	}
	if got := waitSet(t, s); got != 0 {
		t.Fatalf("%d has room, want 0", got)
	}
	if ok, err := a.Put(nil, testkit.Packet(1000, 1)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if v, ok := s.Next(); ok {
		t.Errorf("%v comes again", v)
	}
	// There is room: it is told at once.
	s.Room(in[1], 1)
	if got := waitSet(t, s); got != 1 {
		t.Errorf("%d has room, want 1", got)
	}
	// One that waits for room and whose peer dies.
	for ok := true; ok; {
		ok, _ = a.Put(nil, testkit.Packet(1000, 1))
	}
	a.Publish()
	s.Room(a, 1000)
	b.Abort()
	if got := waitSet(t, s); got != 0 {
		t.Errorf("%d has news, want 0", got)
	}
}

// A parked end comes for its room alone, also where its packets were known before.
func TestSetParks(t *testing.T) {
	s, in, peers := setOf(t, 2)
	a, b := in[0], peers[0]
	b.WritePacket([]byte("known before"))
	s.Park(a)
	s.Park(a)
	b.WritePacket([]byte("and one more"))
	none := func() {
		t.Helper()
		if v, ok := s.Next(); ok {
			t.Fatalf("%v has news", v)
		}
	}
	none()
	s.Room(a, 1)
	if got := waitSet(t, s); got != 0 {
		t.Fatalf("%d has room, want 0", got)
	}
	none()
	peers[1].WritePacket([]byte("x"))
	if got := waitSet(t, s); got != 1 {
		t.Fatalf("%d has a packet, want 1", got)
	}
	if _, err := in[1].ReadPacket(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	b.Close()
	none()
	s.Unpark(in[1]) // is not parked
	none()
	s.Unpark(a)
	if got := waitSet(t, s); got != 0 {
		t.Fatalf("%d has news, want 0", got)
	}
	if packets, err := drain(t, a, 4); err != io.EOF || len(packets) != 2 {
		t.Fatalf("%q, %v; want two packets and the end", packets, err)
	}
	// One that comes while the end is parked and handed out.
	s, in, peers = setOf(t, 1)
	peers[0].WritePacket([]byte("x"))
	waitSet(t, s)
	s.Park(in[0])
	none()
	s.Unpark(in[0])
	if got := waitSet(t, s); got != 0 {
		t.Fatalf("%d has a packet, want 0", got)
	}
	// While Wait waits.
	s.Park(in[0])
	none()
	got := make(chan int)
	go func() { got <- waitSet(t, s) }()
	s.Unpark(in[0])
	<-got
}

func TestLookAndPutTakeNoMemory(t *testing.T) {
	a, b := pair(t, MinRing)
	p := make([][]byte, 64)
	head, body := testkit.Packet(4, 1), testkit.Packet(1000, 2)
	round := func() {
		for range 64 {
			if ok, err := a.Put(head, body); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		a.Publish()
		for left := 64; left > 0; {
			n, err := b.Look(p)
			if err != nil {
				t.Fatal(err)
			}
			b.Drop(n)
			left -= n
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations for 64 packets", n)
	}
}

func BenchmarkLayer(b *testing.B) {
	a, c := pair(b, DefaultRing)
	p := make([][]byte, 64)
	head, body := testkit.Packet(4, 1), testkit.Packet(1400, 2)
	b.ReportAllocs()
	b.SetBytes(1404)
	for i := 0; i < b.N; i += 64 {
		for range 64 {
			a.Put(head, body)
		}
		a.Publish()
		n, _ := c.Look(p)
		c.Drop(n)
	}
}
