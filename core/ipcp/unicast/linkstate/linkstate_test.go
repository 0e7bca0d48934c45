package linkstate

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core/clock"
	"o7s/core/wiretest"
)

const root = "../../../.."

func captured(t testing.TB) (all [][]byte) {
	for _, f := range wiretest.DixFrames(t, root, "unicast-over-dix.pcap") {
		if f.EID == 64 && len(f.Payload) == Len {
			all = append(all, f.Payload)
		}
	}
	return all
}

func TestCaptures(t *testing.T) {
	all := captured(t)
	if len(all) < 10 {
		t.Fatalf("saw %d updates", len(all))
	}
	for _, b := range all {
		u, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%x is encoded as %x", b, got)
		}
	}
	if u, _ := Parse(all[0]); u != (Update{From: 0x6e39e60c, To: 0xa0ce5d4e}) {
		t.Errorf("the first is %+v", u)
	}
}

func TestBadUpdates(t *testing.T) {
	good := Update{From: 1, To: 2}.Append(nil)
	for what, b := range map[string][]byte{
		"23 bytes": good[:23], "25 bytes": append(bytes.Clone(good), 0), "no bytes": nil,
		"from nobody":        Update{To: 2}.Append(nil),
		"to nobody":          Update{From: 2}.Append(nil),
		"to itself":          Update{From: 2, To: 2}.Append(nil),
		"a long address":     Update{From: 1 << 32, To: 2}.Append(nil),
		"another long one":   Update{From: 1, To: 1 << 32}.Append(nil),
		"an impossible pair": Update{From: 1<<64 - 1, To: 1<<64 - 1}.Append(nil),
	} {
		if u, err := Parse(b); err == nil {
			t.Errorf("%s is taken for %+v", what, u)
		}
	}
}

func FuzzUpdate(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := Parse(b); err == nil && !bytes.Equal(u.Append(nil), b) {
			t.Errorf("%x is decoded and encoded as %x", b, u.Append(nil))
		}
	})
}

// out notes what a State does.
type out struct {
	sent    map[Port][]Update
	changed int
	full    bool
	room    int // updates until it is full; 0: it does not get full
}

func (o *out) Send(to Port, b []byte) bool {
	if o.full {
		return false
	}
	if o.room > 0 {
		o.room--
		o.full = o.room == 0
	}
	u, _ := Parse(b)
	o.sent[to] = append(o.sent[to], u)
	return true
}
func (o *out) Changed() { o.changed++ }
func (o *out) take() (sent map[Port][]Update) {
	sent, o.sent = o.sent, make(map[Port][]Update)
	return sent
}

// owner is held during each call of a State, by the test or by its clock.
var owner sync.Mutex

// ownedClock calls back as the owner, as a State asks for.
type ownedClock struct{}

func (ownedClock) Now() time.Time { return clock.Real.Now() }
func (ownedClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return clock.Real.AfterFunc(d, func() {
		owner.Lock()
		defer owner.Unlock()
		f()
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	owner.Unlock()
	time.Sleep(d)
	synctest.Wait()
	owner.Lock()
}

// with runs test with the State of member 1, in virtual time.
func with(t *testing.T, test func(*State, *out)) {
	synctest.Test(t, func(t *testing.T) {
		owner.Lock()
		defer owner.Unlock()
		o := &out{sent: make(map[Port][]Update)}
		s := New(Config{Own: 1, Update: 15 * time.Second, Timeout: time.Minute}, ownedClock{}, o)
		defer s.Stop()
		test(s, o)
	})
}

func TestFlooding(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.AddPort(1)
		s.AddPort(2)
		s.Join(7)
		want := Update{1, 7, 0}
		if got := o.take(); !slices.Equal(got[1], []Update{want}) || !slices.Equal(got[2], []Update{want}) {
			t.Errorf("a new adjacency is told as %v", got)
		}
		u := Update{7, 1, 3}
		s.Receive(1, u.Append(nil))
		if got := o.take(); len(got[1]) != 0 || !slices.Equal(got[2], []Update{u}) {
			t.Errorf("what came on 1 goes to %v", got)
		}
		for _, old := range []Update{u, {7, 1, 2}} {
			s.Receive(2, old.Append(nil))
		}
		if got := o.take(); len(got) != 0 {
			t.Errorf("what is known goes to %v", got)
		}
		s.AddPort(3)
		if got := o.take(); !slices.Equal(got[3], []Update{want, u}) || len(got) != 1 {
			t.Errorf("a new connection gets %v", got)
		}
		s.Receive(9, Update{8, 9, 1}.Append(nil))
		s.Receive(1, []byte{1})
		if got := o.take(); len(got) != 0 || s.Ignored != 2 {
			t.Errorf("rubbish goes to %v, %d ignored", got, s.Ignored)
		}
	})
}

