package stage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

// TestMain lets many tests run at a time, where -parallel says no other number: they
// wait for packets that were lost to be sent again.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8")
	m.Run()
}

// hostile is a wire on which all goes wrong that may.
func hostile(ours bool) *wire { return &wire{loss: 0.05, dup: 0.05, swap: 0.05, ours: ours} }

// rough is hostile, with fewer losses: each one makes two ends wait that take turns,
// for longer where others use the machine, and nettest gives them a minute for 1000
// turns.
func rough(ours bool) *wire { return &wire{loss: 0.01, dup: 0.05, swap: 0.01, ours: ours} }

func TestNetConn(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := rough(true).join(t, core.QoSData)
		return conn{a}, conn{b}, func() { a.Discard(); b.Discard() }, nil
	})
}

// What was written comes, all of it, and then the end.
func TestReliable(t *testing.T) {
	t.Parallel()
	for _, ours := range []bool{true, false} {
		t.Run(fmt.Sprintf("ours %v", ours), func(t *testing.T) {
			t.Parallel()
			a, b := hostile(ours).join(t, core.QoSData)
			size := 2 << 20
			sum := make(chan []byte, 1)
			go func() {
				h := sha256.New()
				if ours {
					io.Copy(h, b)
				} else {
					io.CopyN(h, b, int64(size))
				}
				sum <- h.Sum(nil)
			}()
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i * i >> 7)
			}
			n, err := a.Write(data)
			if n != size || err != nil {
				t.Fatalf("wrote %d bytes, %v", n, err)
			}
			a.Close()
			want := sha256.Sum256(data)
			select {
			case got := <-sum:
				if !bytes.Equal(got, want[:]) {
					t.Error("other bytes came than were sent")
				}
			case <-time.After(patience):
				t.Fatal("it did not come")
			}
			if st, ok := a.Stats(); !ok || st.Retransmitted == 0 {
				t.Errorf("nothing was sent again on a wire with loss: %+v", st)
			}
		})
	}
}

// Without retransmission packets are in order, none twice, and the flow does not
// stop where nothing comes back.
func TestInOrder(t *testing.T) {
	for _, ours := range []bool{true, false} {
		t.Run(fmt.Sprintf("ours %v", ours), func(t *testing.T) {
			const packets = 10000
			a, b := hostile(ours).join(t, core.QoSBest)
			must(t, b.SetReadDeadline(time.Now().Add(patience)))
			go func() {
				p := make([]byte, 100)
				for i := range packets {
					binary.BigEndian.PutUint32(p, uint32(i))
					a.WritePacket(p)
				}
				for i := range uint32(100) { // for the reader to end by
					if a.WritePacket(binary.BigEndian.AppendUint32(nil, 1<<31|i)) != nil {
						return
					}
				}
			}()
			last, n := -1, 0
			p := make([]byte, 2000)
			for {
				_, err := b.ReadPacket(p)
				must(t, err)
				i := int(binary.BigEndian.Uint32(p))
				if i >= 1<<31 {
					break
				}
				if i <= last {
					t.Fatalf("packet %d came after %d", i, last)
				}
				last = i
				n++
			}
			if n < packets*8/10 {
				t.Errorf("%d of %d packets came", n, packets)
			}
		})
	}
}

// A program that makes no calls still acknowledges, and flows that nobody uses
// take no goroutine each.
func TestIdle(t *testing.T) {
	const flows = 50
	before := runtime.NumGoroutine()
	var writers, readers []*stage.Stage
	for range flows {
		a, b := (&wire{ours: true, ring: flow.MinRing}).join(t, core.QoSData)
		must(t, a.WritePacket([]byte("packet")))
		writers, readers = append(writers, a), append(readers, b)
	}
	for _, a := range writers {
		until(t, "an acknowledgement", func() bool { st, _ := a.Stats(); return st.InFlight == 0 })
	}
	// Each wire of these tests has two goroutines.
	until(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before+2*flows+2 })
	for _, b := range readers {
		p := make([]byte, 10)
		if n, err := b.ReadPacket(p); n != 6 || err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
	}
}

func TestCloseWaits(t *testing.T) {
	w := &wire{ours: true}
	a, b := w.join(t, core.QoSData)
	w.breakOff(true)
	must(t, a.WritePacket([]byte("packet")))
	a.SetLinger(time.Hour)
	closed := make(chan struct{})
	go func() { a.Close(); close(closed) }()
	until(t, "closing", func() bool { _, err := a.TryReadPacket(nil); return errors.Is(err, core.ErrClosed) })
	select {
	case <-closed:
		t.Fatal("Close did not wait for the acknowledgement")
	case <-time.After(50 * time.Millisecond):
	}
	w.breakOff(false)
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close did not return when all was acknowledged")
	}
	got, err := io.ReadAll(b)
	if string(got) != "packet" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestLinger(t *testing.T) {
	for _, linger := range []time.Duration{0, 30 * time.Millisecond} {
		w := &wire{ours: true}
		a, b := w.join(t, core.QoSData)
		w.breakOff(true)
		must(t, a.WritePacket([]byte("packet")))
		a.SetLinger(linger)
		start := time.Now()
		a.Close()
		if took := time.Since(start); took < linger || took > linger+time.Second {
			t.Errorf("Close with a linger of %v took %v", linger, took)
		}
		// The reader must not take the end of the flow for that of the data.
		if _, err := b.ReadPacket(make([]byte, 10)); !errors.Is(err, core.ErrFlowDown) {
			t.Errorf("reading where a packet is missing: %v", err)
		}
	}
}

