package frct

import (
	"errors"
	"testing"
	"time"

	"o7s/core"
)

func TestTwoWays(t *testing.T) {
	for _, cfg := range []Config{{}, {Reliable: true}, {Ours: true}, {Reliable: true, Ours: true}} {
		w := newWire(t, cfg)
		for i := range 30 {
			if !w.send(0, numbered(i)) || !w.send(1, numbered(100+i)) {
				w.run(time.Second)
				if !w.send(0, numbered(i)) || !w.send(1, numbered(100+i)) {
					t.Fatalf("%+v: packet %d must wait", cfg, i)
				}
			}
			w.run(time.Second)
		}
		wantNumbered(t, w.read(1), 0, 30)
		wantNumbered(t, w.read(0), 100, 30)
		if s := w.end[0].Stats(); s.Retransmitted > 0 || s.Sent != 30 || s.Received != 30 || !w.end[0].Acknowledged() {
			t.Errorf("%+v: %+v", cfg, s)
		}
	}
}

// What the C prototype does, packet by packet.
func TestFlagsTowardsC(t *testing.T) {
	w := newWire(t, Config{Reliable: true}, 0xfffffffe)
	w.send(0, []byte("a"))
	w.send(0, []byte("b"))
	if h, _ := w.next(1); h != (head{Flags: data | runs, Seq: 0xfffffffe}) {
		t.Errorf("first packet: %+v", h)
	}
	if h, _ := w.next(1); h != (head{Flags: data, Seq: 0xffffffff}) {
		t.Errorf("second packet, the first not acknowledged: %+v", h)
	}
	w.feed(0, head{Flags: data | runs | ack, Seq: 7, Ack: 0xffffffff}, []byte("x"))
	w.read(0)
	w.now = w.now.Add(5 * time.Millisecond)
	w.send(0, []byte("c"))
	if h, _ := w.next(1); h != (head{Flags: data | ack | fc, Window: 8 + cWindow, Seq: 0, Ack: 8}) {
		t.Errorf("third packet: %+v", h)
	}
	w.feed(0, head{Flags: ack, Ack: 1}, nil)
	w.feed(0, head{Flags: data, Seq: 8}, []byte("y"))
	w.read(0)
	w.tick(0)
	if len(w.way[1]) > 0 {
		t.Error("an acknowledgement at once")
	}
	if want := w.now.Add(ackDelay); !w.due[0].Equal(want) {
		t.Errorf("next due at %v, want %v", w.due[0].Sub(w.now), ackDelay)
	}
	w.now = w.due[0]
	w.tick(0)
	if h, p := w.next(1); h != (head{Flags: ack | fc, Window: 9 + cWindow, Ack: 9}) || len(p) > 0 {
		t.Errorf("delayed acknowledgement: %+v", h)
	}
	if w.tick(0); len(w.way[1]) > 0 || !w.due[0].IsZero() {
		t.Error("more is due")
	}
	w.now = w.now.Add(maxAckDelay + time.Second)
	w.send(0, []byte("d"))
	if h, _ := w.next(1); h.Flags != data|runs|fc {
		t.Errorf("more than a after the last packet: %+v", h)
	}
	w.feed(0, head{Flags: ack, Ack: 2}, nil)
	w.now = w.now.Add(200 * time.Second)
	w.send(0, []byte("e"))
	if h, _ := w.next(1); h.Flags != data|runs || h.Seq == 2 {
		t.Errorf("after the time in which a run is forgotten: %+v", h)
	}
}

// A receiver of a flow without retransmission says how far the window has come,
// every 32 packets, or C's sender stops after 64.
func TestWindowWithoutRetransmission(t *testing.T) {
	w := newWire(t, Config{})
	const n = 10000
	stalls := 0
	var got [][]byte
	for i := 0; i < n; {
		if w.send(0, numbered(i)) {
			i++
			continue
		}
		stalls++
		w.deliver(1)
		got = append(got, w.read(1)...)
		w.tick(1)
		w.deliver(0)
		if stalls > n {
			t.Fatal("the window stays shut")
		}
	}
	w.run(time.Second)
	wantNumbered(t, append(got, w.read(1)...), 0, n)
}

