package measure_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
)

// sent runs s over a flow of nothing and returns when each packet came, and
// checks its number.
func sent(t *testing.T, s *measure.Sender) (at []time.Duration) {
	f := flowtest.NewFlow(64)
	start := time.Now()
	f.OnWrite = func(p []byte) error {
		if n := binary.LittleEndian.Uint32(p); int(n) != len(at) || len(p) != s.Size {
			t.Errorf("packet %d has the number %d and %d bytes", len(at), n, len(p))
		}
		at = append(at, time.Since(start))
		return nil
	}
	s.Flow = f
	if err := s.Send(start); err != nil {
		t.Error(err)
	}
	return at
}

// The pace is exact to 1 % in each second, by schedule, in virtual time.
func TestPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []float64{64e3, 1e6, 8e6, 80e6} {
			at := sent(t, &measure.Sender{Size: 1000, Rate: rate, Duration: 3 * time.Second})
			counts := make([]int, 3)
			for _, d := range at {
				counts[d/time.Second]++
			}
			want := rate / 8000
			for i, n := range counts {
				if d := float64(n) - want; d > max(1, want/100) || d < -max(1, want/100) {
					t.Errorf("%.0f b/s: %d packets in second %d, want %.0f", rate, n, i, want)
				}
			}
		}
	})
}

// By the real clock, too, and without burning a processor.
func TestPacedByClock(t *testing.T) {
	for _, mode := range []measure.Mode{measure.Paced, measure.Spaced} {
		cpu := measure.StartCPU()
		start := time.Now()
		at := sent(t, &measure.Sender{Size: 1000, Rate: 1.6e6, Duration: 500 * time.Millisecond, Mode: mode})
		took := time.Since(start)
		// What others do to this processor is not ours to bound.
		if len(at) > 100 || len(at) == 0 || mode == measure.Paced && len(at) != 100 || took < 495*time.Millisecond {
			t.Errorf("mode %d: %d packets in %v, want 100 in 500 ms", mode, len(at), took)
		}
		if used := cpu.Percent(); used > 50 {
			t.Errorf("mode %d: %.0f %% of a processor for 200 packets a second", mode, used)
		}
		if mode == measure.Spaced {
			for i := 1; i < len(at); i++ {
				if gap := at[i] - at[i-1]; gap < 2*time.Millisecond {
					t.Errorf("packets %d and %d are %v apart, of 5 ms", i-1, i, gap)
				}
			}
		}
	}
}

// A flood ends in time, and so does one to a peer that does not read.
func TestFlood(t *testing.T) {
	at := sent(t, &measure.Sender{Size: 100, Duration: 50 * time.Millisecond})
	if len(at) < 100 {
		t.Errorf("%d packets", len(at))
	}
	synctest.Test(t, func(t *testing.T) {
		f := flowtest.NewFlow(64)
		f.SetFull(true)
		s := &measure.Sender{Flow: f, Size: 100, Duration: time.Second}
		start := time.Now()
		if err := s.Send(start); !measure.TimedOut(err) || time.Since(start) != 2*time.Second {
			t.Errorf("error %v after %v, want a time-out after 2s", err, time.Since(start))
		}
	})
}

// A flow falls silent: its reading ends, and it is known since when.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flowtest.NewFlow(64)
		start := time.Now()
		n := uint64(0)
		w := measure.WatchSilence(f, func() uint64 { n = uint64(min(time.Since(start), 3*time.Second) / time.Millisecond); return n }, 5*time.Second, time.Second)
		_, err := f.ReadPacket(make([]byte, 1))
		took := time.Since(start)
		last, fell := w.Stop()
		if !measure.TimedOut(err) || !fell || took < 4*time.Second || took > 4100*time.Millisecond || last.Sub(start).Round(50*time.Millisecond) != 3*time.Second {
			t.Errorf("error %v after %v; fell silent: %v, at %v", err, took, fell, last.Sub(start))
		}
	})
}
