package irmd

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
)

// TestCheckIsLinear: to check eight times the tables costs eight times the
// memory, and so the time, not 64 times.
func TestCheckIsLinear(t *testing.T) {
	cost := func(n int) float64 {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "[name.n%d]\nprog = [\"/bin/true\"]\nargs = [\"a\"]\n[local.i%d]\nbootstrap = \"l%d\"\nreg = [\"n%d\"]\n", i, i, i, i)
		}
		file := filepath.Join(t.TempDir(), "f.toml")
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		items, err := readConfig(t.Context(), file, []ipcp.Type{local.Type})
		runtime.ReadMemStats(&after)
		if err != nil || len(items) != 2*n {
			t.Fatalf("%d items, error %v", len(items), err)
		}
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	if short, long := cost(500), cost(4000); long > 16*short {
		t.Errorf("8 times the text costs %.1f times the memory", long/short)
	}
}
