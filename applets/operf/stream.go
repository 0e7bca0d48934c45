package operf

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"o7s/applets/internal/measure"
	"o7s/core"
)

const maxSize = core.MaxPacket

// counter has the receiving loop's figures for the goroutines that print. The
// loop alone stores them: after each batch or, in a flood, after some batches.
type counter struct {
	packets, bytes, lost, late atomic.Uint64
	_                          [64]byte // a cache line apart from what others write
}

// stream is one end of one flow of a test.
type stream struct {
	measure.Sender
	flow measure.Flow
	plan *plan
	fd   int

	got   counter
	other atomic.Uint64 // packets that came and are no data

	// of the receiving goroutine, and of others when it has ended
	seq     measure.Sequence
	bytes   uint64
	first   time.Time // when the first data packet came; zero: none
	last    time.Time // when the end was seen
	strange uint64    // packets that are none of operf's
	cpu     measure.CPU

	mine, theirs *figures // of the two ends; nil: not known
	echoed       *figures // what came back, at the client of a test of type bi
}

func newStream(f measure.Flow, p *plan) *stream {
	s := &stream{flow: f, plan: p, fd: f.FD()}
	s.Sender.Flow, s.Size, s.Rate, s.Duration = f, p.Size, p.Rate, p.Duration
	if p.Sleep {
		s.Mode = measure.Spaced
	}
	return s
}

// stride returns how many batches pass between two stores in a counter.
func (s *stream) stride() int {
	if s.plan.Rate == 0 && !s.plan.base {
		return measure.FloodStride
	}
	return 1
}

// receive reads packets until onControl returns true for one, or the flow ends
// or times out, which the error says. Data is counted, and sent back if echo is
// set.
func (s *stream) receive(echo bool, onControl func(p []byte) bool) error {
	reader, stride := measure.NewReader(s.flow), s.stride()
	var back [][]byte
	for left := stride; ; {
		packets, err := reader.Read()
		if err != nil {
			return err
		}
		back = back[:0]
		over := false
		for _, p := range packets {
			switch {
			case len(p) < 4:
				s.strange++
				s.other.Add(1)
			case measure.IsControl(p):
				s.other.Add(1)
				over = onControl(p) || over // data that it has overtaken still counts
			default:
				s.take(p)
				if echo {
					back = append(back, p)
				}
			}
		}
		if left--; left == 0 || over { // no remainder: a division takes as long as all else here
			left = stride
			s.publish()
		}
		if len(back) > 0 {
			if _, err := s.flow.WriteBatch(back); err != nil {
				return err
			}
		}
		if over {
			return nil
		}
	}
}

// take counts a data packet, of 4 bytes or more.
func (s *stream) take(p []byte) {
	low := binary.LittleEndian.Uint32(p)
	if s.seq.InTurn(low) {
		s.bytes += uint64(len(p))
		return
	}
	s.takeOther(p, low)
}

// takeOther is take for the first packet and for one that comes out of turn.
func (s *stream) takeOther(p []byte, low uint32) {
	if s.first.IsZero() {
		s.first = time.Now()
	}
	n, ok := s.seq.Extend(low)
	if !ok {
		s.strange++
		return
	}
	if _, ok := s.seq.Take(n); ok {
		s.bytes += uint64(len(p))
	}
}

func (s *stream) publish() {
	s.got.packets.Store(s.seq.Received)
	s.got.bytes.Store(s.bytes)
	if lost := s.seq.Lost(); lost != 0 || s.seq.Late != 0 {
		s.got.lost.Store(lost)
		s.got.late.Store(s.seq.Late)
	}
}

// received returns the figures of the receiver; sent is how many packets its
// peer has sent, as far as is known.
func (s *stream) received(sent uint64) *figures {
	f := &figures{
		Packets: s.seq.Received, Bytes: s.bytes, CPU: s.cpu.Percent(),
		Lost: max(sent, s.seq.Next()) - s.seq.Received, Late: s.seq.Late, Repeated: s.seq.Again,
	}
	if !s.first.IsZero() {
		f.Seconds = s.last.Sub(s.first).Seconds()
	}
	return f
}

// progress grows as packets come.
func (s *stream) progress() uint64 { return s.got.packets.Load() + s.other.Load() }

// idle returns how long a receiver waits for the next packet. In the base form
// silence alone says that a test is over.
func (s *stream) idle() time.Duration {
	switch {
	case s.plan.base:
		return silence
	case s.plan.Rate == 0:
		return patience
	}
	return patience + 2*measure.NewPace(s.plan.Rate, s.plan.Size, s.plan.Duration).Gap()
}

// ended is measure.Ended for a flow that was to last longer.
func ended(name string, err error) error {
	told := measure.Ended(name, err)
	if measure.Closed(err) {
		return fmt.Errorf("%w before the test was over", told)
	}
	return told
}
