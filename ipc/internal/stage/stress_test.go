package stage_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

var games = flag.Int("games", 30, "games of TestAllAtOnce")

// All calls of both ends at once, on a bad wire: packets come in order, and no
// call waits for ever once an end is closed.
func TestAllAtOnce(t *testing.T) {
	for seed := range *games {
		if !allAtOnce(t, uint64(seed)) {
			t.Fatalf("game %d", seed)
		}
	}
}

func allAtOnce(t *testing.T, seed uint64) bool {
	rng := rand.New(rand.NewPCG(seed, 3))
	qos := []core.QoS{core.QoSData, core.QoSBest, core.QoSRawNoErrors}[rng.IntN(3)]
	w := &wire{ours: rng.IntN(2) == 0, ring: flow.MinRing}
	if rng.IntN(2) == 0 {
		w.loss, w.dup, w.swap = 0.05, 0.05, 0.05
	}
	if !qos.InOrder {
		w.dup, w.swap = 0, 0 // nothing keeps these packets in order
	}
	a, b := w.join(t, qos)
	ends := []*stage.Stage{a, b}
	set, err := flow.NewSet()
	must(t, err)
	defer set.Close()

	var wg sync.WaitGroup
	stop := make(chan struct{})
	loop := func(step func(*rand.Rand) bool) {
		own := rand.New(rand.NewPCG(rng.Uint64(), 4))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !step(own) {
					return
				}
			}
		})
	}
	over := func(err error) bool {
		return errors.Is(err, core.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, core.ErrFlowDown)
	}
	for i, s := range ends {
		// One goroutine writes numbers, another reads them; the others disturb them.
		n, last := uint64(0), uint64(0)
		loop(func(rng *rand.Rand) bool {
			p := make([]byte, 8+rng.IntN(3000))
			n++
			binary.BigEndian.PutUint64(p, n)
			var err error
			switch rng.IntN(4) {
			case 0:
				err = s.TryWritePacket(p)
			case 1:
				var sent int
				sent, err = s.WriteBatch([][]byte{p})
				if sent == 0 && err == nil {
					t.Error("a batch was not sent, and there is no error")
				}
			case 2:
				var b []byte
				if b, err = s.Reserve(len(p)); err == nil {
					copy(b, p)
					err = s.Commit(len(p))
				}
			default:
				err = s.WritePacket(p)
			}
			return !over(err)
		})
		got := func(p []byte) {
			if len(p) < 8 {
				t.Errorf("end %d read %d bytes", i, len(p))
				return
			}
			if k := binary.BigEndian.Uint64(p); k <= last {
				t.Errorf("end %d read packet %d after %d", i, k, last)
			} else {
				last = k
			}
		}
		loop(func(rng *rand.Rand) bool {
			buf := make([]byte, core.MaxPacket)
			n, err := 0, error(nil)
			switch rng.IntN(4) {
			case 0:
				n, err = s.TryReadPacket(buf)
			case 1:
				bufs, sizes := [][]byte{buf[:4000], buf[4000:8000]}, make([]int, 2)
				var k int
				k, err = s.ReadBatch(bufs, sizes)
				for j := range k {
					got(bufs[j][:sizes[j]])
				}
			case 2:
				var p []byte
				if p, err = s.Peek(); err == nil {
					got(p)
					err = s.Release()
				}
			default:
				n, err = s.ReadPacket(buf)
			}
			if n > 0 {
				got(buf[:n])
			}
			return !over(err)
		})
		loop(func(rng *rand.Rand) bool {
			at := time.Now().Add(time.Duration(rng.IntN(3000)-500) * time.Microsecond)
			switch rng.IntN(6) {
			case 0:
				s.SetReadDeadline(at)
			case 1:
				s.SetWriteDeadline(at)
			case 2, 3:
				s.SetDeadline(time.Time{})
			case 4:
				if s.Join(set, i) == nil {
					time.Sleep(time.Duration(rng.IntN(500)) * time.Microsecond)
				}
			case 5:
				s.Stats()
				s.Counters()
			}
			time.Sleep(time.Duration(rng.IntN(500)) * time.Microsecond)
			return true
		})
	}
	loop(func(*rand.Rand) bool {
		set.Next()
		time.Sleep(100 * time.Microsecond)
		return true
	})
	time.Sleep(time.Duration(10+rng.IntN(40)) * time.Millisecond)

	// The end, of one of several kinds, with all calls under way.
	first, second := ends[rng.IntN(2)], ends[0]
	if first == second {
		second = ends[1]
	}
	ended := make(chan struct{})
	kind := rng.IntN(4)
	first.SetLinger(time.Duration(rng.IntN(20)) * time.Millisecond)
	go func() {
		defer close(ended)
		switch kind {
		case 0:
			first.Close()
		case 1:
			first.Discard()
		case 2:
			first.CloseWrite()
			first.Close()
		case 3:
			go second.Discard()
			first.Close()
		}
		second.SetLinger(10 * time.Millisecond)
		second.Close()
		close(stop)
		wg.Wait()
	}()
	select {
	case <-ended:
		return !t.Failed()
	case <-time.After(patience):
		t.Errorf("end of kind %d: a call waits for ever", kind)
		panic("the goroutines follow")
	}
}

// What another system sends may be anything.
func TestBabbler(t *testing.T) {
	for _, qos := range []core.QoS{core.QoSData, core.QoSBest, core.QoSRawNoErrors} {
		for _, ours := range []bool{true, false} {
			kit, err := flow.NewKit(flow.MinRing)
			must(t, err)
			end, err := kit.Open(0)
			must(t, err)
			babbler, err := kit.Open(1)
			must(t, err)
			kit.Close()
			s := stage.New(end, stage.Config{QoS: qos, Ours: ours, Path: path, Ring: flow.MinRing})
			var wg sync.WaitGroup
			wg.Go(func() {
				for p := make([]byte, core.MaxPacket); ; {
					if _, err := s.ReadPacket(p); err != nil {
						return
					}
				}
			})
			wg.Go(func() {
				for s.WritePacket(make([]byte, 100)) == nil {
				}
			})
			rng := rand.New(rand.NewPCG(5, 6))
			var heard [][]byte // of what the stage says, to be sent back changed
			for range 20000 {
				var packets [8][]byte
				n, err := babbler.Look(packets[:])
				must(t, err)
				for _, p := range packets[:n] {
					if len(heard) < 64 {
						heard = append(heard, append([]byte(nil), p...))
					} else {
						copy(heard[rng.IntN(64)], p)
					}
				}
				babbler.Drop(n)
				p := make([]byte, 1+rng.IntN(40))
				if len(heard) > 0 && rng.IntN(2) == 0 {
					p = append([]byte(nil), heard[rng.IntN(len(heard))]...)
				}
				for range 1 + rng.IntN(4) {
					p[rng.IntN(len(p))] = byte(rng.Uint32())
				}
				_, err = babbler.Put(nil, p)
				must(t, err)
				babbler.Show()
			}
			s.SetLinger(time.Millisecond)
			s.Close()
			wg.Wait()
			babbler.Close()
		}
	}
}