func TestHalfClose(t *testing.T) {
	a, b := hostile(true).join(t, core.QoSData)
	go func() {
		io.Copy(b, b)
		b.CloseWrite()
	}()
	_, err := a.Write([]byte("there and back"))
	must(t, err)
	must(t, a.CloseWrite())
	must(t, a.CloseWrite())
	if err := a.WritePacket([]byte("x")); !errors.Is(err, core.ErrClosed) {
		t.Errorf("writing after CloseWrite: %v", err)
	}
	got, err := io.ReadAll(a)
	if string(got) != "there and back" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// A set gives out a flow when there is a packet for the program, and not for an
// acknowledgement.
func TestSet(t *testing.T) {
	a, b := (&wire{ours: true}).join(t, core.QoSData)
	set, err := flow.NewSet()
	must(t, err)
	defer set.Close()
	must(t, a.Join(set, "a"))
	if err := a.Join(set, "a"); !errors.Is(err, core.ErrExists) {
		t.Errorf("joining twice: %v", err)
	}
	must(t, a.WritePacket([]byte("packet")))
	until(t, "an acknowledgement", func() bool { st, _ := a.Stats(); return st.InFlight == 0 })
	if v, ok := set.Next(); ok {
		t.Fatalf("the set gives out %v for an acknowledgement", v)
	}
	must(t, b.WritePacket([]byte("answer")))
	v, err := set.Wait(t.Context())
	if v != "a" || err != nil {
		t.Fatalf("the set gives out %v, %v", v, err)
	}
	p := make([]byte, 10)
	if n, err := a.TryReadPacket(p); string(p[:n]) != "answer" || err != nil {
		t.Errorf("read %q, %v", p[:n], err)
	}
	if v, ok := set.Next(); ok {
		t.Errorf("the set gives out %v when nothing is left", v)
	}
	// A member that left is tended all the same.
	set.Close()
	must(t, b.WritePacket([]byte("more")))
	until(t, "an acknowledgement", func() bool { st, _ := b.Stats(); return st.InFlight == 0 })
}

// Who does not wait hears from its set when a packet can be written again: where the
// window was shut, and where the ring was full.
func TestSetRoom(t *testing.T) {
	for name, w := range map[string]*wire{
		"in order": {ours: true}, "a small ring": {ours: true, ring: flow.MinRing}, "towards the C prototype": {},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := w.join(t, core.QoSData)
			set, err := flow.NewSet()
			must(t, err)
			defer set.Close()
			must(t, a.Join(set, "a"))
			packet := make([]byte, 1000)
			const total = 20_000
			read := make(chan error, 1)
			start := make(chan struct{})
			go func() {
				<-start
				p := make([]byte, 2000)
				for range total {
					if _, err := b.ReadPacket(p); err != nil {
						read <- err
						return
					}
				}
				read <- nil
			}()
			full := 0
			for sent := 0; sent < total; {
				err := a.TryWritePacket(packet)
				if err == nil {
					sent++
					continue
				}
				if !errors.Is(err, flow.ErrFull) {
					t.Fatal(err)
				}
				set.Room(w.mine[0], len(packet))
				if full++; full == 1 {
					close(start)
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				v, err := set.Wait(ctx)
				cancel()
				if v != "a" || err != nil {
					t.Fatalf("after %d packets the set gives out %v, %v", sent, v, err)
				}
			}
			if full == 0 || full > total/4 {
				t.Errorf("%d times there was no room for one of %d packets", full, total)
			}
			must(t, <-read)
		})
	}
}

func TestPeerGone(t *testing.T) {
	a, b := (&wire{ours: true}).join(t, core.QoSData)
	failed := make(chan error, 2)
	go func() { _, err := a.ReadPacket(make([]byte, 10)); failed <- err }()
	go func() {
		for {
			if err := a.WritePacket(make([]byte, 1000)); err != nil {
				failed <- err
				return
			}
		}
	}()
	b.Discard()
	for range 2 {
		select {
		case err := <-failed:
			if !errors.Is(err, core.ErrFlowDown) && err != io.EOF {
				t.Errorf("the call returned %v", err)
			}
		case <-time.After(patience):
			t.Fatal("a call waits for a peer that has gone")
		}
	}
}

