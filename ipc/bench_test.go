package ipc_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"o7s/ipc"
)

// benchWorld is a world whose IRMd logs as one in service does: at level info,
// with nobody who reads along.
func benchWorld(b *testing.B, typ string) *world {
	b.Helper()
	w := newWorld(b, typ, "--log-level", "info")
	w.register(b, "bench")
	return w
}

// A flow is allocated, by so many goroutines of one process, and closed.
func BenchmarkDial(b *testing.B) {
	for _, typ := range types {
		for _, clients := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/%d", typ.Name, clients), func(b *testing.B) {
				w := benchWorld(b, typ.Name)
				w.role(b, "test-echo", "listens", "bench")
				ctx := b.Context()
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ResetTimer()
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							c, err := w.node.Dial(ctx, "bench")
							if err != nil {
								b.Error(err)
								return
							}
							c.Close()
						}
					})
				}
				wg.Wait()
				last, err := w.node.Dial(ctx, "bench")
				must(b, err)
				must(b, last.Deallocate(ctx)) // and all before it are
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "flows/s")
			})
		}
	}
}

// The same, by processes.
func BenchmarkDialProcesses(b *testing.B) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			w := benchWorld(b, types[0].Name)
			w.role(b, "test-echo", "listens", "bench")
			each := max(1, b.N/clients)
			var ps []*process
			for range clients {
				ps = append(ps, w.role(b, "test-dial", "ready", "bench", fmt.Sprint(each), "wait"))
			}
			b.ResetTimer()
			for _, p := range ps {
				fmt.Fprintln(p.in)
			}
			for _, p := range ps {
				if _, err := p.line("done", 1); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(each*clients)/b.Elapsed().Seconds(), "flows/s")
		})
	}
}

// A packet to another process and back.
func BenchmarkRoundTrip(b *testing.B) {
	for _, typ := range types {
		for _, size := range []int{64, 1500, ipc.MaxPacket} {
			b.Run(fmt.Sprintf("%s/%d", typ.Name, size), func(b *testing.B) {
				w := benchWorld(b, typ.Name)
				w.role(b, "test-echo", "listens", "bench")
				c := w.dial(b, "bench")
				p := make([]byte, size)
				b.SetBytes(int64(2 * size))
				for b.Loop() {
					if err := c.WritePacket(p); err != nil {
						b.Fatal(err)
					}
					if _, err := c.ReadPacket(p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// Packets to another process, one way, until it has answered the last one.
func BenchmarkOneWay(b *testing.B) {
	for _, typ := range types {
		for _, size := range []int{64, 1500, ipc.MaxPacket} {
			b.Run(fmt.Sprintf("%s/%d", typ.Name, size), func(b *testing.B) {
				w := benchWorld(b, typ.Name)
				w.role(b, "test-sink", "listens", "bench")
				c := w.dial(b, "bench")
				p := make([]byte, size)
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := c.WritePacket(p); err != nil {
						b.Fatal(err)
					}
				}
				if err := c.CloseWrite(); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(p); err != nil { // it has read all
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
			})
		}
	}
}
