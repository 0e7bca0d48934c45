package mbecn

import (
	"fmt"
	"testing"
	"time"
)

func TestMark(t *testing.T) {
	for _, c := range []struct {
		ecn    uint8
		excess int
		want   uint8
	}{{0, 0, 0}, {0, 16*1500 - 1, 0}, {0, 16 * 1500, 1}, {2, 16 * 1500, 3}, {0, 1 << 30, 255}, {4, 0, 4}} {
		if got := Mark(c.ecn, c.excess, 1500); got != c.want {
			t.Errorf("Mark(%d, %d) = %d, want %d", c.ecn, c.excess, got, c.want)
		}
	}
}

func TestReceiver(t *testing.T) {
	var r Receiver
	if _, tell := r.Packet(0); tell || !r.Quiet() {
		t.Error("a packet without a mark is told")
	}
	if ece, tell := r.Packet(8); !tell || ece != 8 || r.Quiet() {
		t.Errorf("the first mark: %d, %v", ece, tell)
	}
	told := 0
	for range 80 {
		if ece, tell := r.Packet(8); tell {
			told++
			if ece <= 8 {
				t.Errorf("the level is %d", ece)
			}
		}
	}
	if told != 10 {
		t.Errorf("80 marks are told %d times, want 10", told)
	}
	for i := 0; ; i++ {
		ece, tell := r.Packet(0)
		if tell != (ece == 0) {
			t.Errorf("level %d is told: %v", ece, tell)
		}
		if tell {
			break
		}
		if i == 20 {
			t.Fatal("the end is never told")
		}
	}
	if _, tell := r.Packet(0); tell {
		t.Error("the end is told twice")
	}
	for range 100_000 {
		r.Packet(255)
	}
	if r.level > 1<<16-1 {
		t.Errorf("the level is %d", r.level)
	}
}

func TestExcess(t *testing.T) {
	const ms = int64(time.Millisecond)
	var q Queue
	for _, c := range []struct {
		at        int64 // ms
		wait, put int   // KiB
		want      int   // KiB
	}{
		{17, 900, 0, 0},       // for how long is not known
		{32, 900, 0, 0},       // the same period
		{34, 800, 0, 750},     // a second one, and 100 have left in the first one
		{36, 700, 0, 650},     // less
		{37, 5000, 4300, 650}, // a burst
		{51, 5000, 0, 650},    // the period before had less
		{60, 6000, 1000, 650},
		{68, 6000, 0, 4992},     // it stays, and nothing has left
		{69, 0, 0, 0},           // and has gone
		{84, 6000, 6000, 0},     // 6000 have left
		{101, 6000, 4000, 4000}, // 4000 have left
		{110, 6000, 4000, 4000},
		{118, 6000, 12000, 0}, // 16,000 have left: 6000 are nothing
		{200, 6000, 0, 0},     // nothing was seen for long
	} {
		if got := q.Excess(c.at*ms, c.wait<<10, c.put<<10); got != c.want<<10 {
			t.Errorf("%d ms: of %d KiB %d B wait too long, want %d KiB", c.at, c.wait, got, c.want)
		}
	}
	// Where packets are lost, what waits is not little.
	q = Queue{}
	for at := range int64(20) {
		got := q.Excess((100+at*8)*ms, 100<<10, 1000<<10)
		if lost := at >= 10 && at < 13; (got > 0) != lost {
			t.Errorf("%d ms: %d B wait too long", 100+at*8, got)
		}
		if at == 9 {
			q.Lost()
		}
	}
}

// Two flows through one narrow link: they come to use it whole and in equal parts,
// and little is lost.
func TestTwoFlowsShare(t *testing.T) {
	for _, c := range []struct {
		rate, room int // bytes a second, bytes
		loss       int // % at most
		use        int // % at least
	}{
		{1_000_000, 1 << 18, 20, 90}, // what waits takes 260 ms: the senders learn late
		{1_000_000, 1 << 20, 1, 80}, {1_000_000, 1 << 22, 1, 80},
		{10_000_000, 1 << 18, 5, 90}, {10_000_000, 1 << 20, 1, 85}, {10_000_000, 1 << 22, 1, 85},
		{100_000_000, 1 << 18, 3, 90}, {100_000_000, 1 << 20, 3, 90}, {100_000_000, 1 << 22, 1, 80},
	} {
		t.Run(fmt.Sprintf("%d bytes a second, room for %d", c.rate, c.room), func(t *testing.T) { twoFlowsShare(t, c.rate, c.room, c.loss, c.use) })
	}
}