func TestUpdatesAndTimeouts(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.AddPort(1)
		s.Join(7)
		s.Receive(1, Update{7, 1, 0}.Append(nil))
		if g := s.Graph(); g.Edges() != 1 || len(g.Addrs) != 2 {
			t.Errorf("the graph has %d edges, %v", g.Edges(), g.Addrs)
		}
		o.take()
		pass(15*time.Second + time.Millisecond)
		if got := o.take(); !slices.Equal(got[1], []Update{{1, 7, 1}}) {
			t.Errorf("after the time of an update: %v", got)
		}
		changed := o.changed
		pass(48 * time.Second)
		if g := s.Graph(); g.Edges() != 0 || s.Links() != 1 || o.changed == changed {
			t.Errorf("what was not repeated is still there: %d edges, %d known", g.Edges(), s.Links())
		}
	})
}

// A neighbour that comes back is announced with a higher number than before, or
// nobody would take it; and it is one adjacency, however many connections it has.
func TestComingBack(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.AddPort(1)
		s.Join(7)
		s.Join(7)
		s.Leave(7)
		if got := o.take(); len(got[1]) != 1 || s.Links() != 1 {
			t.Errorf("two connections are told as %v", got)
		}
		s.Leave(7)
		s.Leave(7)
		if s.Links() != 0 {
			t.Error("an adjacency that has ended is known")
		}
		s.Join(7)
		if got := o.take(); !slices.Equal(got[1], []Update{{1, 7, 1}}) {
			t.Errorf("it comes back as %v", got)
		}
	})
}

// Updates from oneself that others make up change nothing that others see, but the
// numbers go on above them.
func TestForgedUpdates(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.AddPort(1)
		s.AddPort(2)
		s.Join(7)
		o.take()
		for _, u := range []Update{{1, 7, 1<<64 - 1}, {1, 8, 5}, {1, 7, 99}} {
			s.Receive(1, u.Append(nil))
		}
		if got := o.take(); len(got) != 0 || s.Links() != 1 {
			t.Errorf("they go to %v", got)
		}
		pass(16 * time.Second)
		if got := o.take(); !slices.Equal(got[2], []Update{{1, 7, 100}}) {
			t.Errorf("the next update is %v", got)
		}
	})
}

// An update with the largest number that there is, which somebody makes up, keeps those
// of the true member out no longer than until it is forgotten.
func TestLargestNumber(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.AddPort(1)
		s.AddPort(2)
		s.Receive(1, Update{7, 8, 1<<64 - 1}.Append(nil))
		o.take()
		seq := uint64(0)
		for ; seq < 10; seq++ {
			s.Receive(1, Update{7, 8, seq}.Append(nil))
			if got := o.take(); len(got[2]) == 1 {
				break
			}
			pass(15 * time.Second)
		}
		if seq == 0 || seq == 10 || s.Links() != 1 {
			t.Errorf("the true one counts after %d updates, and %d adjacencies are known", seq, s.Links())
		}
	})
}

func TestLiesAreBounded(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.AddPort(1)
		for i := range uint64(100_000) {
			s.Receive(1, Update{i + 2, i + 3, 1}.Append(nil))
		}
		if s.Links() > maxLinks || s.Refused == 0 {
			t.Errorf("%d adjacencies are known, %d refused", s.Links(), s.Refused)
		}
		pass(2 * time.Minute)
		if s.Links() != 0 {
			t.Errorf("%d are left", s.Links())
		}
	})
}

