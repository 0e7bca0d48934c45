package lossy

import (
	"slices"
	"testing"

	"o7s/core/ipcp/ipcptest"
)

func TestSuite(t *testing.T) { ipcptest.RunWire(t, Type) }

func TestPass(t *testing.T) {
	d := &direction{}
	var got, want []byte
	for n := range 2*Every - 9 {
		d.pass([]byte{byte(n)}, func(p []byte) { got = append(got, p[0]) })
		switch n % Every {
		case Lost, Late:
		case Late + 1:
			want = append(want, byte(n), byte(n-1))
		default:
			want = append(want, byte(n))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d\nwant:\n%d", got, want)
	}
}
