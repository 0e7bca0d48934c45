package operf

import (
	"context"
	"strconv"
	"time"

	"o7s/applets/internal/measure"
)

// meter tells what passes in each interval while a test runs.
type meter struct {
	out     *output
	streams []*stream
	sends   bool          // what the streams send counts; else what they get
	every   time.Duration // 0: tell no intervals

	start     time.Time
	seen      []rates // of each stream, so far
	intervals []interval

	cancel func()
	done   chan struct{}
}

// startMeter starts one; the caller calls stop.
func startMeter(out *output, streams []*stream, sends bool, every time.Duration) *meter {
	ctx, cancel := context.WithCancel(context.Background())
	m := &meter{
		out: out, streams: streams, sends: sends, every: every,
		start: time.Now(), seen: make([]rates, len(streams)), cancel: cancel, done: make(chan struct{}),
	}
	if every > 0 {
		out.people("%s", columns)
	}
	go m.run(ctx)
	return m
}

func (m *meter) run(ctx context.Context) {
	defer close(m.done)
	every := m.every
	if every == 0 {
		if m.out.status == nil {
			return
		}
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.tell()
		case <-ctx.Done():
			return
		}
	}
}

// stop tells what came after the last interval and returns all intervals. A
// rest that is shorter than a twentieth of an interval is not worth a line.
func (m *meter) stop() []interval {
	m.cancel()
	<-m.done
	if rest := time.Since(m.start).Seconds() - m.seen[0].End; m.every > 0 && rest > m.every.Seconds()/20 {
		m.tell()
	}
	m.out.status.Close()
	return m.intervals
}

// tell tells one interval.
func (m *meter) tell() {
	now := time.Since(m.start)
	iv := interval{Sum: rates{Stream: "sum", Start: m.seen[0].End, End: now.Seconds()}}
	for i, s := range m.streams {
		r := m.look(s)
		r.End = now.Seconds()
		was := m.seen[i]
		m.seen[i] = r
		r.Stream, r.Start = strconv.Itoa(s.fd), was.End
		r.Packets -= was.Packets
		r.Bytes -= was.Bytes
		r.Lost -= was.Lost
		r.Late -= was.Late
		r.divide()
		iv.Streams = append(iv.Streams, r)
		iv.Sum.Packets += r.Packets
		iv.Sum.Bytes += r.Bytes
		iv.Sum.Lost += r.Lost
		iv.Sum.Late += r.Late
	}
	iv.Sum.divide()
	if m.every > 0 {
		text := ""
		for _, r := range iv.Streams {
			text += r.line(!m.sends, "")
		}
		if len(iv.Streams) > 1 {
			text += iv.Sum.line(!m.sends, "")
		}
		m.out.people("%s", text)
		m.out.event("interval", iv)
		if m.out.json {
			m.intervals = append(m.intervals, iv)
		}
	}
	m.out.status.Show(measure.Progress(measure.SI(iv.Sum.BPS, "b/s"), now, m.streams[0].plan.Duration))
}

// look returns what has passed s so far.
func (m *meter) look(s *stream) rates {
	if m.sends {
		n := s.Sent.Load()
		return rates{Packets: n, Bytes: n * uint64(s.plan.Size)}
	}
	return rates{
		Packets: s.got.packets.Load(), Bytes: s.got.bytes.Load(),
		Lost: int64(s.got.lost.Load()), Late: s.got.late.Load(),
	}
}
