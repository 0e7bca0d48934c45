package logs

import (
	"io"
	"testing"

	"o7s/core"
)

// BenchmarkLine writes a line of an allocation.
func BenchmarkLine(b *testing.B) {
	log := New(Options{Writer: io.Discard}).With("ipcpd/ipcp")
	h := core.Hash("\xf6\xc9\x3f\xf2")
	b.ReportAllocs()
	for b.Loop() {
		log.Infof("Finished allocating flow %d to %v: %d.", 0, h, 0)
	}
}
