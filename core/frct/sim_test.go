package frct

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// sim runs ends and links under one clock.
type sim struct {
	now    time.Time
	events events
	n      int
	rng    *rand.Rand
}

func newSim(seed uint64) *sim {
	return &sim{now: epoch, rng: rand.New(rand.NewPCG(seed, 3))}
}

type event struct {
	at time.Time
	n  int // orders what happens at one time
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (s *sim) after(d time.Duration, do func()) {
	s.n++
	heap.Push(&s.events, event{s.now.Add(d), s.n, do})
}

func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.events) > 0 && !s.events[0].at.After(end) {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	s.now = end
}

// link is one direction of a path: a queue that drops what does not fit, then a
// delay.
type link struct {
	*sim
	rate   float64 // bytes/s; 0: no limit
	queue  int     // bytes
	delay  time.Duration
	loss   float64
	double float64
	late   float64 // part of the packets that come up to lateBy later
	lateBy time.Duration

	free                  time.Time // when the link has sent what it holds
	passed, dropped, lost int
}

func (l *link) send(n int, arrive func()) {
	at := l.now
	if l.rate > 0 {
		if l.free.Before(l.now) {
			l.free = l.now
		}
		if held := l.free.Sub(l.now).Seconds() * l.rate; held+float64(n) > float64(l.queue) {
			l.dropped++
			return
		}
		l.free = l.free.Add(time.Duration(float64(n) / l.rate * 1e9))
		at = l.free
	}
	if l.rng.Float64() < l.loss {
		l.lost++
		return
	}
	l.passed++
	times := 1
	if l.rng.Float64() < l.double {
		times = 2
	}
	for range times {
		d := at.Sub(l.now) + l.delay
		if l.rng.Float64() < l.late {
			d += time.Duration(l.rng.Float64() * float64(l.lateBy))
		}
		l.after(d, arrive)
	}
}

// host is a process at one end: it sends for as long as it may, and takes what
// comes.
type host struct {
	*sim
	c    *Conn
	out  *link
	peer *host

	more  int // packets to send; -1: without end
	size  int
	read  int // packets taken
	timer time.Time
	err   error
	check func(p []byte)
	next  int
}

// newPair returns two ends whose packets go over there and back.
func newPair(s *sim, cfg Config, there, back *link) (a, b *host) {
	cfg.MPL = testMPL
	cfg.Rand = s.rng.Uint32
	a = &host{sim: s, c: New(s.now, cfg), out: there, size: 1400}
	b = &host{sim: s, c: New(s.now, cfg), out: back, size: 1400}
	a.peer, b.peer = b, a
	return a, b
}

func (h *host) emit(head *[HeadLen]byte, payload []byte) bool {
	p := append(append(make([]byte, 0, HeadLen+len(payload)), head[:]...), payload...)
	h.out.send(len(p)+40, func() {
		h.peer.c.Receive(h.peer.now, p)
		h.peer.work()
	})
	return true
}

// work does what there is to do now, and arranges for what comes later.
func (h *host) work() {
	for {
		p, ok := h.c.Head()
		if !ok {
			break
		}
		h.read++
		if h.check != nil {
			h.check(p)
		}
		h.c.Drop()
	}
	_, h.err = h.c.Tick(h.now, h.emit)
	for h.more != 0 && h.c.Send(h.now, payload(h.next, h.size), h.emit) {
		h.more--
		h.next++
	}
	due, err := h.c.Tick(h.now, h.emit)
	h.err = err
	if due.IsZero() {
		return
	}
	if h.timer.After(h.now) && !due.Before(h.timer) {
		return
	}
	h.timer = due
	h.after(max(due.Sub(h.now), 0), func() {
		if h.timer.Equal(due) {
			h.timer = time.Time{}
		}
		h.work()
	})
}

var zeros [65535]byte

func payload(n, size int) []byte {
	p := zeros[:size]
	p[0], p[1], p[2], p[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return p
}

// reno is TCP as of RFC 5681 with selective acknowledgements: the yardstick for
// what a flow leaves to others.
type reno struct {
	*sim
	there, back    *link
	cwnd, ssthresh float64
	next           int
	out            map[int]time.Time
	low            int // all before it have come or are lost
	high           int // the latest that was acknowledged
	recover        int
	acked          int
}

func newReno(s *sim, there, back *link) *reno {
	return &reno{sim: s, there: there, back: back, cwnd: 10, ssthresh: 1 << 30, out: map[int]time.Time{}, high: -1}
}

func (r *reno) work() {
	for len(r.out) < int(r.cwnd) {
		n := r.next
		r.next++
		r.out[n] = r.now
		r.there.send(1452, func() { r.back.send(52, func() { r.ack(n) }) })
		r.after(time.Second, func() { r.timeout(n) })
	}
}

func (r *reno) ack(n int) {
	if _, ok := r.out[n]; !ok {
		return
	}
	delete(r.out, n)
	r.acked++
	r.high = max(r.high, n)
	if r.cwnd < r.ssthresh {
		r.cwnd++
	} else {
		r.cwnd += 1 / r.cwnd
	}
	for ; r.low <= r.high-3; r.low++ {
		if _, ok := r.out[r.low]; ok {
			r.lost(r.low)
		}
	}
	r.work()
}

func (r *reno) lost(n int) {
	delete(r.out, n)
	if n >= r.recover {
		r.cwnd = max(2, r.cwnd/2)
		r.ssthresh = r.cwnd
		r.recover = r.next
	}
}

func (r *reno) timeout(n int) {
	if _, ok := r.out[n]; ok {
		r.lost(n)
		r.work()
	}
}