func TestPackets(t *testing.T) {
	for _, qos := range []core.QoS{core.QoSData, core.QoSRawNoErrors} {
		a, b := (&wire{ours: true}).join(t, qos)
		most := a.MaxPacket()
		if want := path.Max - 12; qos.InOrder && most != want || !qos.InOrder && most != path.Max-4 {
			t.Errorf("a packet may have %d bytes", most)
		}
		if err := a.WritePacket(make([]byte, most+1)); !errors.Is(err, core.ErrUsage) {
			t.Errorf("one byte too many: %v", err)
		}
		big := bytes.Repeat([]byte{7}, most)
		must(t, a.WritePacket(big))
		var short *flow.ShortBufferError
		if _, err := b.ReadPacket(make([]byte, most-1)); !errors.As(err, &short) || short.Size != most {
			t.Errorf("a buffer one byte short: %v", err)
		}
		p := make([]byte, most)
		if n, err := b.Read(p[:10]); n != 10 || err != nil {
			t.Errorf("the first part: %d, %v", n, err)
		}
		if n, err := b.ReadPacket(p[10:]); n != most-10 || err != nil || !bytes.Equal(p, big) {
			t.Errorf("the rest: %d, %v", n, err)
		}
		if n, err := b.TryReadPacket(p); n != 0 || err != nil {
			t.Errorf("nothing is there: %d, %v", n, err)
		}
		n, err := a.WriteBatch([][]byte{[]byte("one"), nil, []byte("two"), make([]byte, most+1)})
		if n != 3 || !errors.Is(err, core.ErrUsage) {
			t.Errorf("a batch: %d, %v", n, err)
		}
		bufs, sizes := [][]byte{make([]byte, 5), make([]byte, 5), make([]byte, 5)}, make([]int, 3)
		for got := 0; got < 2; {
			n, err := b.ReadBatch(bufs, sizes)
			must(t, err)
			got += n
		}
		lent, err := a.Reserve(5)
		must(t, err)
		if err := a.WritePacket(lent); !errors.Is(err, core.ErrState) {
			t.Errorf("writing while memory is lent: %v", err)
		}
		copy(lent, "three")
		must(t, a.Commit(5))
		if err := a.Commit(5); !errors.Is(err, core.ErrState) {
			t.Errorf("a second Commit: %v", err)
		}
		got, err := b.Peek()
		if string(got) != "three" || err != nil {
			t.Errorf("Peek: %q, %v", got, err)
		}
		if _, err := b.Read(p); !errors.Is(err, core.ErrState) {
			t.Errorf("reading while memory is lent: %v", err)
		}
		must(t, b.Release())
		if c := a.Counters(); c.PacketsOut != 4 || c.BytesOut != uint64(most+11) {
			t.Errorf("the writer counts %+v", c)
		}
		if c := b.Counters(); c.PacketsIn != 4 || c.BytesIn != uint64(most+11) {
			t.Errorf("the reader counts %+v", c)
		}
		must(t, a.WritePacket([]byte("lent")))
		got, err = b.Peek()
		must(t, err)
		b.SetLinger(0)
		b.Close()
		if string(got) != "lent" {
			t.Errorf("memory that is lent changed at Close: %q", got)
		}
		must(t, b.Release())
		if err := b.Release(); !errors.Is(err, core.ErrClosed) {
			t.Errorf("Release after Close: %v", err)
		}
	}
}

// A packet whose bits were changed on the way does not come.
func TestDamage(t *testing.T) {
	a, b := (&wire{hurt: 0.3}).join(t, core.QoSRawNoErrors)
	want := []byte("all bits are right")
	for range 1000 {
		must(t, a.WritePacket(want))
	}
	p := make([]byte, 100)
	n := 0
	for b.Damaged()+uint64(n) < 1000 {
		must(t, b.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		if got, err := b.ReadPacket(p); err == nil {
			if n++; !bytes.Equal(p[:got], want) {
				t.Fatalf("read %q", p[:got])
			}
		}
	}
	if n < 500 || n > 900 {
		t.Errorf("%d of 1000 packets came, 700 were not changed", n)
	}
}

var long = flag.Bool("long", false, "TestManyIdle: 9,000 flows rather than 500")

// Idle flows share one goroutine, and take no time.
func TestManyIdle(t *testing.T) {
	flows := 500
	if *long {
		flows = 9000
	}
	before := runtime.NumGoroutine()
	var stages []*stage.Stage
	for range flows {
		kit, err := flow.NewKit(flow.MinRing)
		must(t, err)
		for side := range 2 {
			end, err := kit.Open(side)
			must(t, err)
			s := stage.New(end, stage.Config{QoS: core.QoSData, Ours: true, Path: path, Ring: flow.MinRing})
			t.Cleanup(s.Discard)
			stages = append(stages, s)
		}
		kit.Close()
		must(t, stages[len(stages)-1].WritePacket([]byte("packet")))
	}
	for i := 1; i < len(stages); i += 2 {
		until(t, "an acknowledgement", func() bool { st, _ := stages[i].Stats(); return st.InFlight == 0 })
	}
	// The set that they share, and who waits for it.
	until(t, "the end of other goroutines", func() bool { return runtime.NumGoroutine() <= before+2 })
	cpu := func() time.Duration {
		var r unix.Rusage
		must(t, unix.Getrusage(unix.RUSAGE_SELF, &r))
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	start := cpu()
	time.Sleep(500 * time.Millisecond)
	if took := cpu() - start; took > 100*time.Millisecond {
		t.Errorf("%d idle ends took %v of 500 ms", len(stages), took)
	}
}
