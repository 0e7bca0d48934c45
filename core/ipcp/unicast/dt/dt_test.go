package dt

import (
	"bytes"
	"testing"

	"o7s/core/wiretest"
)

const root = "../../../.."

func captured(t testing.TB) (all [][]byte) {
	for _, file := range []string{"unicast-over-dix.pcap", "unicast-dix-misc.pcap"} {
		for _, f := range wiretest.DixFrames(t, root, file) {
			if f.EID == 65 && len(f.Payload) >= HeaderLen && f.Payload[0] != 0x0a {
				all = append(all, f.Payload)
			}
		}
	}
	return all
}

func TestCaptures(t *testing.T) {
	all := captured(t)
	if len(all) < 20 {
		t.Fatalf("saw %d packets", len(all))
	}
	for _, p := range all {
		h, err := Parse(p)
		if err != nil {
			t.Fatal(err)
		}
		var b [HeaderLen]byte
		if h.Put(&b); !bytes.Equal(b[:], p[:HeaderLen]) {
			t.Errorf("%x is encoded as %x", p[:HeaderLen], b)
		}
		if h.Dst != 0x6e39e60c && h.Dst != 0xa0ce5d4e || h.TTL != 60 || h.Cube != 0 || h.ECN != 0 {
			t.Errorf("%x is %+v", p, h)
		}
	}
	if h, _ := Parse([]byte("\x0c\xe6\x39\x6e\x00\x3c\x00\x42\x00\x00\x00\x82\xc9\xa9\x35")); h.EID != 0x35a9c98200000042 {
		t.Errorf("the endpoint id is %x", h.EID)
	}
}

func TestShortPackets(t *testing.T) {
	for n := range HeaderLen {
		if h, err := Parse(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken for %+v", n, h)
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, p := range captured(f) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if h, err := Parse(p); err == nil {
			var b [HeaderLen]byte
			if h.Put(&b); !bytes.Equal(b[:], p[:HeaderLen]) {
				t.Errorf("%x is encoded as %x", p, b)
			}
		}
	})
}

func TestTable(t *testing.T) {
	a, b, c := &Hop{Addr: 1}, &Hop{Addr: 2}, &Hop{Addr: 3}
	table := Table{9: {Hops: []*Hop{a, b}}, 8: {Hops: []*Hop{a, b, c}, Spread: true}}
	for range 2 {
		if table.Next(9) != a || table.Next(7) != nil {
			t.Error("the first choice is not taken")
		}
	}
	seen := make(map[*Hop]int)
	for range 30 {
		seen[table.Next(8)]++
	}
	if seen[a] != 10 || seen[b] != 10 || seen[c] != 10 {
		t.Errorf("packets are spread as %v", seen)
	}
	a.SetDown()
	if table.Next(9) != b {
		t.Error("the second choice is not taken where the first is down")
	}
	for range 10 {
		if h := table.Next(8); h != b && h != c {
			t.Errorf("packets go to %+v, which is down", h)
		}
	}
	b.SetDown()
	if table.Next(9) != nil || table.Next(8) != c {
		t.Error("a hop that is down is taken")
	}
}