// Where there was no room, what was not sent is sent later.
func TestResync(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.AddPort(1)
		o.full = true
		s.Join(7)
		s.Receive(1, Update{7, 1, 0}.Append(nil)) // from there: not sent back
		s.Receive(2, Update{7, 9, 0}.Append(nil)) // no port
		o.full = false
		s.Resync(1)
		if got := o.take(); !slices.Equal(got[1], []Update{{1, 7, 0}, {7, 1, 0}}) {
			t.Errorf("then %v is sent", got)
		}
		s.Resync(1)
		if got := o.take(); len(got) != 0 {
			t.Errorf("what was sent is sent again: %v", got)
		}
	})
}

// A neighbour that reads slowly hears all, also what changes meanwhile, and little
// of it twice.
func TestSlowNeighbour(t *testing.T) {
	with(t, func(s *State, o *out) {
		const members = 2000
		s.AddPort(2)
		for i := range uint64(members) {
			s.Receive(2, Update{i + 10, i + 11, 1}.Append(nil))
		}
		heard := make(map[link]uint64)
		o.room = 10
		s.AddPort(1)
		times, sent := 0, 0
		for ; o.full; times++ {
			for _, u := range o.take()[1] {
				heard[linkOf(u.From, u.To)] = u.Seq
				sent++
			}
			switch times {
			case 50: // one that was told, one that was not, and a new one
				s.Receive(2, Update{12, 13, 5}.Append(nil))
				s.Receive(2, Update{1900, 1901, 5}.Append(nil))
				s.Receive(2, Update{5, 6, 5}.Append(nil))
			case 10 * members:
				t.Fatal("it never ends")
			}
			o.full, o.room = false, 10
			s.Resync(1)
		}
		for _, u := range o.take()[1] {
			heard[linkOf(u.From, u.To)] = u.Seq
			sent++
		}
		if len(heard) != members+1 || sent > 2*members+10 {
			t.Errorf("%d adjacencies were heard, in %d updates", len(heard), sent)
		}
		for _, l := range []link{linkOf(12, 13), linkOf(1900, 1901), linkOf(5, 6)} {
			if heard[l] != 5 {
				t.Errorf("%d is heard with number %d", l, heard[l])
			}
		}
	})
}

// Neighbours that came and left are forgotten, when all others have done so.
func TestLeftBehind(t *testing.T) {
	with(t, func(s *State, o *out) {
		s.Join(7)
		for i := range uint64(1000) {
			s.Join(10 + i)
			s.Leave(10 + i)
		}
		pass(time.Minute)
		if len(s.own) != 1001 {
			t.Errorf("%d are remembered after a minute", len(s.own))
		}
		pass(4 * time.Minute)
		if len(s.own) != 1 || s.Links() != 1 {
			t.Errorf("%d are remembered for ever", len(s.own)-1)
		}
		// Somewhere a number of before may still go round.
		s.AddPort(1)
		o.take()
		s.Join(10)
		if got := o.take(); !slices.Equal(got[1], []Update{{1, 10, 1}}) {
			t.Errorf("one that comes back is told as %v", got)
		}
	})
}

func TestDistances(t *testing.T) {
	g := NewGraph([][2]uint64{{1, 2}, {2, 3}, {3, 4}, {4, 1}, {9, 8}})
	d := g.Distances(g.Index(1))
	for addr, want := range map[uint64]int32{1: 0, 2: 1, 3: 2, 4: 1, 8: Far, 9: Far} {
		if d[g.Index(addr)] != want {
			t.Errorf("%d is %d hops away, want %d", addr, d[g.Index(addr)], want)
		}
	}
	if g.Index(7) != -1 || g.Edges() != 5 {
		t.Errorf("index of 7: %d; %d edges", g.Index(7), g.Edges())
	}
}
