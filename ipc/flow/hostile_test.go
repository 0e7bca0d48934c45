package flow

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/ring"
	"o7s/ipc/internal/shm"
)

// Package ring tests what breaks the rules. This tests what the end does then.
func TestBrokenRulesPoisonBothDirections(t *testing.T) {
	for name, do := range map[string]func(peer []byte, bell int, a *End) error{
		"reading": func(peer []byte, bell int, a *End) error {
			badHeader(peer)
			_, err := a.Read(make([]byte, 1))
			return err
		},
		"writing": func(peer []byte, bell int, a *End) error {
			peer[128+6] = 1 // rpos of direction 0
			for {
				if err := a.TryWritePacket(make([]byte, 1000)); err != nil {
					return err
				}
			}
		},
		"asleep": func(peer []byte, bell int, a *End) error {
			done := make(chan error)
			go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
			asleep(t, &a.r.half)
			for peer[1024+256] == 0 { // rwait: it may look once more
				runtime.Gosched()
			}
			badHeader(peer)
			shm.Notify(bell)
			return <-done
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, mem, bell := hostile(t)
			wantErr(t, "first", do(mem, bell, a), core.ErrCorrupt)
			for n, call := range reads {
				wantErr(t, n, call(a), core.ErrCorrupt)
			}
			for n, call := range writes {
				wantErr(t, n, call(a), core.ErrCorrupt)
			}
			a.Close()
			_, err := a.Read(make([]byte, 1))
			wantErr(t, "after Close", err, core.ErrClosed)
		})
	}
}

// badHeader writes a first record of direction 1 that none can be.
func badHeader(peer []byte) {
	peer[4096+MinRing+7] = 1 // its length
	peer[1024] = 16          // wpos: there is one
}

