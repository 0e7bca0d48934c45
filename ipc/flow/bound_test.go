package flow

import (
	"errors"
	"strings"
	"testing"

	"o7s/core"
	"o7s/ipc/internal/testkit"
)

// On a flow with bounds Write cuts, and what is larger is refused with the
// number.
func TestBound(t *testing.T) {
	a, b := pair(t, MinRing)
	a.Bound(1000, 400)
	if n, err := a.Write(testkit.Packet(1000, 1)); n != 1000 || err != nil {
		t.Fatal(n, err)
	}
	buf := make([]byte, core.MaxPacket)
	for _, want := range []int{400, 400, 200} {
		if n, err := b.ReadPacket(buf); n != want || err != nil {
			t.Fatalf("%d bytes, %v; want %d", n, err, want)
		}
	}
	if err := a.WritePacket(testkit.Packet(1000, 1)); err != nil {
		t.Fatal(err)
	}
	if n, err := b.ReadPacket(buf); n != 1000 || err != nil {
		t.Fatal(n, err)
	}
	large := testkit.Packet(1001, 1)
	_, batch := a.WriteBatch([][]byte{large})
	_, lent := a.Reserve(1001)
	for what, err := range map[string]error{"WritePacket": a.WritePacket(large), "TryWritePacket": a.TryWritePacket(large), "WriteBatch": batch, "Reserve": lent} {
		if !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), "1000") {
			t.Errorf("%s of 1001 bytes: %v", what, err)
		}
	}
	if a.MaxPacket() != 1000 || b.MaxPacket() != core.MaxPacket {
		t.Errorf("the largest packets are %d and %d", a.MaxPacket(), b.MaxPacket())
	}
}
