package rpc

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkCall is one call and its answer, in a closed loop of one caller.
func BenchmarkCall(b *testing.B) {
	ctx := context.Background()
	req := &addReq{A: 1, B: 2, Note: "oping-server"}
	local := func(b *testing.B) *Link { _, c := links(b, Config{Mux: testMux()}, Config{}); return c }
	remote := func(b *testing.B) *Link { l, _ := childLink(b, "serve", Config{}); return l }
	for _, bm := range []struct {
		name string
		link func(*testing.B) *Link
		m    Method[addReq, addResp]
	}{
		{"inline", local, add},
		{"blocking", local, addSlow},
		{"inline, another process", remote, add},
		{"blocking, another process", remote, addSlow},
	} {
		b.Run(bm.name, func(b *testing.B) {
			l := bm.link(b)
			if err := l.Handshake(ctx); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Do(ctx, l, bm.m, req, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bm.name+", 8 callers", func(b *testing.B) {
			l := bm.link(b)
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := Do(ctx, l, bm.m, req, nil); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkGo is as BenchmarkCall, the next call sent by the answer to the
// last: no goroutine but the two readers.
func BenchmarkGo(b *testing.B) {
	_, c := links(b, Config{Mux: testMux()}, Config{})
	req := &addReq{A: 1, B: 2, Note: "oping-server"}
	end := make(chan error, 1)
	n := 0
	var done func(*Reply[addResp], error)
	done = func(_ *Reply[addResp], err error) {
		if n++; err != nil || n == b.N {
			end <- err
			return
		}
		Go(c, add, req, done)
	}
	b.ReportAllocs()
	Go(c, add, req, done)
	if err := <-end; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNotify sends as many notifications as the socket takes, then waits
// until they have arrived.
func BenchmarkNotify(b *testing.B) {
	const window = 64
	m := NewMux()
	got, n := make(chan bool, 1), 0
	Handle(m, tell, func(*Call[Empty], *addReq) {
		if n++; n%window == 0 {
			got <- true
		}
	})
	_, c := links(b, Config{Mux: m}, Config{})
	req := &addReq{A: 1, B: 2, Note: "oping-server"}
	b.ReportAllocs()
	for i := range b.N {
		if err := Notify(c, tell, req); err != nil {
			b.Fatal(err)
		}
		if i%window == window-1 {
			<-got
		}
	}
}

// BenchmarkDescriptors passes two descriptors with each reply.
func BenchmarkDescriptors(b *testing.B) {
	m := NewMux()
	fds := memfds(b, 2)
	Handle(m, open, func(c *Call[Empty], _ *Empty) { c.Reply(nil, fds...) })
	_, c := links(b, Config{Mux: m}, Config{})
	b.ReportAllocs()
	for b.Loop() {
		r, err := Do(context.Background(), c, open, &Empty{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		closeAll(r.TakeFiles())
	}
}

// BenchmarkSocket is the floor: a packet there and back between two
// goroutines, with net.UnixConn and nothing else.
func BenchmarkSocket(b *testing.B) {
	p, q := socketpair(b)
	go func() {
		buf := make([]byte, 100)
		for {
			n, err := q.Read(buf)
			if err != nil {
				return
			}
			if _, err := q.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 40)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := p.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCodec is a message of a few fields, and one of 30, to bytes, checked,
// and back.
func BenchmarkCodec(b *testing.B) {
	small, large := &addReq{A: 1, B: 2, Note: "oping-server"}, fullSink()
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f := newFrame(kindCall)
			if err := f.body(small); err != nil {
				b.Fatal(err)
			}
			f.free()
		}
	})
	body, largeBody := encoded(b, small), encoded(b, large)
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := shapeOf(addReqType)
			if err == nil {
				err = s.check(body, reflect.Value{})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var r addReq
			if err := decode(body, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode 30 fields", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var r sink
			if err := decode(largeBody, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
