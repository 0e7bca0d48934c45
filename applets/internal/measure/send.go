package measure

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Mode is how a Sender keeps its pace.
type Mode int

// The modes.
const (
	Paced  Mode = iota // send what is due, sleep until more is: exact over a second
	Spaced             // sleep before each packet, never send two at once to catch up
	Spin               // look at the clock all the time: each packet at its time
)

// Sender sends numbered packets: a sequence number from 0, little-endian, and
// zeros. All fields but Sent are set before Send.
type Sender struct {
	Flow     Flow
	Size     int           // bytes of a packet, 8 or more
	Wide     bool          // numbers have 64 bits, else 32
	Rate     float64       // bit/s; 0: as fast as can be
	Mode     Mode          // where Rate is above 0
	Duration time.Duration // above 0

	stop atomic.Bool
	_    [64]byte // keeps what the loop changes in another cache line
	Sent atomic.Uint64
	_    [64]byte
}

// Short packets pass in batches, because a call costs more than the copy of one.
// Longer ones pass one by one, in a buffer that stays in the cache.
const (
	batch      = 64
	batchSize  = 512      // bytes, of a packet
	batchBytes = 16 << 10 // one core's first cache holds it

	// FloodStride is how many batches a flood sends between two stores in the
	// counter that other goroutines read.
	FloodStride = 16
)

// Halt makes Send end: at once where it sends, in a second where it waits for
// a peer that does not read. It sets the flow's write deadline.
func (s *Sender) Halt() {
	if !s.stop.Swap(true) {
		_ = s.Flow.SetWriteDeadline(time.Now().Add(time.Second)) // an error: the flow has ended
	}
}

// Send sends from start on, for s.Duration, until a Halt, or an error of the
// flow. It may be called once.
func (s *Sender) Send(start time.Time) error {
	many := 1
	if s.Size <= batchSize {
		many = min(batch, batchBytes/s.Size)
	}
	packets := make([][]byte, many)
	room := make([]byte, many*s.Size)
	for i := range packets {
		packets[i] = room[i*s.Size : (i+1)*s.Size]
	}
	if s.Rate == 0 {
		end := time.AfterFunc(time.Until(start.Add(s.Duration)), s.Halt)
		defer end.Stop()
		return s.flood(packets)
	}
	pace := NewPace(s.Rate, s.Size, s.Duration)
	if s.Mode == Spaced {
		return s.spaced(packets[:1], pace, start)
	}
	return s.paced(packets, pace, start)
}

// write sends packets, numbered from n, and returns the number that follows.
func (s *Sender) write(packets [][]byte, n uint64) (uint64, error) {
	for i, p := range packets {
		if s.Wide {
			binary.LittleEndian.PutUint64(p, n+uint64(i))
		} else {
			binary.LittleEndian.PutUint32(p, uint32(n)+uint32(i))
		}
	}
	if len(packets) == 1 { // WritePacket costs less for one
		if err := s.Flow.WritePacket(packets[0]); err != nil {
			return n, err
		}
		return n + 1, nil
	}
	k, err := s.Flow.WriteBatch(packets)
	return n + uint64(k), err
}

// flood sends as fast as can be. It looks at no clock.
func (s *Sender) flood(packets [][]byte) (err error) {
	n := uint64(0)
	for k := 1; err == nil && !s.stop.Load(); k++ {
		n, err = s.write(packets, n)
		if k%FloodStride == 0 {
			s.Sent.Store(n)
		}
	}
	s.Sent.Store(n)
	return err
}

// paced sends what is due, and sleeps until more is: for a millisecond or so
// where packets come closer than that. With Spin it does not sleep.
func (s *Sender) paced(packets [][]byte, pace *Pace, start time.Time) (err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := uint64(0); !s.stop.Load(); {
		t := time.Since(start)
		for due := pace.Due(t); due > 0 && !s.stop.Load(); {
			k := min(due, uint64(len(packets)))
			n, err = s.write(packets[:k], n)
			s.Sent.Store(n)
			if err != nil {
				return err
			}
			due -= k
		}
		if t >= s.Duration {
			return nil
		}
		if s.Mode == Spin {
			continue
		}
		// The loop checks for a halt here. A channel would cost more, to end it
		// a little earlier.
		timer.Reset(min(max(pace.Next()-time.Since(start), 0), maxNap))
		<-timer.C
	}
	return nil
}

// spaced sends packet by packet, with a sleep before each but the first. Where
// it is late the sleeps are half as long until it is not.
func (s *Sender) spaced(packet [][]byte, pace *Pace, start time.Time) (err error) {
	due := time.Duration(0)
	for n := uint64(0); !s.stop.Load() && due < s.Duration; {
		n, err = s.write(packet, n)
		s.Sent.Store(n)
		if err != nil {
			return err
		}
		now := time.Since(start)
		if due += pace.Gap(); now-due > maxLag {
			due = now
		}
		for until := min(max(due, now+pace.Gap()/2), s.Duration); now < until && !s.stop.Load(); now = time.Since(start) {
			Nap(until - now)
		}
		if now >= s.Duration {
			break
		}
	}
	return nil
}
