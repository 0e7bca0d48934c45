package stage_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/ipc/flow"
	"o7s/ipc/internal/stage"
)

func TestNetConnSealed(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		w := rough(true)
		w.cipher = crypt.AES256GCM
		a, b := w.join(t, core.QoSData)
		return conn{a}, conn{b}, func() { a.Discard(); b.Discard() }, nil
	})
}

// What was written comes, all of it, over a wire that loses, repeats, disorders and
// changes packets; and nothing of it can be seen on the wire.
func TestReliableSealed(t *testing.T) {
	t.Parallel()
	for _, c := range []crypt.Cipher{crypt.AES128GCM, crypt.ChaCha20, crypt.AES256CTR} {
		for _, ours := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v ours %v", c, ours), func(t *testing.T) {
				t.Parallel()
				w := hostile(ours)
				w.cipher = c
				if c.Authentic() {
					w.hurt = 0.05
				}
				w.look = func(_ int, p []byte) {
					if bytes.Contains(p, []byte("secret")) {
						t.Error("what was written can be seen on the wire")
					}
				}
				data := bytes.Repeat([]byte("a secret. "), 1<<17)
				a, b := w.join(t, core.QoSData)
				sum := make(chan []byte, 1)
				go func() {
					h := sha256.New()
					io.CopyN(h, b, int64(len(data)))
					sum <- h.Sum(nil)
				}()
				if n, err := a.Write(data); n != len(data) || err != nil {
					t.Fatalf("wrote %d bytes, %v", n, err)
				}
				want := sha256.Sum256(data)
				select {
				case got := <-sum:
					if !bytes.Equal(got, want[:]) {
						t.Error("other bytes came than were sent")
					}
				case <-time.After(patience):
					t.Fatal("it did not come")
				}
				if c.Authentic() && b.Damaged() == 0 {
					t.Error("no packet was refused on a wire that changes them")
				}
			})
		}
	}
}

// Without order too, and with the check outside: a packet comes once at most
// between ours, whatever the wire does.
func TestRawSealed(t *testing.T) {
	for _, qos := range []core.QoS{core.QoSRaw, core.QoSRawNoErrors, core.QoSBest} {
		w := &wire{ours: true, dup: 1, hurt: 0.2, cipher: crypt.AES256GCM}
		a, b := w.join(t, qos)
		over := crypt.AES256GCM.Overhead()
		if qos.InOrder {
			over += 12
		} else if qos.BER == 0 {
			over += 4
		}
		if a.MaxPacket() != path.Max-over {
			t.Errorf("a packet may have %d bytes", a.MaxPacket())
		}
		for i := range 50 {
			must(t, a.WritePacket(fmt.Append(nil, i)))
		}
		a.Close()
		seen := make(map[string]bool)
		p := make([]byte, 100)
		for {
			must(t, b.SetReadDeadline(time.Now().Add(patience)))
			n, err := b.ReadPacket(p)
			if err != nil {
				if err != io.EOF && !errors.Is(err, core.ErrFlowDown) {
					t.Error(err)
				}
				break
			}
			if seen[string(p[:n])] {
				t.Errorf("%s comes twice", p[:n])
			}
			seen[string(p[:n])] = true
		}
		if len(seen) < 20 {
			t.Errorf("%d of 50 packets came", len(seen))
		}
	}
}