// peerC is a receiver as C's: it opens its window, of 256, as its process takes
// packets, says so only when asked, and acknowledges, where the flow is
// reliable, only what was taken.
func TestOneWayToC(t *testing.T) {
	for _, reliable := range []bool{false, true} {
		w := newWire(t, Config{Reliable: reliable})
		var got [][]byte
		left, right, started := uint32(0), uint32(0), false
		for i := 0; i < 10000; {
			for i < 10000 && w.send(0, numbered(i)) {
				i++
			}
			w.tick(0)
			for len(w.way[1]) > 0 {
				h, p := w.next(1)
				if h.Flags&ask != 0 {
					w.feed(0, head{Flags: fc, Window: right & 0xffffff}, nil)
					continue
				}
				if !started {
					left, right, started = h.Seq, h.Seq+256, true
				}
				if h.Seq == left {
					left++
					right++
					got = append(got, p)
				}
			}
			if reliable {
				w.feed(0, head{Flags: ack, Ack: left}, nil)
			}
			if w.now = w.now.Add(time.Millisecond); w.now.Sub(epoch) > 20*time.Second {
				t.Fatalf("only %d packets after 20 s", i)
			}
		}
		wantNumbered(t, got, 0, 10000)
		if s := w.end[0].Stats(); s.Timeouts > 0 {
			t.Errorf("%+v", s)
		}
	}
}

// C's receiver does not open its window for packets that were lost. A flow
// without retransmission goes on after a second.
func TestShutWindowWithoutRetransmission(t *testing.T) {
	w := newWire(t, Config{})
	for range startWindow {
		if !w.send(0, nil) {
			t.Fatal("the start window is shut")
		}
	}
	if w.send(0, nil) {
		t.Fatal("sent beyond the window")
	}
	for w.now.Sub(epoch) < 1200*time.Millisecond && !w.send(0, nil) {
		w.tick(0)
		w.now = w.now.Add(10 * time.Millisecond)
	}
	if d := w.now.Sub(epoch); d < forceAt || d > forceAt+50*time.Millisecond {
		t.Errorf("goes on after %v", d)
	}
	if asked := w.end[0].Stats().Asked; asked < 3 || asked > 6 {
		t.Errorf("asked %d times", asked)
	}
}

func TestRetransmission(t *testing.T) {
	w := newWire(t, Config{Reliable: true})
	w.send(0, numbered(0))
	w.send(0, numbered(1))
	var at []time.Duration
	for w.now.Sub(epoch) < 20*time.Second {
		w.way[1] = nil
		w.tick(0)
		if len(w.way[1]) > 0 {
			if h, _ := w.next(1); h.Flags != data|runs {
				t.Errorf("retransmission: %+v", h)
			}
			at = append(at, w.now.Sub(epoch).Round(time.Second))
		}
		w.now = w.due[0].Add(-time.Millisecond)
		if w.tick(0); len(w.way[1]) > 0 {
			t.Fatalf("again too early, after %v", w.now.Sub(epoch))
		}
		w.now = w.due[0]
	}
	want := []time.Duration{1, 3, 7, 11, 15, 19}
	for i := range at {
		if i >= len(want) || at[i] != want[i]*time.Second {
			t.Fatalf("again at %v, want seconds %v", at, want)
		}
	}
	w.run(5 * time.Second)
	wantNumbered(t, w.read(1), 0, 2)
	if !w.end[0].Acknowledged() {
		t.Error("not acknowledged")
	}
}

// A sender gives up after r.
func TestGiveUp(t *testing.T) {
	w := newWire(t, Config{Reliable: true, Ours: true})
	w.send(0, nil)
	for w.err[0] == nil {
		if w.now.Sub(epoch) > maxRetrans+5*time.Second {
			t.Fatal("not given up")
		}
		w.tick(0)
		if !w.due[0].IsZero() {
			w.now = w.due[0]
		}
	}
	if w.now.Sub(epoch) < maxRetrans || !errors.Is(w.err[0], core.ErrFlowPeer) {
		t.Errorf("after %v: %v", w.now.Sub(epoch), w.err[0])
	}
	if w.send(0, nil) || w.end[0].CanSend(w.now, 1) {
		t.Error("sent on a flow that is down")
	}
}

