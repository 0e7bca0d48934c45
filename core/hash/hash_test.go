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
	}
	for _, tt := range tests {
		h := tt.alg.Sum(tt.name)
		if h.String() != tt.want || len(h) != tt.alg.Size() {
			t.Errorf("%v of %q: %v, %d bytes; want %v, %d bytes", tt.alg, tt.name, h, len(h), tt.want, tt.alg.Size())
		}
	}
}

func TestParse(t *testing.T) {
	for _, a := range All() {
		if got, err := Parse(a.String()); err != nil || got != a {
			t.Errorf("Parse(%v): %v, %v", a, got, err)
		}
	}
	for _, bad := range []string{"", "sha3_256", "SHA3", "MD5"} {
		if _, err := Parse(bad); !errors.Is(err, core.ErrUsage) {
			t.Errorf("Parse(%q): %v, want ErrUsage", bad, err)
		}
	}
	if Algorithm(77).Valid() {
		t.Error("algorithm 77 is valid")
	}
}
