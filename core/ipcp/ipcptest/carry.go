package ipcptest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"o7s/core"
)

// carried makes a flow whose packets the layer carries and returns the
// processes' ends of its memory too. It skips the test where the layer
// splices: then no packet passes it.
func carried(t *testing.T, h *host) (client, server *end) {
	t.Helper()
	client, server = h.connect(t, dst)
	if client.peer != nil {
		h.end(t, client, server)
		t.Skip("the layer splices its flows")
	}
	return client, server
}

// packet returns the nth packet of a series.
func packet(series, n, size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(series + n*7 + i*13 + i>>8)
	}
	return p
}

// send writes n packets of a series, of the sizes in turn.
func send(e *end, series, n int, sizes []int) error {
	for i := range n {
		if err := e.process.WritePacket(packet(series, i, sizes[i%len(sizes)])); err != nil {
			return fmt.Errorf("write packet %d on flow %d: %w", i, e.id, err)
		}
	}
	return nil
}

// receive reads what send wrote, and no more.
func receive(e *end, series, n int, sizes []int) error {
	p := make([]byte, core.MaxPacket)
	for i := range n {
		got, err := e.process.ReadPacket(p)
		if err != nil {
			return fmt.Errorf("read packet %d on flow %d: %w", i, e.id, err)
		}
		if want := packet(series, i, sizes[i%len(sizes)]); !bytes.Equal(p[:got], want) {
			return fmt.Errorf("packet %d on flow %d has %d bytes, want other ones, %d", i, e.id, got, len(want))
		}
	}
	return nil
}

// ends reads until the flow ends, which must be as want says.
func ends(e *end, want error) error {
	_, err := e.process.ReadPacket(make([]byte, core.MaxPacket))
	if !errors.Is(err, want) {
		return fmt.Errorf("the end of flow %d reads as %v, want %v", e.id, err, want)
	}
	return nil
}

// exchange sends n packets each way at the same time.
func exchange(t *testing.T, a, b *end, n int, sizes []int) {
	t.Helper()
	all(t,
		func() error { return send(a, 1, n, sizes) },
		func() error { return receive(b, 1, n, sizes) },
		func() error { return send(b, 2, n, sizes) },
		func() error { return receive(a, 2, n, sizes) },
	)
}

func testPackets(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := carried(t, h)
	var sizes []int
	for n := 1; n <= 300; n++ {
		sizes = append(sizes, n)
	}
	for n := 512; n <= core.MaxPacket; n *= 2 {
		sizes = append(sizes, n-1, n, n+1)
	}
	sizes = append(sizes, 1500, 9000, core.MaxPacket, 1, core.MaxPacket)
	exchange(t, client, server, len(sizes), sizes)

	// An echo: no packet waits for the one behind it.
	for n := range 100 {
		must(t, "send", send(client, n, 1, []int{64}))
		must(t, "receive", receive(server, n, 1, []int{64}))
		must(t, "send back", send(server, n, 1, []int{64}))
		must(t, "receive back", receive(client, n, 1, []int{64}))
	}
	h.end(t, client, server)
}

// bothWays calls test with the ends in either role.
func bothWays(t *testing.T, h *host, test func(t *testing.T, a, b *end)) {
	h.layer(t, dst)
	client, server := carried(t, h)
	test(t, client, server)
	h.end(t, client, server)
	client, server = carried(t, h)
	test(t, server, client)
	h.end(t, client, server)
}

var sizes = []int{1, 64, 1500}

func testHalfClose(t *testing.T, h *host) {
	bothWays(t, h, func(t *testing.T, a, b *end) {
		must(t, "send", send(a, 1, 3, sizes))
		must(t, "close for writing", a.process.CloseWrite())
		must(t, "receive", receive(b, 1, 3, sizes))
		must(t, "the end", ends(b, io.EOF))
		all(t,
			func() error { return send(b, 2, 100, sizes) },
			func() error { return receive(a, 2, 100, sizes) })
		must(t, "close the other way", b.process.CloseWrite())
		must(t, "the other end", ends(a, io.EOF))
	})
}

