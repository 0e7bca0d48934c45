package lossy

import (
	"slices"
	"testing"

	"o7s/core/ipcp"
)

// sink keeps the first byte of each packet.
type sink struct {
	ipcp.Flow
	got []byte
}

func (s *sink) WritePacket(p []byte) error { s.got = append(s.got, p[0]); return nil }
func (s *sink) CloseWrite() error          { return nil }

func TestFlow(t *testing.T) {
	s := &sink{}
	f := &flow{Flow: s}
	var want []byte
	p := make([]byte, 1)
	for n := range 2*Every - 9 {
		p[0] = byte(n)
		f.WritePacket(p)
		switch n % Every {
		case Lost, Late:
		case Late + 1:
			want = append(want, byte(n), byte(n-1))
		default:
			want = append(want, byte(n))
		}
	}
	f.CloseWrite()
	want = append(want, Every+Late) // which nothing followed
	if !slices.Equal(s.got, want) {
		t.Errorf("%d\nwant:\n%d", s.got, want)
	}
}
