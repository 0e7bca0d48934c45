package stage_test

import (
	"fmt"
	"testing"

	"o7s/core"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

// packets is what the benchmarks compare: a stage, and a flow without one.
type packets interface {
	ReadPacket(p []byte) (int, error)
	WritePacket(p []byte) error
}

// direct returns two ends of one memory, which loses nothing, each with a stage
// above unless qos is raw.
func direct(b *testing.B, qos core.QoS) (packets, packets) {
	b.Helper()
	kit, err := flow.NewKit(flow.DefaultRing)
	if err != nil {
		b.Fatal(err)
	}
	defer kit.Close()
	var ends [2]packets
	for i := range ends {
		end, err := kit.Open(i)
		if err != nil {
			b.Fatal(err)
		}
		c := stage.Config{QoS: qos, Ours: true, Path: path, Ring: flow.DefaultRing}
		if !stage.Needed(c) {
			ends[i] = end
			b.Cleanup(func() { end.Close() })
			continue
		}
		s := stage.New(end, c)
		ends[i] = s
		b.Cleanup(s.Discard)
	}
	return ends[0], ends[1]
}

// qualities are those that are measured.
var qualities = []string{"raw", "raw_no_errors", "best", "data"}

func eachQuality(b *testing.B, f func(b *testing.B, from, to packets, p []byte)) {
	for _, name := range qualities {
		for _, size := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				qos, _ := core.QoSByName(name)
				from, to := direct(b, qos)
				b.ReportAllocs()
				f(b, from, to, make([]byte, size))
			})
		}
	}
}

func BenchmarkOneWay(b *testing.B) {
	eachQuality(b, func(b *testing.B, from, to packets, p []byte) {
		done := make(chan error, 1)
		go func() {
			buf := make([]byte, len(p))
			for range b.N {
				if _, err := to.ReadPacket(buf); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		for range b.N {
			if err := from.WritePacket(p); err != nil {
				b.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkRoundTrip(b *testing.B) {
	eachQuality(b, func(b *testing.B, from, to packets, p []byte) {
		go func() {
			buf := make([]byte, len(p))
			for {
				n, err := to.ReadPacket(buf)
				if err != nil || to.WritePacket(buf[:n]) != nil {
					return
				}
			}
		}()
		for range b.N {
			if err := from.WritePacket(p); err != nil {
				b.Fatal(err)
			}
			if _, err := from.ReadPacket(p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
