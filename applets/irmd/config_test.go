package irmd

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
)

// TestCheckIsLinear: to check eight times the tables costs eight times the
// memory and the processor's time, not 64 times.
func TestCheckIsLinear(t *testing.T) {
	cost := func(n int, table string) (memory, seconds float64) {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.ReplaceAll(table, "#", strconv.Itoa(i)))
		}
		file := filepath.Join(t.TempDir(), "f.toml")
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := used(t)
		items, err := readConfig(t.Context(), file, []ipcp.Type{local.Type})
		took := used(t) - start
		runtime.ReadMemStats(&after)
		if err != nil || len(items) != n*strings.Count(table, "[l")+n*strings.Count(table, "[n") {
			t.Fatalf("%d items, error %v", len(items), err)
		}
		return float64(after.TotalAlloc - before.TotalAlloc), took.Seconds()
	}
	for _, tt := range []struct {
		n     int
		table string
	}{
		{250, "[name.n#]\nprog = [\"/bin/true\"]\nargs = [\"a\"]\n[local.i#]\nbootstrap = \"l#\"\nreg = [\"n#\"]\n"},
		{1500, "[local.i#]\nbootstrap = \"l#\"\n"},
	} {
		var short, fast float64 // of eight, as long as the long one
		for range 8 {
			memory, seconds := cost(tt.n, tt.table)
			short, fast = short+memory, fast+seconds
		}
		long, slow := cost(8*tt.n, tt.table)
		if long > 2*short || slow > 3*fast {
			t.Errorf("%sone file costs %.1f times the memory and %.1f times the time", tt.table, long/short, slow/fast)
		}
	}
}

// used returns how long this process has kept processors busy.
func used(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