// A window that is shut and about which nobody answers ends the flow too; one
// whose other end answers does not.
func TestShutWindow(t *testing.T) {
	for _, answers := range []bool{false, true} {
		w := newWire(t, Config{Reliable: true, Ours: true, Window: 64})
		for i := 0; w.send(0, numbered(i)) || w.now.Sub(epoch) < time.Second; i++ {
			w.run(30 * time.Millisecond)
		}
		if n := w.end[1].Stats().Ready; n != 64 {
			t.Fatalf("%d packets ready", n)
		}
		for w.now.Sub(epoch) < 300*time.Second && w.err[0] == nil {
			w.cut[0] = !answers
			w.run(100 * time.Millisecond)
		}
		if (w.err[0] == nil) != answers {
			t.Errorf("answers %v: %v after %v", answers, w.err[0], w.now.Sub(epoch))
		}
		if answers {
			w.read(1)
			w.run(time.Millisecond * 10)
			if !w.end[0].CanSend(w.now, 1) {
				t.Error("still shut after the process took all")
			}
		}
	}
}

// Between ours one lost packet goes again as soon as others after it have come.
func TestFastRetransmission(t *testing.T) {
	w := newWire(t, Config{Reliable: true, Ours: true})
	w.send(0, numbered(0))
	w.run(100 * time.Millisecond)
	for i := 1; i < 6; i++ {
		w.send(0, numbered(i))
	}
	w.way[1] = w.way[1][1:]
	start := w.now
	for w.end[1].Stats().Ready < 6 {
		w.run(time.Millisecond)
	}
	if d := w.now.Sub(start); d > 5*time.Millisecond {
		t.Errorf("took %v", d)
	}
	wantNumbered(t, w.read(1), 0, 6)
	if s := w.end[0].Stats(); s.Retransmitted != 1 || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}

// What is lost goes again no faster than congestion control lets it.
func TestRetransmissionIsHeldBack(t *testing.T) {
	w := newWire(t, Config{Reliable: true, Ours: true})
	w.send(0, numbered(0))
	w.run(100 * time.Millisecond)
	for i := 1; i <= initial; i++ {
		w.send(0, numbered(i))
	}
	w.way[1] = nil
	w.now = w.now.Add(2 * time.Millisecond)
	w.feed(0, head{Flags: ack | fc, Ack: w.end[0].snd.left, Window: w.end[0].snd.right & 0xffffff}, []byte{0, 7, 0, 10})
	w.end[0].cc.cwnd = 2
	if w.tick(0); len(w.way[1]) != 2 {
		t.Errorf("%d packets go again at once", len(w.way[1]))
	}
}

// One that came after it is enough, when the time for those that are late is over.
func TestLossTimer(t *testing.T) {
	w := newWire(t, Config{Reliable: true, Ours: true})
	w.send(0, numbered(0))
	w.run(100 * time.Millisecond)
	w.send(0, numbered(1))
	w.send(0, numbered(2))
	w.way[1] = w.way[1][1:]
	w.run(6 * time.Millisecond)
	wantNumbered(t, w.read(1), 0, 3)
	if s := w.end[0].Stats(); s.Retransmitted != 1 || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}

// The first packet of a new run is taken for one, however fast it is and however
// slow the last of the run before was.
func TestRunsAreApart(t *testing.T) {
	w := newWire(t, Config{}, 1000, 5)
	w.send(0, numbered(0))
	w.now = w.now.Add(testMPL)
	w.deliver(1)
	wantNumbered(t, w.read(1), 0, 1)
	for w.now = epoch; ; w.now = w.now.Add(10 * time.Millisecond) {
		before := w.now
		w.send(0, numbered(1))
		if h, _ := w.next(1); h.Seq == 5 {
			w.feed(1, h, numbered(1))
			break
		}
		w.end[0].snd = sender{run: true, seq: 1001, left: 1001, right: 1064, sent: 0}
		if w.now = before; w.now.Sub(epoch) > 200*time.Second {
			t.Fatal("no new run")
		}
	}
	wantNumbered(t, w.read(1), 1, 1)
}

// Who hears nothing for r has given up before the other end forgets what came:
// an acknowledgement after that is of another run.
func TestGiveUpBeforeTheOtherForgets(t *testing.T) {
	w := newWire(t, Config{Reliable: true, Ours: true})
	w.send(0, numbered(0))
	w.run(100 * time.Millisecond)
	w.send(0, numbered(1))
	w.send(0, numbered(2))
	w.end[1].Receive(w.now, w.way[1][1].b)
	w.tick(1)
	w.deliver(0)
	w.way = [2][]trip{}
	w.now = w.now.Add(131 * time.Second) // in which neither process ran
	h := head{Flags: ack | fc, Ack: w.end[0].snd.left + 1, Window: w.end[0].snd.right & 0xffffff}
	w.feed(0, h, nil)
	if w.tick(0); !errors.Is(w.err[0], core.ErrFlowPeer) || w.end[0].Acknowledged() {
		t.Errorf("%v, %+v", w.err[0], w.end[0].Stats())
	}
}

