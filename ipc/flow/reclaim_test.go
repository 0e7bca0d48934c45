package flow

import (
	"bytes"
	"testing"
	"time"

	"o7s/core"
)

func TestIdleRingGivesItsMemoryBack(t *testing.T) {
	a, b, held := metered(t)
	p, q := make([]byte, core.MaxPacket), make([]byte, core.MaxPacket)
	send := func(round int) {
		for i := range 40 { // more than half the ring, before anything is read
			for j := range p {
				p[j] = byte(i + j + round)
			}
			if err := a.WritePacket(p); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if a.Reclaim() {
				t.Fatal("gave back what was not read")
			}
		}
		for i := range 40 {
			n, err := b.ReadPacket(q)
			if err != nil {
				t.Fatal(err)
			}
			for j := range p {
				p[j] = byte(i + j + round)
			}
			if !bytes.Equal(q[:n], p) {
				t.Fatalf("round %d: packet %d differs", round, i)
			}
		}
		// Who has read all says so, at the latest as it waits.
		b.SetReadDeadline(past)
		b.ReadPacket(q)
		b.r.mu.Lock()
		b.r.ring.Publish()
		b.r.mu.Unlock()
		b.SetReadDeadline(time.Time{})
	}
	for round := range 3 {
		send(round)
		busy := held()
		if !a.Reclaim() {
			t.Errorf("round %d: kept what was idle since the last look", round)
		}
		if idle := held(); busy < 2<<20 || idle > 64<<10 {
			t.Errorf("round %d: %d KiB held when busy, %d KiB when idle", round, busy>>10, idle>>10)
		}
		if a.Reclaim() {
			t.Error("gave back what it had not")
		}
	}
	a.Close()
	if a.Reclaim() {
		t.Error("gave back the memory of a closed end")
	}
}