func twoFlowsShare(t *testing.T, rate, room, loss, use int) {
	const (
		size  = 1000
		step  = 50_000           // ns
		delay = 5_000_000 / step // of an Update, in steps
		begin = 10               // s: it is quiet then
		end   = int64(time.Second) * 20
	)
	type packet struct{ flow, ecn int }
	type update struct {
		at, flow int
		ece      uint16
	}
	var (
		s              [2]Sender
		r              [2]Receiver
		q              Queue
		queue          []packet
		updates        []update
		got            [2]int
		sent, lost     int
		budget, waited int
		put            int
	)
	for now := int64(0); now < end; now += step {
		n := int(now / step)
		for len(updates) > 0 && updates[0].at <= n {
			s[updates[0].flow].Update(updates[0].ece)
			updates = updates[1:]
		}
		later := now > begin*int64(time.Second)
		for k := range 2 {
			i := (k + n/3) % 2
			if i == 1 && now < int64(2*time.Second) {
				continue // it comes later
			}
			mark := int(Mark(0, q.Excess(now, len(queue)*size, put), 1500))
			put = 0
			for range 20 { // at most 400 MB/s
				if s[i].Allow(now) > 0 {
					break
				}
				s[i].Sent(size)
				if later {
					sent++
				}
				if (len(queue)+1)*size > room {
					q.Lost()
					if later {
						lost++
					}
					continue
				}
				queue = append(queue, packet{i, mark})
				put += size
			}
		}
		for budget += rate * step / int(time.Second); budget >= size && len(queue) > 0; budget -= size {
			p := queue[0]
			queue = queue[1:]
			if later {
				got[p.flow] += size
				waited = max(waited, len(queue)*size)
			}
			if ece, tell := r[p.flow].Packet(uint8(p.ecn)); tell {
				updates = append(updates, update{n + delay, p.flow, ece})
			}
		}
		if len(queue) == 0 {
			budget = min(budget, size)
		}
	}
	total := got[0] + got[1]
	t.Logf("%.0f %% used, parts %.2f, lost %.2f %%, at most %d bytes wait", float64(total)/float64(rate)*10, float64(got[0])/float64(total), 100*float64(lost)/float64(sent), waited)
	if total < rate/10*use {
		t.Errorf("both carry %d bytes in 10 s, want at least %d %% of %d", total, use, rate*10)
	}
	if got[0] > 2*got[1] || got[1] > 2*got[0] {
		t.Errorf("their parts are %d and %d", got[0], got[1])
	}
	if lost*100 > sent*loss {
		t.Errorf("%d of %d packets are lost", lost, sent)
	}
	for i := range s {
		if s[i].Window() == 0 {
			t.Errorf("flow %d has no window", i)
		}
	}
}

// A flow that nobody tells anything is never held up.
func TestWithoutMarks(t *testing.T) {
	var s Sender
	for now := int64(0); now < int64(time.Second); now += 1000 {
		if s.Allow(now) != 0 {
			t.Fatal("it waits")
		}
		s.Sent(1 << 16)
	}
}

// A flow that was told to wait may go on at the latest in a second, whatever it was
// told.
func TestNeverForLong(t *testing.T) {
	for _, ece := range []uint16{1, 1 << 12, 1<<16 - 1} {
		var s Sender
		now := int64(1)
		passed := 0
		for range 1000 {
			s.Update(ece)
			wait := s.Allow(now)
			if wait < 0 || wait > time.Second {
				t.Fatalf("it waits %v", wait)
			}
			if wait == 0 {
				s.Sent(1500)
				passed++
				continue
			}
			now += int64(wait)
		}
		if passed < 300 {
			t.Errorf("told %d, it sent %d packets", ece, passed)
		}
	}
}