// An encrypted flow is complete only if the other end says so under its key. An attacker
// on the way can end the flow, and can't make it look complete.
func TestSealedEnd(t *testing.T) {
	for _, qos := range []core.QoS{core.QoSRaw, core.QoSBest, core.QoSData} {
		for _, c := range []crypt.Cipher{crypt.AES256GCM, crypt.AES256CTR} {
			for _, how := range []string{"Close", "CloseWrite", "cut"} {
				w := &wire{ours: true, cipher: c}
				a, b := w.join(t, qos)
				must(t, a.WritePacket([]byte("packet")))
				p := make([]byte, 10)
				must(t, b.SetReadDeadline(time.Now().Add(patience)))
				n, err := b.ReadPacket(p)
				if string(p[:n]) != "packet" || err != nil {
					t.Fatal(string(p[:n]), err)
				}
				switch how {
				case "Close":
					a.Close()
				case "CloseWrite":
					must(t, a.CloseWrite())
				case "cut":
					must(t, w.ends[1].CloseWrite())
				}
				_, err = b.ReadPacket(p)
				whole := how != "cut" || !c.Authentic() && qos.Loss != 0
				if whole && err != io.EOF || !whole && !errors.Is(err, core.ErrFlowDown) {
					t.Errorf("%v, %v, %s: %v", qos, c, how, err)
				}
			}
		}
	}
}

func BenchmarkSealed(b *testing.B) {
	for _, c := range []crypt.Cipher{0, crypt.AES256GCM} {
		b.Run(fmt.Sprint(c), func(b *testing.B) {
			w := &wire{ours: true, cipher: c}
			from, to := w.join(b, core.QoSData)
			done := make(chan error, 1)
			n := b.N
			go func(to *stage.Stage) {
				p := make([]byte, 2000)
				for range n {
					if _, err := to.ReadPacket(p); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}(to)
			p := make([]byte, 1300)
			b.SetBytes(int64(len(p)))
			b.ResetTimer()
			for range n {
				if err := from.WritePacket(p); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// A program that ends a flow right after it has filled the ring ends it in order: all
// that it wrote comes, and then the end.
func TestSealedEndOfAFullRing(t *testing.T) {
	for _, qos := range []core.QoS{core.QoSRaw, core.QoSRawNoErrors} {
		for _, how := range []string{"Close", "CloseWrite"} {
			for size := 1; size < 2000; size += 333 {
				gate := make(chan struct{})
				w := &wire{ours: true, ring: flow.MinRing, cipher: crypt.AES256GCM}
				w.look = func(int, []byte) { <-gate }
				a, b := w.join(t, qos)
				sent := 0
				for ; ; sent++ {
					if err := a.TryWritePacket(make([]byte, size)); err != nil {
						break
					}
				}
				if how == "Close" {
					a.Close()
				} else {
					must(t, a.CloseWrite())
				}
				closed := make(chan error, 1)
				go func() {
					p := make([]byte, size)
					for n := 0; ; n++ {
						if _, err := b.ReadPacket(p); err != nil {
							if n != sent { // the ring there has as much room
								err = fmt.Errorf("%d of %d packets come: %w", n, sent, err)
							}
							closed <- err
							return
						}
					}
				}()
				close(gate)
				if err := <-closed; err != io.EOF {
					t.Errorf("%v, packets of %d bytes, %s: %v", qos, size, how, err)
				}
			}
		}
	}
}

// A packet that finds no room uses up no number: the numbers on the wire follow each
// other, however often a program tries.
func TestFullRingTakesNoNumber(t *testing.T) {
	for _, qos := range []core.QoS{core.QoSRaw, core.QoSRawNoErrors} {
		gate := make(chan struct{})
		numbers := make(chan uint64, 1<<16)
		w := &wire{ours: true, ring: flow.MinRing, cipher: crypt.AES256GCM}
		w.look = func(from int, p []byte) {
			if from == 0 {
				<-gate
				numbers <- binary.BigEndian.Uint64(p[4:12]) & (1<<48 - 1)
			}
		}
		a, _ := w.join(t, qos)
		sent, tries := 0, 0
		for tries < 1000 {
			switch err := a.TryWritePacket(make([]byte, 1000)); {
			case err == nil:
				sent++
			case errors.Is(err, flow.ErrFull):
				tries++
			default:
				t.Fatal(err)
			}
		}
		close(gate)
		must(t, a.WritePacket([]byte("last")))
		for want := range sent + 1 {
			if got := <-numbers; got != uint64(want) {
				t.Fatalf("%v: the packet after %d has the number %d", qos, want, got)
			}
		}
	}
}