// One packet late, in another order, is no loss.
func TestDisorder(t *testing.T) {
	w := newWire(t, Config{Reliable: true, Ours: true})
	w.send(0, numbered(0))
	w.run(20 * time.Millisecond)
	n := 1
	var got [][]byte
	for range 200 {
		for range 2 {
			w.send(0, numbered(n))
			n++
		}
		if len(w.way[1]) == 2 {
			w.way[1][0], w.way[1][1] = w.way[1][1], w.way[1][0]
		}
		w.run(20 * time.Millisecond)
		got = append(got, w.read(1)...)
	}
	wantNumbered(t, got, 0, n)
	if s := w.end[0].Stats(); s.Retransmitted > 0 {
		t.Errorf("%+v", s)
	}
}

func TestEndOfStream(t *testing.T) {
	for _, reliable := range []bool{false, true} {
		w := newWire(t, Config{Reliable: reliable, Ours: true})
		w.send(0, numbered(0))
		if !w.end[0].CloseWrite(w.now, w.emit(0)) || w.send(0, nil) {
			t.Fatal("CloseWrite")
		}
		w.way[1] = w.way[1][:1] // the end is lost
		w.run(5 * time.Second)
		if w.end[1].End() {
			t.Error("the end before the last packet is taken")
		}
		wantNumbered(t, w.read(1), 0, 1)
		if !w.end[1].End() || !w.end[0].Acknowledged() {
			t.Errorf("reliable %v: end %v, acknowledged %v", reliable, w.end[1].End(), w.end[0].Acknowledged())
		}
		for i := range 3 { // the other direction goes on
			w.send(1, numbered(i))
		}
		w.run(time.Second)
		wantNumbered(t, w.read(0), 0, 3)
	}
}

func TestEndIsNotSaidToC(t *testing.T) {
	w := newWire(t, Config{Reliable: true})
	if !w.end[0].CloseWrite(w.now, w.emit(0)) || len(w.way[1]) > 0 {
		t.Error("a C peer gets a packet that it does not know")
	}
	w.feed(0, head{Flags: fin | runs, Seq: 1}, nil)
	if w.tick(0); w.end[0].End() || len(w.way[1]) > 0 {
		t.Error("a C peer has ended the stream")
	}
}

// Close tells what was taken and not acknowledged yet, as C does.
func TestCloseAcknowledges(t *testing.T) {
	w := newWire(t, Config{Reliable: true})
	w.feed(0, head{Flags: data | runs, Seq: 5}, []byte("x"))
	w.end[0].Close(w.now, w.emit(0))
	if h, _ := w.next(1); h != (head{Flags: ack, Ack: 6}) {
		t.Errorf("%+v", h)
	}
}

// A layer that is full loses nothing.
func TestLayerFull(t *testing.T) {
	w := newWire(t, Config{Reliable: true, Ours: true})
	w.full[0] = true
	if w.send(0, numbered(0)) {
		t.Fatal("sent")
	}
	w.full[0] = false
	w.send(0, numbered(0))
	w.deliver(1)
	w.send(1, numbered(9))
	w.full[0] = true
	w.deliver(0)
	if w.due[0].IsZero() || w.due[0].Sub(w.now) > 2*time.Millisecond {
		t.Errorf("the acknowledgement is due in %v", w.due[0].Sub(w.now))
	}
	w.full[0] = false
	w.run(time.Second)
	if !w.end[1].Acknowledged() {
		t.Error("never acknowledged")
	}
}

// Windows and sequence numbers wrap.
func TestWrap(t *testing.T) {
	for _, first := range []uint32{0xffffffff - 100, 0xffffff - 100, 0x7fffffff - 100} {
		for _, cfg := range []Config{{}, {Reliable: true}, {Reliable: true, Ours: true, Window: 512}} {
			w := newWire(t, cfg, first)
			var got [][]byte
			for i := 0; i < 1000; {
				if w.send(0, numbered(i)) {
					i++
				} else {
					w.run(20 * time.Millisecond)
					got = append(got, w.read(1)...)
				}
			}
			w.run(time.Second)
			wantNumbered(t, append(got, w.read(1)...), 0, 1000)
			if s := w.end[0].Stats(); s.Retransmitted > 0 {
				t.Errorf("%#x %+v: %+v", first, cfg, s)
			}
		}
	}
}

