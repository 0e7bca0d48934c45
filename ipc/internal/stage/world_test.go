package stage_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/ipcp"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

// patience bounds what must happen soon.
const patience = 20 * time.Second

// wire is a layer between two stages: it takes packets off the rings and puts them
// into the others, and loses some on the way.
type wire struct {
	loss, dup, swap float64
	hurt            float64 // packets of which a bit is changed
	ours            bool
	ring            int
	cipher          crypt.Cipher // 0: packets are plain

	look func(from int, p []byte)      // sees each packet
	lose func(from int, p []byte) bool // says which packets are lost

	set  *flow.Set
	ends [2]*flow.End
	mine [2]*flow.End // below the stages
	done sync.WaitGroup

	mu  sync.Mutex // guards the fields below
	rng *rand.Rand
	cut bool // all packets are lost
}

// path is that of the layer in these tests.
var path = ipcp.Path{MPL: 5 * time.Second, Max: 9000, Best: 1400}

// join returns two stages that w joins. The caller sets w's public half before.
func (w *wire) join(t testing.TB, qos core.QoS) (a, b *stage.Stage) {
	t.Helper()
	w.rng = rand.New(rand.NewPCG(1, 2))
	if w.ring == 0 {
		w.ring = 1 << 20
	}
	var err error
	if w.set, err = flow.NewSet(); err != nil {
		t.Fatal(err)
	}
	var stages [2]*stage.Stage
	for i := range stages {
		kit, err := flow.NewKit(w.ring)
		if err != nil {
			t.Fatal(err)
		}
		end, err := kit.Open(0)
		if err == nil {
			w.ends[i], err = kit.Open(1)
		}
		kit.Close()
		if err != nil {
			t.Fatal(err)
		}
		c := stage.Config{QoS: qos, Ours: w.ours, Path: path, Ring: w.ring}
		if w.cipher != 0 {
			if c.Seal, err = crypt.New(crypt.Config{Cipher: w.cipher, Key: &crypt.Key{1, 2, 3}, Ours: w.ours, Asked: i == 0}); err != nil {
				t.Fatal(err)
			}
		}
		w.mine[i] = end
		if !stage.Needed(c) {
			t.Fatal("no stage is needed")
		}
		stages[i] = stage.New(end, c)
		if err := w.set.Add(w.ends[i], i); err != nil {
			t.Fatal(err)
		}
	}
	w.done.Go(w.run)
	t.Cleanup(func() {
		for _, s := range stages {
			s.Discard()
		}
		w.set.Close()
		w.done.Wait()
		for _, e := range w.ends {
			e.Close()
		}
	})
	return stages[0], stages[1]
}

func (w *wire) run() {
	var held [2][]byte // a packet that waits for the next one to pass it
	for {
		v, err := w.set.Wait(context.Background())
		if err != nil {
			return
		}
		from := v.(int)
		in, out := w.ends[from], w.ends[1-from]
		var packets [64][]byte
		n, err := in.Look(packets[:])
		if err != nil {
			w.set.Remove(in)
			out.CloseWrite() // what a layer of this project does when it hears Bye
			continue
		}
		w.mu.Lock()
		for _, p := range packets[:n] {
			if w.look != nil {
				w.look(from, p)
			}
			if w.lose != nil && w.lose(from, p) {
				continue
			}
			if w.cut || w.rng.Float64() < w.loss {
				continue
			}
			if w.rng.Float64() < w.hurt {
				p = bytes.Clone(p)
				p[w.rng.IntN(len(p))] ^= 1 << w.rng.IntN(8)
			}
			if held[from] == nil && w.rng.Float64() < w.swap {
				held[from] = bytes.Clone(p)
				continue
			}
			out.Put(nil, p)
			if w.rng.Float64() < w.dup {
				out.Put(nil, p)
			}
			if held[from] != nil {
				out.Put(nil, held[from])
				held[from] = nil
			}
		}
		w.mu.Unlock()
		in.Drop(n)
		out.Publish()
	}
}

// break makes w lose all packets from now on, or no more than before.
func (w *wire) breakOff(off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = off
}

// conn makes a stage a net.Conn.
type conn struct{ *stage.Stage }

type addr struct{}

func (addr) Network() string { return "o7s" }
func (addr) String() string  { return "stage" }

func (c conn) LocalAddr() net.Addr  { return addr{} }
func (c conn) RemoteAddr() net.Addr { return addr{} }
func (c conn) Close() error         { c.Stage.Close(); return nil }
func (c conn) wrap(n int, err error) (int, error) {
	if err == core.ErrTimeout {
		err = &net.OpError{Op: "test", Net: "o7s", Err: os.ErrDeadlineExceeded}
	}
	return n, err
}

func (c conn) Read(p []byte) (int, error)  { return c.wrap(c.Stage.Read(p)) }
func (c conn) Write(p []byte) (int, error) { return c.wrap(c.Stage.Write(p)) }

// until waits for a condition that nothing announces.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
