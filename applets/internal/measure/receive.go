package measure

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"o7s/core"
)

// Reader reads packets in batches where they are short, else one by one. It is
// for one goroutine.
type Reader struct {
	f       Flow
	bufs    [][]byte
	sizes   []int
	packets [][]byte
	long    []byte // one that stays in the cache, once a long packet has come
}

// NewReader returns a Reader of f.
func NewReader(f Flow) *Reader {
	r := &Reader{f: f, bufs: make([][]byte, batch), sizes: make([]int, batch), packets: make([][]byte, batch)}
	room := make([]byte, batch*batchSize)
	for i := range r.bufs {
		r.bufs[i] = room[i*batchSize : (i+1)*batchSize]
	}
	return r
}

// Read waits for a packet and returns it with those that are there already.
// They are valid until the next call.
func (r *Reader) Read() ([][]byte, error) {
	if r.long != nil {
		return r.readOne()
	}
	n, err := r.f.ReadBatch(r.bufs, r.sizes)
	if errors.Is(err, io.ErrShortBuffer) {
		r.long = make([]byte, core.MaxPacket)
		return r.readOne()
	}
	if err != nil {
		return nil, err
	}
	for i := range n {
		r.packets[i] = r.bufs[i][:r.sizes[i]]
	}
	return r.packets[:n], nil
}

// readOne is Read for packets that batches do not pay for.
func (r *Reader) readOne() ([][]byte, error) {
	n, err := r.f.ReadPacket(r.long)
	if err != nil {
		return nil, err
	}
	r.packets[0] = r.long[:n]
	return r.packets[:1], nil
}

// Silence ends the reading of a flow when nothing has come for a time. It looks
// often, but not at each packet, and sets no deadline while packets come.
type Silence struct {
	cancel func()
	done   chan struct{}
	fell   atomic.Bool
	last   time.Time // when the last packet was seen; of the goroutine until done
}

const silenceTick = 20 * time.Millisecond

// WatchSilence watches progress, a number that grows as packets come, and sets
// f's read deadline to LongAgo when it has not grown for idle; before the first
// packet, for first. The caller calls Stop.
func WatchSilence(f Flow, progress func() uint64, first, idle time.Duration) *Silence {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Silence{cancel: cancel, done: make(chan struct{}), last: time.Now()}
	go func() {
		defer close(s.done)
		tick := time.NewTicker(silenceTick)
		defer tick.Stop()
		seen := progress()
		for wait := first; ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now := progress(); now != seen {
				s.last, seen, wait = time.Now(), now, idle
			} else if time.Since(s.last) >= wait {
				s.fell.Store(true)
				_ = f.SetReadDeadline(LongAgo) // an error: it has ended
				return
			}
		}
	}()
	return s
}

// Stop ends the watching. fell says that it has ended the reading, and last
// when the last packet was seen, to 20 ms.
func (s *Silence) Stop() (last time.Time, fell bool) {
	s.cancel()
	<-s.done
	return s.last, s.fell.Load()
}