// What a peer must not do changes nothing.
func TestBadInput(t *testing.T) {
	newEnd := func(t *testing.T) *wire {
		w := newWire(t, Config{Reliable: true, Ours: true, Window: 256}, 1000)
		w.send(0, []byte("mine"))
		w.feed(0, head{Flags: data | runs | ack | fc, Seq: 5000, Ack: 1001, Window: 1001 + 100}, []byte("a"))
		w.read(0)
		w.tick(0)
		w.way = [2][]trip{}
		return w
	}
	tests := []struct {
		name string
		h    head
		p    string
		want func(before, after Stats) bool
	}{
		{"acknowledgement from the future", head{Flags: ack, Ack: 1002}, "", func(b, a Stats) bool { return a.Bad == b.Bad+1 && a.InFlight == 0 }},
		{"acknowledgement of long ago", head{Flags: ack, Ack: 1}, "", func(b, a Stats) bool { return a == b }},
		{"window backwards", head{Flags: fc, Window: 1050}, "", func(b, a Stats) bool { return a.PeerWindow == 100 }},
		{"window of another run", head{Flags: fc, Window: 1001 + 1<<20}, "", func(b, a Stats) bool { return a.PeerWindow == 100 }},
		{"DRF in mid-run, old", head{Flags: data | runs, Seq: 4000}, "x", func(b, a Stats) bool { return a.Duplicates == b.Duplicates+1 && a.Ready == 0 }},
		{"DRF in mid-run, far ahead", head{Flags: data | runs, Seq: 9000}, "x", func(b, a Stats) bool { return a.NoRoom == b.NoRoom+1 && a.Ready == 0 }},
		{"DRF in mid-run, next", head{Flags: data | runs, Seq: 5001}, "x", func(b, a Stats) bool { return a.Ready == 1 }},
		{"FIN below the edge", head{Flags: fin, Seq: 4999}, "", func(b, a Stats) bool { return a.Duplicates == b.Duplicates+1 }},
		{"FIN beyond the window", head{Flags: fin, Seq: 5001 + 256}, "", func(b, a Stats) bool { return a.NoRoom == b.NoRoom+1 }},
		{"at the right edge", head{Flags: data, Seq: 5001 + 256}, "x", func(b, a Stats) bool { return a.NoRoom == b.NoRoom+1 }},
		{"half the numbers ahead", head{Flags: data, Seq: 5001 + 1<<31 - 1}, "x", func(b, a Stats) bool { return a.NoRoom == b.NoRoom+1 }},
		{"fragment", head{Flags: data | firstFrag, Seq: 5001}, "x", func(b, a Stats) bool { return a.Bad == b.Bad+1 && a.Ready == 0 }},
		{"no flags", head{Seq: 5001}, "x", func(b, a Stats) bool { return a == b }},
		{"ranges of what was never sent", head{Flags: ack, Ack: 1001}, "\x00\x01\x00\x09", func(b, a Stats) bool { return a.Bad == b.Bad+1 }},
		{"ranges cut off", head{Flags: ack, Ack: 1001}, "\x00\x01\x00", func(b, a Stats) bool { return a == b }},
		{"range backwards", head{Flags: ack, Ack: 1001}, "\x00\x05\x00\x02", func(b, a Stats) bool { return a == b }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newEnd(t)
			before := w.end[0].Stats()
			w.feed(0, tt.h, []byte(tt.p))
			if after := w.end[0].Stats(); !tt.want(before, after) {
				t.Errorf("before %+v\nafter  %+v", before, after)
			}
			if w.end[0].End() {
				t.Error("the stream has ended")
			}
			w.run(time.Second)
			if s := w.end[0].Stats(); s.Ready == 0 { // and the flow goes on
				w.feed(0, head{Flags: data, Seq: 5001}, []byte("x"))
			}
			if p, ok := w.end[0].Head(); !ok || string(p) != "x" {
				t.Errorf("the next packet is %q", p)
			}
		})
	}
	t.Run("acknowledgement that takes back a range", func(t *testing.T) {
		w := newEnd(t)
		w.cut[0] = true
		for i := range 3 {
			w.send(0, numbered(i))
		}
		w.feed(0, head{Flags: ack, Ack: 1001}, []byte{0, 1, 0, 2})
		w.feed(0, head{Flags: ack, Ack: 1002}, nil)
		if s := w.end[0].Stats(); s.InFlight != 1 {
			t.Errorf("%+v", s)
		}
		w.run(5 * time.Second)
		if s := w.end[0].Stats(); s.Timeouts == 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("1 to 11 bytes", func(t *testing.T) {
		w := newEnd(t)
		for n := range HeadLen {
			w.end[0].Receive(w.now, make([]byte, n))
		}
		if s := w.end[0].Stats(); s.Bad != HeadLen {
			t.Errorf("%+v", s)
		}
	})
	t.Run("flood of rendez-vous", func(t *testing.T) {
		w := newEnd(t)
		for range 1000 {
			w.feed(0, head{Flags: ask}, nil)
		}
		w.tick(0)
		if len(w.way[1]) != 1 {
			t.Errorf("%d answers to what came together", len(w.way[1]))
		}
		if h, _ := w.next(1); h.Flags != fc || h.Window != 5001+256 {
			t.Errorf("answer %+v", h)
		}
	})
	t.Run("rendez-vous before a run", func(t *testing.T) {
		w := newWire(t, Config{Reliable: true})
		w.feed(0, head{Flags: ask}, nil)
		if w.tick(0); len(w.way[1]) > 0 {
			t.Error("a window where there is none")
		}
	})
	t.Run("data without a run", func(t *testing.T) {
		w := newWire(t, Config{Reliable: true})
		w.feed(0, head{Flags: data, Seq: 1}, []byte("x"))
		if s := w.end[0].Stats(); s.NoRun != 1 || s.Ready != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("data beyond the end", func(t *testing.T) {
		w := newEnd(t)
		w.feed(0, head{Flags: data, Seq: 5002}, []byte("y"))
		w.feed(0, head{Flags: fin, Seq: 5001}, nil)
		w.feed(0, head{Flags: data, Seq: 5003}, []byte("z"))
		if s := w.end[0].Stats(); s.Ready != 0 || !w.end[0].End() || w.end[0].rcv.bytes != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("a jump that is no gap", func(t *testing.T) {
		w := newWire(t, Config{})
		w.feed(0, head{Flags: data | runs, Seq: 5000}, []byte("a"))
		w.feed(0, head{Flags: data | runs, Seq: 5001 + 1<<20 + 1}, []byte("b"))
		w.feed(0, head{Flags: data | runs, Seq: 5003}, []byte("c"))
		if s := w.end[0].Stats(); s.Bad != 1 || s.Received != 2 || s.Skipped != 2 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("more bytes than Buffer", func(t *testing.T) {
		w := newWire(t, Config{Reliable: true, Ours: true, Window: maxWindow, Buffer: 1 << 20})
		for i := range uint32(100) {
			w.feed(0, head{Flags: data | runs, Seq: i + 1}, make([]byte, 60000))
			if w.end[0].rcv.bytes > 1<<20 {
				t.Fatalf("holds %d bytes", w.end[0].rcv.bytes)
			}
		}
		w = newWire(t, Config{Ours: true, Window: maxWindow, Buffer: 1 << 20})
		for i := range uint32(100) {
			w.feed(0, head{Flags: data | runs, Seq: i + 1}, make([]byte, 60000))
		}
		if w.end[0].rcv.bytes > 1<<20 {
			t.Fatalf("holds %d bytes", w.end[0].rcv.bytes)
		}
	})
}

// A gap holds up the acknowledgement of packets that came behind it. That is not
// their round trip, or each gap would make the next wait longer.
func TestGapIsNoRoundTrip(t *testing.T) {
	w := newWire(t, Config{Reliable: true})
	for n := range 20 {
		for range 4 {
			if !w.send(0, numbered(0)) {
				t.Fatalf("packet %d may not be sent", n)
			}
		}
		if n > 0 {
			w.way[1] = w.way[1][1:] // the first is lost
		}
		w.run(2 * time.Second)
		w.read(1)
		w.run(20 * time.Millisecond)
	}
	s := w.end[0].Stats()
	if s.Retransmitted < 19 || s.InFlight > 0 {
		t.Fatalf("the gaps are not closed: %+v", s)
	}
	if s.RTT > 50*time.Millisecond {
		t.Errorf("the round trip is thought to be %v, it is 12 ms", s.RTT)
	}
}
