package sim

import (
	"time"

	"o7s/core/ipcp/unicast/mbecn"
)

// The wires of a layer whose flows share them.
const (
	wireRate   = 10_000_000 // bytes a second
	packetSize = 1000
	best       = 1500
)

// queue is what waits at one end of a wire.
type queue struct {
	bytes int
	free  time.Time // when the wire has sent all of it
}

// stream is a flow whose process writes as much as it may.
type stream struct {
	from, to *member
	sender   mbecn.Sender
	receiver mbecn.Receiver
	told     bool
	got      int // bytes that came since the last look
}

// Share has flows from members to one member share the wires for d, and looks at the
// second half: each flow may always send, those that came last no less than half of
// what those that came first carry, and all together use most of the wire. All members
// from reach the member to by the same last wire, which is the bottleneck.
func (l *Layer) Share(from []*member, to *member, d time.Duration) []string {
	queues := make(map[[2]*member]*queue)
	var all []*stream
	for i, m := range from {
		s := &stream{from: m, to: to}
		all = append(all, s)
		l.clock.Call(time.Duration(i)*200*time.Millisecond, func() { l.write(s, queues) })
	}
	l.Run(d / 2)
	for _, s := range all {
		s.got = 0
	}
	l.Run(d / 2)
	least, most, sum := all[0].got, all[0].got, 0
	for i, s := range all {
		least, most, sum = min(least, s.got), max(most, s.got), sum+s.got
		if s.told && s.sender.Window() == 0 {
			l.fail("flow %d of %d may send nothing", i, len(all))
		}
		s.from = nil // it ends
	}
	if most > 2*least {
		l.fail("of %d flows one carries %d bytes, and another %d", len(all), least, most)
	}
	if whole := int(d/2/time.Second) * wireRate; sum < whole*6/10 {
		l.fail("%d flows carry %d bytes where %d are possible", len(all), sum, whole)
	}
	return l.takeWrong()
}

// write sends the next packet of s, and goes on.
func (l *Layer) write(s *stream, queues map[[2]*member]*queue) {
	if s.from == nil {
		return
	}
	// The process writes at most at twice the rate of a wire.
	wait := time.Second * packetSize / (2 * wireRate)
	if w := s.sender.Allow(l.clock.Now().UnixNano()); w > 0 {
		wait = w
	} else {
		s.sender.Sent(packetSize)
		l.pass(s, s.from, 0, queues)
	}
	l.clock.Call(wait, func() { l.write(s, queues) })
}

// pass has a packet of s leave the member at.
func (l *Layer) pass(s *stream, at *member, ecn uint8, queues map[[2]*member]*queue) {
	if at == s.to {
		s.got += packetSize
		ece, tell := s.receiver.Packet(ecn)
		if tell {
			l.clock.Call(10*time.Millisecond, func() {
				s.told = true
				s.sender.Update(ece)
			})
		}
		return
	}
	hops := at.table[s.to.addr]
	if len(hops) == 0 {
		l.Lost++
		return
	}
	next := l.byAddr[hops[0]]
	q := queues[[2]*member{at, next}]
	if q == nil {
		q = &queue{}
		queues[[2]*member{at, next}] = q
	}
	if q.bytes > 1<<20 {
		l.Lost++
		return
	}
	ecn = mbecn.Mark(ecn, q.bytes, best)
	if l.cfg.Fault == "some marks are lost" && s.from != nil && s.from.n%2 == 1 {
		ecn = 0
	}
	q.bytes += packetSize
	now := l.clock.Now()
	if q.free.Before(now) {
		q.free = now
	}
	q.free = q.free.Add(time.Second * packetSize / wireRate)
	l.clock.Call(q.free.Sub(now), func() {
		q.bytes -= packetSize
		l.clock.Call(2*time.Millisecond, func() { l.pass(s, next, ecn, queues) })
	})
}
