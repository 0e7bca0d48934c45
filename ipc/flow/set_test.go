package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"o7s/core"
)

// setOf returns a set of n ends and their peers, by number.
func setOf(t testing.TB, n int) (*Set, []*End, []*End) {
	t.Helper()
	s, err := NewSet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var in, peers []*End
	for i := range n {
		a, b, err := openPair(MinRing)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close(); b.Close() })
		if err := s.Add(a, i); err != nil {
			t.Fatal(err)
		}
		in, peers = append(in, a), append(peers, b)
	}
	return s, in, peers
}

func waitSet(t testing.TB, s *Set) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	v, err := s.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return v.(int)
}

func TestSetGivesWhatCanBeRead(t *testing.T) {
	s, in, peers := setOf(t, 3)
	if v, ok := s.Next(); ok {
		t.Fatalf("%v has nothing to read", v)
	}
	p := make([]byte, core.MaxPacket)
	for _, i := range []int{2, 0, 1, 1} {
		if err := peers[i].WritePacket([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if got := waitSet(t, s); got != i {
			t.Fatalf("got %d, want %d", got, i)
		}
		if n, err := in[i].ReadPacket(p); n != 1 || err != nil || p[0] != byte(i) {
			t.Fatal(n, err, p[0])
		}
	}
}

func TestSetIsFair(t *testing.T) {
	// One that has much to read comes behind those that have little.
	s, in, peers := setOf(t, 3)
	for i := range in {
		s.Remove(in[i])
	}
	for range 100 {
		peers[0].WritePacket([]byte("much"))
	}
	peers[1].WritePacket([]byte("little"))
	peers[2].WritePacket([]byte("little"))
	for i := range in {
		if err := s.Add(in[i], i); err != nil {
			t.Fatal(err)
		}
	}
	p := make([]byte, 16)
	for turn, want := range []int{0, 1, 2, 0, 0} {
		i := waitSet(t, s)
		if i != want {
			t.Errorf("turn %d: %d, want %d", turn, i, want)
		}
		in[i].ReadPacket(p)
	}
}

func TestSetGivesAgainWhatWasNotRead(t *testing.T) {
	s, _, peers := setOf(t, 1)
	peers[0].WritePacket([]byte("x"))
	for range 3 {
		if waitSet(t, s) != 0 {
			t.Fatal("not given again")
		}
	}
}

// While a program has a member from Next, the peer need not wake it: a wake-up costs
// more than the rest of a packet.
func TestSetWantsNoWakeUpForWhatItReturned(t *testing.T) {
	s, in, peers := setOf(t, 1)
	p := make([]byte, 16)
	for range 3 {
		peers[0].WritePacket([]byte("x"))
		peers[0].WritePacket([]byte("y"))
		for range 2 {
			waitSet(t, s)
			if peers[0].w.ring.Asleep() {
				t.Error("one more packet would wake the set")
			}
			in[0].ReadPacket(p)
		}
		if _, ok := s.Next(); ok || !peers[0].w.ring.Wake() {
			t.Error("a packet after the last one would not wake the set")
		}
		in[0].r.ring.Sleep() // as before: Wake has cleared it
	}
}

func TestSetTellsOfEnds(t *testing.T) {
	p := make([]byte, 16)
	tests := []struct {
		name string
		end  func(end, peer *End)
		want error
	}{
		{"peer closed", func(_, peer *End) { peer.Close() }, io.EOF},
		{"peer closed its writing half", func(_, peer *End) { peer.CloseWrite() }, io.EOF},
		{"peer died", func(_, peer *End) { peer.Abort() }, core.ErrFlowDown},
		{"the IRMd says so", func(end, _ *End) { end.Fail(core.ErrFlowDown) }, core.ErrFlowDown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, in, peers := setOf(t, 2)
			got := make(chan int)
			go func() { got <- waitSet(t, s) }()
			tt.end(in[1], peers[1])
			if i := <-got; i != 1 {
				t.Fatalf("got %d", i)
			}
			if _, err := in[1].ReadPacket(p); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			in[1].Close()
			if s.Len() != 1 {
				t.Errorf("%d members after one was closed", s.Len())
			}
		})
	}
}

func TestSetMembership(t *testing.T) {
	s, in, peers := setOf(t, 2)
	other, err := NewSet()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Add(in[0], nil); err != core.ErrExists {
		t.Errorf("in two sets: %v", err)
	}
	s.Remove(in[0])
	s.Remove(in[0])
	peers[0].WritePacket([]byte("x"))
	if err := other.Add(in[0], 7); err != nil {
		t.Error(err)
	}
	if got := waitSet(t, other); got != 7 {
		t.Error("a packet that was there before Add is not told of")
	}
	in[1].Close()
	if err := other.Add(in[1], 8); err != core.ErrClosed {
		t.Errorf("a closed end: %v", err)
	}
	other.Close()
	other.Close()
	if err := other.Add(in[0], 9); err != core.ErrClosed {
		t.Errorf("a closed set: %v", err)
	}
	if _, err := other.Wait(context.Background()); err != core.ErrClosed {
		t.Errorf("Wait of a closed set: %v", err)
	}
	if err := s.Add(in[0], 1); err != nil {
		t.Errorf("the set it was in is closed: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := make([]byte, 1)
	in[0].ReadPacket(p)
	if _, err := s.Wait(ctx); err != core.ErrCanceled {
		t.Errorf("canceled: %v", err)
	}
}

func TestSetSelect(t *testing.T) {
	s, in, peers := setOf(t, 4)
	const packets = 2000
	for _, e := range peers {
		go func() {
			for i := range packets {
				if e.WritePacket(binary.LittleEndian.AppendUint32(nil, uint32(i))) != nil {
					return
				}
			}
			e.CloseWrite()
		}()
	}
	next := make([]uint32, len(in))
	p := make([]byte, 16)
	for left := len(in); left > 0; {
		select {
		case <-s.Ready():
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is ready")
		}
		for {
			v, ok := s.Next()
			if !ok {
				break
			}
			i := v.(int)
			_, err := in[i].ReadPacket(p)
			if err == io.EOF {
				s.Remove(in[i])
				left--
				continue
			}
			if got := binary.LittleEndian.Uint32(p); err != nil || got != next[i] {
				t.Fatalf("flow %d: packet %d, want %d, %v", i, got, next[i], err)
			}
			next[i]++
		}
	}
	for i, n := range next {
		if n != packets {
			t.Errorf("flow %d: %d packets", i, n)
		}
	}
}

// A server of many flows in both directions: no news is lost, also where the
// server's own writes wait for room.
func TestSetEchoesMany(t *testing.T) {
	const flows, rounds = 100, 50
	s, in, peers := setOf(t, flows)
	go func() {
		p := make([]byte, core.MaxPacket)
		for {
			v, err := s.Wait(context.Background())
			if err != nil {
				return
			}
			e := in[v.(int)]
			n, err := e.ReadPacket(p)
			if err != nil || e.WritePacket(p[:n]) != nil {
				e.Close()
			}
		}
	}()
	done := make(chan error, flows)
	for i, e := range peers {
		go func() {
			out, back := make([]byte, 1000+i*300), make([]byte, core.MaxPacket)
			e.SetDeadline(time.Now().Add(50 * time.Second))
			for r := range rounds {
				out[0], out[len(out)-1] = byte(r), byte(r)
				if err := e.WritePacket(out); err != nil {
					done <- err
					return
				}
				n, err := e.ReadPacket(back)
				if err == nil && (n != len(out) || back[0] != byte(r) || back[n-1] != byte(r)) {
					err = errors.New("another packet came back")
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range flows {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A member that changes again and again takes no more memory for that.
func TestSetChangedIsBounded(t *testing.T) {
	s, in, _ := setOf(t, 2)
	for range 1000 {
		in[0].Changed()
		in[1].Changed()
	}
	s.changedMu.Lock()
	defer s.changedMu.Unlock()
	if n := len(s.changed); n != 2 {
		t.Errorf("%d entries for 2 members", n)
	}
}

// greedy is a stage to which more has always come.
type greedy struct{}

func (greedy) Room(n int) (bool, int) { return true, n }

func (greedy) Ready() bool        { return false }
func (greedy) Watch() (_, _ bool) { return false, true }

// A member whose peer floods what is not for the program keeps the others waiting
// no longer than a little.
func TestSetFlood(t *testing.T) {
	s, _, peers := setOf(t, 1)
	end, flooder, err := openPair(MinRing)
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	defer flooder.Close()
	if err := flooder.WritePacket([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.AddStage(end, 1, greedy{}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := peers[0].WritePacket([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := waitSet(t, s); got != 0 {
			t.Fatalf("the set gives out %d", got)
		}
	}
}
