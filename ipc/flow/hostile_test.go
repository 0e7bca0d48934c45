package flow

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/ring"
	"o7s/ipc/internal/shm"
)

// What is against the rules is tested in package ring; here, what follows.
func TestBrokenRulesPoisonBothDirections(t *testing.T) {
	for name, do := range map[string]func(peer []byte, bell int, a *End) error{
		"reading": func(peer []byte, bell int, a *End) error {
			peer[1024+3] = 1 // wpos of direction 1, far away
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
			peer[1024+3] = 1
			shm.Ring(bell)
			return <-done
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := NewKit(MinRing)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			a, err := k.Open(0)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			mem, err := unix.Mmap(k.Mem, 0, ring.Bytes(MinRing), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(mem)
			wantErr(t, "first", do(mem, k.Bell[1], a), core.ErrFlowPeer)
			for n, call := range reads {
				wantErr(t, n, call(a), core.ErrFlowPeer)
			}
			for n, call := range writes {
				wantErr(t, n, call(a), core.ErrFlowPeer)
			}
			a.Close()
			_, err = a.Read(make([]byte, 1))
			wantErr(t, "after Close", err, core.ErrClosed)
		})
	}
}