func testClosedEnd(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, first := range []bool{true, false} {
		a, b := carried(t, h)
		if !first {
			a, b = b, a
		}
		must(t, "send", send(a, 1, 3, sizes))
		must(t, "deallocate", a.dealloc().wait())
		must(t, "receive", receive(b, 1, 3, sizes))
		must(t, "the end", ends(b, io.EOF))
		h.end(t, b)
	}
}

func testDeadEnd(t *testing.T, h *host) {
	bothWays(t, h, func(t *testing.T, a, b *end) {
		must(t, "send", send(a, 1, 3, sizes))
		must(t, "die", a.process.Abort())
		must(t, "receive", receive(b, 1, 3, sizes))
		must(t, "the end", ends(b, core.ErrFlowDown))
		fails(t, "write", untilRefused(b), core.ErrFlowDown)
	})
}

// untilRefused sends a series of packets of one byte until that gives an error.
func untilRefused(e *end) error {
	for n := 0; ; n++ {
		if err := e.process.WritePacket(packet(0, n, 1)); err != nil {
			return err
		}
	}
}

// testWriteToGone closes an end whose peer waits for room, before it is
// deallocated. What that end wrote finds room, or only some of it does.
func testWriteToGone(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, tt := range []struct {
		client bool
		words  int
	}{{true, 3}, {false, 3}, {true, 2 * room}} {
		a, b := carried(t, h)
		if !tt.client {
			a, b = b, a
		}
		must(t, "send", send(b, 2, tt.words, sizes))
		sent := make(chan error, 1)
		go func() { sent <- untilRefused(a) }()
		must(t, "fill the flow at the writer", a.process.full())
		must(t, "fill the flow at the reader", b.process.peer.full())
		must(t, "close", b.process.Close())
		fails(t, "write to an end that has gone", within(sent), core.ErrFlowDown)
		read := min(tt.words, room)
		must(t, "receive what came before", receive(a, 2, read, sizes))
		must(t, "the end", endsAfter(a, tt.words-read, io.EOF))
		h.end(t, a, b)
	}
}

// testLastWords closes an end whose peer still has much to read, and writes
// meanwhile.
func testLastWords(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, first := range []bool{true, false} {
		a, b := carried(t, h)
		if !first {
			a, b = b, a
		}
		const n = 2 * room
		must(t, "send", send(a, 1, n, sizes))
		must(t, "deallocate", a.dealloc().wait())
		all(t,
			func() error { return receive(b, 1, n, sizes) },
			func() error {
				if err := untilRefused(b); err != core.ErrFlowDown {
					return fmt.Errorf("write to an end that has gone: %w", err)
				}
				return nil
			})
		must(t, "the end", ends(b, io.EOF))
		h.end(t, b)
	}
}

func testSlowReader(t *testing.T, h *host) {
	h.layer(t, dst)
	client, server := carried(t, h)
	client2, server2 := carried(t, h)
	const n = 20 * room
	sent := make(chan error, 1)
	go func() { sent <- send(client, 1, n, sizes) }()
	must(t, "fill the flow at the client", client.process.full())
	must(t, "fill the flow at the server", server.process.peer.full())

	exchange(t, client2, server2, n, sizes) // another flow goes on
	must(t, "send the other way", send(server, 2, room, sizes))
	must(t, "receive", receive(client, 2, room, sizes))
	must(t, "receive all in the end", receive(server, 1, n, sizes))
	must(t, "send", within(sent))
	h.end(t, client, client2, server2, server)
}

func testStuck(t *testing.T, h *host) {
	h.layer(t, dst)
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		client, server := carried(t, h)
		sent := make(chan error, 2)
		for _, e := range []*end{client, server} {
			go func() { sent <- untilRefused(e) }()
		}
		for _, e := range []*end{client, server} {
			must(t, "fill the flow at the process", e.process.full())
			must(t, "fill the flow at the layer", e.process.peer.full())
		}
		ends := []*end{client, server}
		h.end(t, ends[order[0]], ends[order[1]])
		for range 2 {
			if err := within(sent); err == errNothing {
				t.Error("a write is stuck")
			}
		}
	}
}
