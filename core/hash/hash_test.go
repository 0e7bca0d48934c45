package hash

import (
	"errors"
	"testing"

	"o7s/core"
)

// The first vector is Tutorial 01's; the others are of NIST's examples for
// the message of 0 bits (FIPS 202).
func TestSum(t *testing.T) {
	tests := []struct {
		alg        Algorithm
		name, want string
	}{
		{SHA3_256, "oping-server", "f6c93ff2"},
		{SHA3_224, "", "6b4e0342"},
		{SHA3_256, "", "a7ffc6f8"},
		{SHA3_384, "", "0c63a75b"},
		{SHA3_512, "", "a69f73cc"},
		{MD5, "oping.srv", "8eee840a"}, // seen on the wire
	}
	for _, tt := range tests {
		h := tt.alg.Sum(tt.name)
		if h.String() != tt.want || len(h) != tt.alg.Size() {
			t.Errorf("%v of %q: %v, %d bytes; want %v, %d bytes", tt.alg, tt.name, h, len(h), tt.want, tt.alg.Size())
		}
	}
}

func TestParse(t *testing.T) {
	for a := Algorithm(0); a.Valid(); a++ {
		if got, err := Parse(a.String()); err != nil || got != a {
			t.Errorf("Parse(%v): %v, %v", a, got, err)
		}
	}
	for _, bad := range []string{"", "sha3_256", "SHA3", "md5"} {
		if _, err := Parse(bad); !errors.Is(err, core.ErrUsage) {
			t.Errorf("Parse(%q): %v, want ErrUsage", bad, err)
		}
	}
	if Algorithm(77).Valid() {
		t.Error("algorithm 77 is valid")
	}
}

// The numbers are those of the C prototype; 4 is no directory hash.
func TestWire(t *testing.T) {
	want := map[Algorithm]uint32{SHA3_224: 0, SHA3_256: 1, SHA3_384: 2, SHA3_512: 3, MD5: 5}
	for a := Algorithm(0); a.Valid(); a++ {
		if w, ok := want[a]; !ok || a.Wire() != w {
			t.Errorf("%v is %d on the wire, want %d", a, a.Wire(), w)
		}
		if got, err := FromWire(a.Wire()); err != nil || got != a {
			t.Errorf("%d is %v, error %v, want %v", a.Wire(), got, err, a)
		}
	}
	for _, n := range []uint32{4, 6, 1 << 31} {
		if _, err := FromWire(n); !errors.Is(err, core.ErrUsage) {
			t.Errorf("hash %d: error %v, want ErrUsage", n, err)
		}
	}
}
