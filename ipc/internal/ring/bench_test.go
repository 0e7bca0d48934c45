package ring

import (
	"fmt"
	"testing"
)

// BenchmarkPacket is a packet into the ring, shown, and out again, on one core:
// the fast way, and the one that Reserve and Next take.
func BenchmarkPacket(b *testing.B) {
	for _, size := range []int{64, 1500} {
		out, in := make([]byte, size), make([]byte, size)
		for _, way := range []struct {
			name string
			step func(p *Producer, c *Consumer) bool
		}{
			{"fast", func(p *Producer, c *Consumer) bool {
				ok := p.PutFast(out)
				if !ok {
					ok, _ = p.Put(out)
				}
				p.Publish()
				if n, _ := c.GetFast(in); n == size {
					return ok
				}
				n, _ := c.Next() // a skip, once in a while
				copy(in, c.Head())
				c.Take(n)
				return ok
			}},
			{"lent", func(p *Producer, c *Consumer) bool {
				q, _ := p.Reserve(size)
				copy(q, out)
				p.Commit(size)
				p.Publish()
				n, _ := c.Next()
				copy(in, c.Head())
				c.Take(n)
				return n == size
			}},
		} {
			b.Run(fmt.Sprintf("%d/%s", size, way.name), func(b *testing.B) {
				p, c, _ := link(b, 4<<20)
				b.SetBytes(int64(size))
				for b.Loop() {
					if !way.step(p, c) {
						b.Fatal("a packet did not pass")
					}
				}
			})
		}
	}
}