// hostile returns an end, the memory and the bell that its peer has.
func hostile(t testing.TB) (a *End, mem []byte, bell int) {
	t.Helper()
	k, err := NewKit(MinRing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	a, err = k.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	mem, err = unix.Mmap(k.Mem, 0, ring.Bytes(MinRing), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return a, mem, k.Bell[1]
}

// A peer that floods the bell can only delay its own flow: once the queue is full,
// its bytes are refused. Deadlines and Close work as always.
func TestFloodedBellDelaysOnlyThePeer(t *testing.T) {
	for _, size := range []int{1, 4096} {
		a, _, bell := hostile(t)
		fill(t, a)
		stop := make(chan bool)
		var wg sync.WaitGroup
		wg.Go(func() {
			junk := make([]byte, size)
			for {
				select {
				case <-stop:
					return
				default:
					unix.SendmsgN(bell, junk, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
				}
			}
		})
		for range 20 {
			a.SetDeadline(time.Now().Add(time.Millisecond))
			_, err := a.Read(make([]byte, 10))
			wantErr(t, "Read", err, core.ErrTimeout)
			wantErr(t, "Write", a.WritePacket(make([]byte, 5000)), core.ErrTimeout)
		}
		a.SetDeadline(time.Time{})
		done := make(chan error)
		go func() { _, err := a.Read(make([]byte, 10)); done <- err }()
		asleep(t, &a.r.half)
		a.Close()
		wantErr(t, "Read", <-done, core.ErrClosed)
		close(stop)
		wg.Wait()
	}
	// What the flood left is not worked through over and over.
	a, _, bell := hostile(t)
	for {
		if _, err := unix.SendmsgN(bell, make([]byte, 4096), nil, nil, unix.MSG_DONTWAIT); err != nil {
			break
		}
	}
	a.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := a.Read(make([]byte, 10))
	wantErr(t, "Read", err, core.ErrTimeout)
	if n := a.bell.polls.Load(); n > 10 {
		t.Errorf("%d looks in 50 ms while nothing changed", n)
	}
}

func TestHalfShutBellIsTheEnd(t *testing.T) {
	for name, how := range map[string]int{"it rings no more": unix.SHUT_WR, "both": unix.SHUT_RDWR} {
		t.Run(name, func(t *testing.T) {
			a, _, bell := hostile(t)
			fill(t, a)
			done := make(chan error)
			go func() { _, err := a.Read(make([]byte, 1)); done <- err }()
			go func() { done <- a.WritePacket(make([]byte, 5000)) }()
			asleep(t, &a.r.half)
			asleep(t, &a.w.half)
			unix.Shutdown(bell, how)
			wantErr(t, "first", <-done, core.ErrFlowDown)
			wantErr(t, "second", <-done, core.ErrFlowDown)
		})
	}
	t.Run("it hears no more", func(t *testing.T) {
		a, mem, bell := hostile(t)
		unix.Shutdown(bell, unix.SHUT_RD)
		mem[256] = 1 // it claims to sleep, so that a wakes it
		a.Write([]byte("x"))
		wantErr(t, "Write", a.WritePacket([]byte("x")), core.ErrFlowDown)
	})
}

// A peer cannot send descriptors through the bell. Where the kernel allows it, before
// Linux 6.16, they are not received.
func TestDescriptorsOnTheBellAreDropped(t *testing.T) {
	a, _, bell := hostile(t)
	if _, err := unix.GetsockoptInt(bell, unix.SOL_SOCKET, unix.SO_PASSRIGHTS); err == nil {
		if err := unix.Sendmsg(bell, []byte{1}, unix.UnixRights(bell), nil, 0); err != unix.EPERM {
			t.Errorf("a descriptor is sent: %v", err)
		}
		return
	}
	before := held()
	for range 100 {
		if err := unix.Sendmsg(bell, []byte{1}, unix.UnixRights(bell), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 30 {
		a.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
		a.Read(make([]byte, 1))
	}
	a.SetReadDeadline(time.Time{})
	if after := held(); after[0] > before[0]+3 { // the poller's own
		t.Errorf("%d descriptors, then %d", before[0], after[0])
	}
}

// Whatever is in the memory, every call returns, and nothing is touched that
// is not the flow's.
func TestEveryCallSurvivesAScribblingPeer(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		a, mem, bell := hostile(t)
		a.SetDeadline(time.Now().Add(30 * time.Millisecond))
		stop := make(chan bool)
		var wg, peer sync.WaitGroup
		peer.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(round), 7))
			word := func(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[at])) }
			var pos uint64 // in direction 1, which a reads
			head := func(pos uint64) *atomic.Uint64 { return word(4096 + MinRing + int(pos%MinRing)) }
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Mostly a good packet, so that a gets far, then one that
				// is not.
				n := 1 + rnd.Uint64N(3000)
				switch rnd.IntN(400) {
				case 0:
					head(pos).Store(rnd.Uint64())
				case 1:
					word(1024).Add(rnd.Uint64N(1 << 20)) // wpos
				case 2:
					word(128).Store(rnd.Uint64N(1<<20) &^ 7)
				case 3:
					word(rnd.IntN(256) * 8).Store(rnd.Uint64())
				default:
					next, h := pos+(n+15)&^7, n
					if used := pos - word(1024+128).Load(); used > MinRing/2 {
						break
					} else if pos%MinRing+n+16 > MinRing {
						next, h = pos+MinRing-pos%MinRing, 0xffffffff
					}
					head(next).Store(0)
					head(pos).Store(h)
					pos = next
					word(1024).Store(pos)
					word(128).Store(word(0).Load()) // all is read
				}
				shm.Notify(bell)
			}
		})
		for _, calls := range []map[string]func(*End) error{reads, writes} {
			for _, call := range calls {
				wg.Go(func() {
					for range 2000 {
						if err := call(a); errors.Is(err, core.ErrCorrupt) || errors.Is(err, core.ErrTimeout) {
							return
						}
						a.Release()
						a.Commit(1)
						a.Counters()
					}
				})
			}
		}
		wg.Wait()
		close(stop)
		peer.Wait()
		a.Close()
	}
}

// A write position without a packet keeps no reader awake, nor hides a death.
func TestPositionWithoutAPacketIsNoNews(t *testing.T) {
	a, mem, bell := hostile(t)
	mem[1024] = 16 // wpos
	done := make(chan error)
	go func() { _, err := a.Read(make([]byte, 10)); done <- err }()
	asleep(t, &a.r.half)
	unix.Shutdown(bell, unix.SHUT_RDWR)
	wantErr(t, "Read", <-done, core.ErrFlowDown)
}

// A ring full of packets of a peer that has gone is read once or twice, not for
// ever.
func TestFullRingIsNotReadForEver(t *testing.T) {
	a, mem, bell := hostile(t)
	const record = 16
	for at := 4096 + MinRing; at < 4096+2*MinRing; at += record {
		mem[at] = 8
	}
	(*atomic.Uint64)(unsafe.Pointer(&mem[1024])).Store(MinRing)
	unix.Shutdown(bell, unix.SHUT_RDWR)
	p := make([]byte, core.MaxPacket)
	for range 2*MinRing/record + 1 {
		if _, err := a.ReadPacket(p); err != nil {
			wantErr(t, "ReadPacket", err, core.ErrCorrupt)
			return
		}
	}
	t.Error("it is read round and round")
}
