package ring

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"o7s/core"
	"o7s/ipc/internal/lock"
	"o7s/ipc/internal/testkit"
)

// link returns both sides of direction 0 of new rings, and their memory.
func link(t testing.TB, size int) (*Producer, *Consumer, []byte) {
	t.Helper()
	mem := make([]byte, Bytes(size))
	p, err := NewProducer(mem, size, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewConsumer(mem, size, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &p, &c, mem
}

// put puts a packet of n bytes that depend on seed, and fails the test unless
// there is room.
func put(t testing.TB, p *Producer, n, seed int) {
	t.Helper()
	if ok, err := send(p, testkit.Packet(n, seed), seed); !ok || err != nil {
		t.Fatalf("Put of %d bytes: %v, %v", n, ok, err)
	}
}

// send puts and shows a packet. It takes every other one the fast way, if that
// goes.
func send(p *Producer, b []byte, seed int) (bool, error) {
	if seed%2 == 0 {
		if p.PutFast(b) {
			p.Publish()
			return true, nil
		}
	}
	ok, err := p.Put(b)
	if ok {
		p.Publish()
	}
	return ok, err
}

// get takes the packet at the head and fails the test unless it is
// testkit.Packet(n, seed). It takes every other one the fast way, if that goes.
func get(t testing.TB, c *Consumer, n, seed int) {
	t.Helper()
	if seed%2 == 0 {
		b := make([]byte, n+seed%3)
		if m, _ := c.GetFast(b); m == n && bytes.Equal(b[:n], testkit.Packet(n, seed)) {
			return
		} else if m != 0 {
			t.Fatalf("GetFast: %d bytes, want %d, or others", m, n)
		}
	}
	if m, err := c.Next(); m != n || err != nil {
		t.Fatalf("Next: %d, %v, want %d", m, err, n)
	}
	if !bytes.Equal(c.Head(), testkit.Packet(n, seed)) {
		t.Fatalf("packet of %d bytes differs", n)
	}
	c.Take(n)
}

func TestSizesAreChecked(t *testing.T) {
	most := MaxSize // a variable: twice as much is no int of 32 bits, and less than 0 there
	for _, bad := range []int{-1, 0, 1, MinSize / 2, MinSize + 8, 3 * MinSize, 2 * most} {
		if err := CheckSize(bad); !errors.Is(err, core.ErrUsage) {
			t.Errorf("CheckSize(%d): %v", bad, err)
		}
	}
	mem := make([]byte, Bytes(MinSize)+8)
	for name, f := range map[string]func() error{
		"memory too long":  func() error { _, err := NewProducer(mem, MinSize, 0); return err },
		"memory too short": func() error { _, err := NewConsumer(mem[:100], MinSize, 0); return err },
		"direction 2":      func() error { _, err := NewProducer(mem[:Bytes(MinSize)], MinSize, 2); return err },
		"odd address":      func() error { _, err := NewProducer(mem[1:][:Bytes(MinSize)], MinSize, 0); return err },
		"odd size":         func() error { _, err := NewProducer(mem, MinSize+4, 0); return err },
	} {
		if err := f(); !errors.Is(err, core.ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAllSizesPassWhereverTheProducerStands(t *testing.T) {
	p, c, _ := link(t, MinSize)
	rnd := rand.New(rand.NewPCG(1, 2))
	type one struct{ n, seed int }
	var queue []one
	sizes := []int{1, 7, 8, 9, 63, 64, 65, 1500, 9000, 40000, core.MaxPacket - 1, core.MaxPacket}
	taken := 0
	for i := range 20000 {
		n := sizes[rnd.IntN(len(sizes))]
		if rnd.IntN(3) == 0 {
			n = 1 + rnd.IntN(3000)
		}
		ok, err := send(p, testkit.Packet(n, i), i)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			queue = append(queue, one{n, i})
		} else if len(queue) == 0 {
			t.Fatalf("packet %d of %d bytes does not fit an empty ring", i, n)
		}
		for len(queue) > 0 && (!ok || rnd.IntN(2) == 0) {
			get(t, c, queue[0].n, queue[0].seed)
			queue = queue[1:]
			taken++
			if rnd.IntN(4) == 0 {
				c.Publish()
				break
			}
		}
		if len(queue) == 0 {
			if n, err := c.Next(); n != 0 || err != nil {
				t.Fatalf("Next of an empty ring: %d, %v", n, err)
			}
			c.Publish()
		}
	}
	if p.Packets != uint64(taken+len(queue)) || c.Packets != uint64(taken) {
		t.Errorf("counted %d in, %d out; it was %d, %d", p.Packets, c.Packets, taken+len(queue), taken)
	}
}

func TestTwoGoroutinesPassEverythingInOrder(t *testing.T) {
	p, c, _ := link(t, MinSize)
	const packets = 30000
	size := func(i int) int { return 1 + (i*31)%5000 }
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < packets; {
			ok, err := send(p, testkit.Packet(size(i), i), i)
			if err != nil {
				t.Error(err)
				return
			}
			if ok {
				i++
			}
		}
	})
	for i := 0; i < packets; {
		n, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			c.Publish()
			continue
		}
		get(t, c, size(i), i)
		i++
	}
	wg.Wait()
}

func TestPacketsAreInvisibleUntilPublished(t *testing.T) {
	p, c, _ := link(t, MinSize)
	for i := range 3 {
		p.Put(testkit.Packet(10, i))
	}
	if p.PutFast(testkit.Packet(10, 3)) {
		t.Fatal("PutFast went past unpublished packets")
	}
	if n, err := c.Next(); n != 0 || err != nil {
		t.Fatalf("before Publish: %d, %v", n, err)
	}
	p.Publish()
	for i := range 3 {
		get(t, c, 10, i)
	}
}

// Neither a skip nor what follows it is visible before that.
func TestSkipIsInvisibleUntilPublished(t *testing.T) {
	for _, first := range []bool{true, false} {
		p, c, _ := link(t, MinSize)
		// Never quite empty, so that it does not start again at 0 before the end.
		put(t, p, 1000, 0)
		for i := 1; p.pos < MinSize-2000; i++ {
			put(t, p, 1000, i)
			get(t, c, 1000, i-1)
			c.Publish()
		}
		last := int(p.pos/recordSize(1000)) - 1
		if !first {
			p.Put(testkit.Packet(10, 4))
		}
		p.Put(testkit.Packet(40000, 5))
		if p.rec != MinSize {
			t.Fatal("it does not skip")
		}
		get(t, c, 1000, last)
		if n, err := c.Next(); n != 0 || err != nil {
			t.Fatalf("first %v: %d, %v", first, n, err)
		}
		p.Publish()
		if !first {
			get(t, c, 10, 4)
		}
		get(t, c, 40000, 5)
		if n, _ := c.Next(); n != 0 {
			t.Error("another packet")
		}
	}
}

// Old bytes of the ring are never taken for a header, whatever the packets that
// they are of, and however full the ring is.
func TestOldBytesAreNoHeader(t *testing.T) {
	p, c, _ := link(t, MinSize)
	// Everything that was ever sent looks like headers of 8 bytes.
	b := make([]byte, core.MaxPacket)
	for i := 0; i < len(b); i += 8 {
		b[i] = 8
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	sent, got := 0, 0
	for range 20000 {
		for {
			n := 8 * (1 + rnd.IntN(1000))
			if rnd.IntN(10) == 0 {
				n = core.MaxPacket
			}
			ok, err := send(p, b[:n], n/8)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			sent += n
		}
		all := rnd.IntN(3) == 0
		for {
			n, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			got += n
			c.Take(n)
			if !all && rnd.IntN(20) == 0 {
				break
			}
		}
		if all && got != sent {
			t.Fatalf("%d bytes came of %d", got, sent)
		}
		c.Publish()
	}
}

func TestTakeInPiecesKeepsThePlaceUntilTheLast(t *testing.T) {
	p, c, _ := link(t, MinSize)
	put(t, p, 10, 3)
	c.Next()
	c.Take(4)
	if n, _ := c.Next(); n != 6 || !bytes.Equal(c.Head(), testkit.Packet(10, 3)[4:]) || c.Packets != 0 {
		t.Errorf("after 4 of 10 bytes: %d left, %d packets", n, c.Packets)
	}
	c.Take(6)
	if n, _ := c.Next(); n != 0 || c.Packets != 1 || c.Bytes != 10 {
		t.Errorf("after all: %d left, %d packets of %d bytes", n, c.Packets, c.Bytes)
	}
}

func TestReserveLendsTheRingAndCommitMayShorten(t *testing.T) {
	p, c, _ := link(t, MinSize)
	b, err := p.Reserve(100)
	if err != nil || len(b) != 100 || cap(b) != 100 {
		t.Fatalf("Reserve: %d, %d, %v", len(b), cap(b), err)
	}
	copy(b, testkit.Packet(100, 1))
	p.Reserve(200) // replaces it
	b, _ = p.Reserve(100)
	copy(b, testkit.Packet(100, 1))
	p.Commit(60)
	p.Publish()
	get(t, c, 60, 1)
	if n, _ := c.Next(); n != 0 {
		t.Errorf("another packet of %d", n)
	}
}

// An idle flow must stay in few pages: the ring starts again when it is empty.
func TestEmptyRingStartsAgainAtItsBeginning(t *testing.T) {
	for _, size := range []int{MinSize, 1 << 20, 4 << 20} {
		p, c, _ := link(t, size)
		limit := min(rewindMax, size/2) + rewindEvery + 1508
		for i := range 3 * size / 1500 {
			put(t, p, 1500, i)
			get(t, c, 1500, i)
			c.Publish()
			if off := int(p.pos & p.mask); off > limit {
				t.Fatalf("ring of %d: offset %d with one packet under way", size, off)
			}
		}
	}
}

func TestFastWayTakesOnlyWholePacketsThatFit(t *testing.T) {
	p, c, _ := link(t, MinSize)
	b := make([]byte, 100)
	fast := func(what string, n, want int) {
		t.Helper()
		if m, _ := c.GetFast(b[:n]); m != want {
			t.Errorf("%s: %d bytes, want %d", what, m, want)
		}
	}
	fast("nothing", 100, 0)
	put(t, p, 8, 1)
	fast("the first packet of all", 100, 0)
	get(t, c, 8, 1)
	fast("nothing again", 100, 0)
	put(t, p, 50, 1)
	put(t, p, 100, 2)
	fast("too short", 49, 0)
	fast("no room at all", 0, 0)
	fast("just long enough", 50, 50)
	c.Next()
	c.Take(1)
	fast("begun", 100, 0)
	c.Take(99)
	if c.Packets != 3 || c.Bytes != 158 || c.pos != recordSize(8)+recordSize(50)+recordSize(100) {
		t.Errorf("counted %d packets, %d bytes, to %d", c.Packets, c.Bytes, c.pos)
	}
	// And that is nearly always.
	slow := 0
	for range 10000 {
		if p.PutFast(b) {
			p.Publish()
		} else {
			slow++
			put(t, p, len(b), 3)
		}
		if n, _ := c.GetFast(b); n == 0 {
			slow++
			get(t, c, len(b), 3)
		}
	}
	if slow > 500 {
		t.Errorf("%d of 10000 packets took another way", slow)
	}
}

func TestConsumerWakesTheProducerAtHalf(t *testing.T) {
	t.Run("Take", func(t *testing.T) {
		wakesAtHalf(t, func(c *Consumer) bool { c.Next(); return c.Take(1000) })
	})
	t.Run("GetFast", func(t *testing.T) {
		b := make([]byte, 1000)
		wakesAtHalf(t, func(c *Consumer) bool {
			n, wake := c.GetFast(b)
			if n == 0 { // the first
				c.Next()
				return c.Take(1000)
			}
			return wake
		})
	})
}

func wakesAtHalf(t *testing.T, take func(c *Consumer) bool) {
	p, c, _ := link(t, MinSize)
	n := 0
	for ; ; n++ {
		if ok, _ := p.Put(testkit.Packet(1000, n)); !ok {
			break
		}
		p.Publish()
	}
	p.Sleep()
	if ok, _ := p.Room(1000, true); ok {
		t.Fatal("room in a full ring")
	}
	for i := range n {
		wake := take(c)
		used := p.pos - c.pos
		if want := used <= MinSize/2; wake != want {
			t.Fatalf("packet %d, %d bytes used: wake %v", i, used, wake)
		}
		if wake {
			break
		}
	}
	if ok, err := p.Room(core.MaxPacket, true); !ok || err != nil {
		t.Errorf("Room at half: %v, %v", ok, err)
	}
	if c.Publish() {
		t.Error("woken twice")
	}
}

func TestProducerWakesTheConsumerOnce(t *testing.T) {
	p, c, _ := link(t, MinSize)
	p.Put([]byte("a"))
	if p.Publish(); p.Asleep() || p.Wake() {
		t.Error("woken without Sleep")
	}
	c.Sleep()
	if !p.Asleep() || !p.Wake() || p.Asleep() || p.Wake() {
		t.Error("not woken exactly once")
	}
	c.Sleep()
	c.Awake()
	if p.Asleep() || p.Wake() {
		t.Error("woken after Awake")
	}
	c.Sleep()
	if p.End(); !p.Wake() || !c.Ended() {
		t.Error("End does not wake or is not seen")
	}
	p.Sleep()
	if !c.Leave() || !p.Gone() {
		t.Error("Leave does not wake or is not seen")
	}
}

// What the consumer has read must not stay unknown to the producer for long,
// and not at all once the ring is empty or the producer sleeps.
func TestReadPositionIsPublishedInTime(t *testing.T) {
	p, c, _ := link(t, MinSize)
	for i := range 100 {
		put(t, p, 1000, i)
	}
	behind := func() uint64 { return c.pos - c.w.rpos.Load() }
	for i := range 50 {
		get(t, c, 1000, i)
		if behind() >= MinSize/8 {
			t.Fatalf("%d bytes unpublished", behind())
		}
	}
	if behind() == 0 {
		t.Fatal("published each packet: the line bounces")
	}
	p.Sleep()
	get(t, c, 1000, 50)
	if behind() != 0 {
		t.Errorf("%d bytes unpublished while the producer sleeps", behind())
	}
}

// A consumer that stood still is told of once for each 512 KiB written.
func TestConsumerThatStandsStillIsToldOf(t *testing.T) {
	p, c, _ := link(t, 4<<20)
	const n = 8192 - header
	told := func(packets int) (times int) {
		for i := range packets {
			put(t, p, n, i)
			if p.Stalled() {
				times++
			}
		}
		return times
	}
	if n := told(stallAfter / 8192); n != 0 {
		t.Errorf("told %d times before 512 KiB were written", n)
	}
	if n := told(3 * stallAfter / 8192); n != 3 {
		t.Errorf("told %d times in three times 512 KiB, want 3", n)
	}
	get(t, c, n, 0)
	c.Publish()
	if n := told(stallAfter / 8192); n != 0 {
		t.Error("told though it moved")
	}
	if n := told(stallAfter / 8192); n != 1 {
		t.Error("not told when it stood still again")
	}
}

func TestDirectionsAreApart(t *testing.T) {
	mem := make([]byte, Bytes(MinSize))
	for dir := range 2 {
		p, _ := NewProducer(mem, MinSize, dir)
		c, _ := NewConsumer(mem, MinSize, dir)
		p.SetProcess(uint64(dir) + 7)
		put(t, &p, core.MaxPacket, dir)
		other, _ := NewConsumer(mem, MinSize, 1-dir)
		if dir == 0 {
			if n, _ := other.Next(); n != 0 || other.Process() != 0 {
				t.Errorf("direction 1 sees direction 0")
			}
		}
		get(t, &c, core.MaxPacket, dir)
		if c.Process() != uint64(dir)+7 {
			t.Errorf("Process: %d", c.Process())
		}
	}
}

// The first packet shows in the header page, those after it in the ring.
func TestWatchedWordTellsOfAPacket(t *testing.T) {
	p, c, _ := link(t, MinSize)
	for i := range 3 {
		word, old := c.Watch()
		if first := word == c.w.wpos; first != (i == 0) {
			t.Errorf("packet %d: it watches the header page: %v", i, first)
		}
		if word.Load() != old || !c.Empty() {
			t.Error("nothing is something")
		}
		put(t, p, 8, i)
		if word.Load() == old || c.Empty() {
			t.Errorf("packet %d does not show", i)
		}
		if p.Published() != p.Pos() {
			t.Errorf("packet %d: published %d of %d bytes", i, p.Published(), p.Pos())
		}
		get(t, c, 8, i)
	}
}

// If a consumer goes to sleep while a producer publishes a packet, one of them at
// least sees the other.
func TestSleeperOrPacketIsSeen(t *testing.T) {
	for _, way := range []string{"Publish", "PublishUnlock"} {
		t.Run(way, func(t *testing.T) {
			p, c, _ := link(t, MinSize)
			var empty, woke bool
			var mu lock.Lock
			b := make([]byte, 8)
			lost := 0
			rounds := testkit.Lockstep(func() {
				c.Sleep()
				empty = c.Empty()
			}, func() {
				if !p.PutFast(b) {
					p.Put(b)
				}
				woke = false
				if way == "Publish" {
					p.Publish()
					woke = p.Wake()
				} else if mu.Lock(); !p.PublishUnlock(&mu) {
					woke = p.Wake()
					mu.Unlock()
				}
			}, func() {
				if empty && !woke {
					lost++
				}
				c.Awake()
				if n, err := c.Next(); n != 8 || err != nil {
					t.Fatal(n, err)
				}
				c.Take(8)
			})
			if lost > 0 {
				t.Errorf("%d of %d wake-ups lost", lost, rounds)
			}
		})
	}
}
