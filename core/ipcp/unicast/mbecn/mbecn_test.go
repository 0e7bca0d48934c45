package mbecn

import (
	"testing"
	"time"
)

func TestMark(t *testing.T) {
	for _, c := range []struct {
		ecn    uint8
		unread int
		want   uint8
	}{{0, 0, 0}, {0, burst, 0}, {0, burst + 16*1500 - 1, 0}, {0, burst + 16*1500, 1}, {2, burst + 16*1500, 3}, {0, 1 << 30, 255}, {4, 0, 4}} {
		if got := Mark(c.ecn, c.unread, 1500); got != c.want {
			t.Errorf("Mark(%d, %d) = %d, want %d", c.ecn, c.unread, got, c.want)
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

// Two flows through one bottleneck, which marks what waits: they come to use it
// whole and in equal parts, and not much waits.
func TestTwoFlowsShare(t *testing.T) {
	const (
		rate = 10_000_000 // bytes a second
		size = 1000
		step = 50_000 // ns
	)
	var s [2]Sender
	var r [2]Receiver
	type packet struct{ flow, ecn int }
	var queue []packet
	var got [2]int
	peak := 0
	budget := 0
	for now := int64(0); now < int64(20*time.Second); now += step {
		first := int(now/step) % 2
		for i := range 2 {
			i = (i + first) % 2
			if i == 1 && now < int64(2*time.Second) {
				continue // it comes later
			}
			for range 4 {
				if s[i].Allow(now) > 0 || len(queue) > 20_000 {
					break
				}
				s[i].Sent(size)
				queue = append(queue, packet{i, int(Mark(0, len(queue)*size, 1500))})
			}
		}
		budget += rate * step / 1_000_000_000
		for ; budget >= size && len(queue) > 0; budget -= size {
			p := queue[0]
			queue = queue[1:]
			if now > int64(10*time.Second) {
				got[p.flow] += size
				peak = max(peak, len(queue))
			}
			if ece, tell := r[p.flow].Packet(uint8(p.ecn)); tell {
				s[p.flow].Update(ece)
			}
		}
		if len(queue) == 0 {
			budget = min(budget, size)
		}
	}
	total := got[0] + got[1]
	if total < rate*10*7/10 {
		t.Errorf("both carry %d bytes in 10 s, want at least 70 %% of %d", total, rate*10)
	}
	if got[0] > 2*got[1] || got[1] > 2*got[0] {
		t.Errorf("their parts are %d and %d", got[0], got[1])
	}
	if peak > 5000 {
		t.Errorf("%d packets wait", peak)
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
