package stage_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

var games = flag.Int("games", 30, "games of TestAllAtOnce, and six times those of TestNothingSleeps")

// All calls of both ends at once, on a bad wire: packets come in order, and no
// call waits for ever once an end is closed.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
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
				babbler.Publish()
			}
			s.SetLinger(time.Millisecond)
			s.Close()
			wg.Wait()
			babbler.Close()
		}
	}
}

// After many calls at once, of which some gave up, an end still acknowledges packets that
// nobody reads. A packet still wakes a goroutine that waits for it, by any call.
func TestNothingSleeps(t *testing.T) {
	t.Parallel()
	for seed := range *games / 6 {
		if !nothingSleeps(t, uint64(seed)) {
			t.Fatalf("game %d", seed)
		}
	}
}

func nothingSleeps(t *testing.T, seed uint64) bool {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &wire{ours: rng.IntN(2) == 0, ring: flow.MinRing}
	if rng.IntN(2) == 0 {
		w.loss, w.dup, w.swap = 0.05, 0.05, 0.05
	}
	a, b := w.join(t, core.QoSData)
	ends := [2]*stage.Stage{a, b}
	var sets [2]*flow.Set
	for i := range sets {
		var err error
		sets[i], err = flow.NewSet()
		must(t, err)
		defer sets[i].Close()
	}
	for round := range 4 {
		var wg sync.WaitGroup
		for i, s := range ends {
			set := sets[i]
			for range 1 + rng.IntN(10) {
				kind, n, wait := rng.IntN(9), 1+rng.IntN(100), time.Duration(rng.IntN(10000))*time.Microsecond
				wg.Go(func() {
					switch kind {
					case 0, 1:
						s.Write(make([]byte, n*1000))
					case 2:
						for range n {
							s.TryWritePacket(make([]byte, 1000))
						}
					case 3, 4:
						for buf := make([]byte, core.MaxPacket); n > 0; n-- {
							s.ReadPacket(buf)
						}
					case 5:
						for range n {
							if _, err := s.Peek(); err == nil {
								s.Release()
							}
						}
					case 6:
						s.Join(set, s)
					case 7:
						ctx, cancel := context.WithTimeout(context.Background(), wait)
						defer cancel()
						for range n {
							if _, err := set.Wait(ctx); err != nil {
								break
							}
							s.TryReadPacket(make([]byte, core.MaxPacket))
						}
					case 8:
						for buf := make([]byte, core.MaxPacket); n > 0; n-- {
							s.TryReadPacket(buf)
						}
					}
				})
			}
		}
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		for _, s := range ends {
			s.SetDeadline(time.Now())
		}
		wg.Wait()
		for _, s := range ends {
			must(t, s.SetDeadline(time.Time{}))
		}
		quiet := time.Duration(rng.IntN(40)) * time.Millisecond
		for i, s := range ends {
			time.Sleep(quiet)
			// Make room, so that all can be acknowledged.
			to := ends[1-i]
			buf := make([]byte, core.MaxPacket)
			until(t, fmt.Sprintf("game %d, round %d: all acknowledged", seed, round), func() bool {
				for {
					if n, err := to.TryReadPacket(buf); n == 0 || err != nil {
						break
					}
				}
				st, _ := s.Stats()
				return st.InFlight == 0
			})
			for {
				if n, _ := to.TryReadPacket(buf); n == 0 {
					break
				}
			}
			time.Sleep(quiet)
			must(t, s.WritePacket([]byte("seen by nobody")))
			until(t, fmt.Sprintf("game %d, round %d: acknowledged with nobody reading", seed, round), func() bool {
				st, _ := s.Stats()
				return st.InFlight == 0
			})
			_, err := to.ReadPacket(buf)
			must(t, err)
			time.Sleep(quiet)
			got := make(chan error, 1)
			how := rng.IntN(3)
			if how == 2 && to.Join(sets[1-i], to) != nil && sets[1-i].Len() == 0 {
				t.Error("a flow that is in no set joins none")
			}
			go func() {
				switch how {
				case 0:
					_, err := to.ReadPacket(make([]byte, 100))
					got <- err
				case 1:
					_, err := to.Read(make([]byte, 100))
					got <- err
				case 2:
					for {
						if _, err := sets[1-i].Wait(context.Background()); err != nil {
							got <- err
							return
						}
						if n, err := to.TryReadPacket(make([]byte, 100)); n > 0 || err != nil {
							got <- err
							return
						}
					}
				}
			}()
			time.Sleep(quiet)
			must(t, s.WritePacket([]byte("waited for")))
			select {
			case err := <-got:
				must(t, err)
			case <-time.After(patience):
				t.Errorf("round %d, end %d: a reader of kind %d sleeps", round, i, how)
				return false
			}
			if rng.IntN(2) == 0 {
				to.Unwatch()
			}
		}
	}
	return true
}
