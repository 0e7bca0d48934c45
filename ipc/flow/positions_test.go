package flow

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestPositions counts what a real flow carries: a packet of 100 bytes takes 112
// bytes of ring.
func TestPositions(t *testing.T) {
	kit, err := NewKit(DefaultRing)
	if err != nil {
		t.Fatal(err)
	}
	defer kit.Close()
	var ends [2]*End
	for side := range ends {
		if ends[side], err = kit.Open(side); err != nil {
			t.Fatal(err)
		}
		defer ends[side].Close()
	}
	const packet, record = 100, 112
	p := make([]byte, packet)
	for side := range ends {
		for range 3 + side {
			if err := ends[side].WritePacket(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := [2]Positions{{Written: 3 * record}, {Written: 4 * record}}
	if got, err := kit.Positions(); err != nil || got != want {
		t.Errorf("got %+v, error %v, want %+v", got, err, want)
	}
}

// Nonsense in the header is nonsense in the figures, and no more.
func TestPositionsOfAHostilePeer(t *testing.T) {
	kit, err := NewKit(DefaultRing)
	if err != nil {
		t.Fatal(err)
	}
	defer kit.Close()
	junk := make([]byte, 4096)
	for i := range junk {
		junk[i] = 0xff
	}
	if _, err := unix.Pwrite(kit.Mem, junk, 0); err != nil {
		t.Fatal(err)
	}
	d, err := kit.Positions()
	if err != nil || d[0].Written != ^uint64(0) || d[0].Written < d[0].Read {
		t.Errorf("got %+v, error %v", d, err)
	}
	if _, err := (&Kit{Mem: -1}).Positions(); err == nil {
		t.Error("no error for a bad descriptor")
	}
}
