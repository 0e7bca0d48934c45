package flow

import (
	"bytes"
	"testing"

	"o7s/core"
)

func TestIdleRingGivesItsMemoryBack(t *testing.T) {
	a, b, held := metered(t)
	p, q := make([]byte, core.MaxPacket), make([]byte, core.MaxPacket)
	send := func(round int) {
		packets := 40 - round // more than half the ring, and less than fitted before
		for i := range packets {
			for j := range p {
				p[j] = byte(i + j + round)
			}
			if err := a.WritePacket(p); err != nil {
				t.Fatal(err)
			}
		}
		for i, used := range []bool{true, false} {
			if full := held(); a.Reclaim() != used || held() != full {
				t.Fatalf("round %d, look %d: reported %v, or gave back what was not read", round, i, !used)
			}
		}
		for i := range packets {
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
		b.Reclaim() // publishes that all is read, which no Read does that does not wait
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

func TestReclaimKeepsWhatIsLent(t *testing.T) {
	a, b := pair(t, MinRing)
	a.WritePacket([]byte("before"))
	b.ReadPacket(make([]byte, 10))
	b.Reclaim() // which tells a that it has read all
	p, err := a.Reserve(4)
	if err != nil {
		t.Fatal(err)
	}
	copy(p, "lent")
	for range 3 {
		if a.Reclaim() {
			t.Error("reported memory that is lent")
		}
	}
	if err := a.Commit(4); err != nil {
		t.Fatal(err)
	}
	q := make([]byte, 10)
	if n, err := b.ReadPacket(q); string(q[:n]) != "lent" || err != nil {
		t.Errorf("%q, %v", q[:n], err)
	}
}
