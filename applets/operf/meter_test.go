package operf

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
)

// On a terminal the rate and the time left stand below the lines; where there
// is none, nothing does.
func TestProgress(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := measure.NewStatus(&stderr, terminal)
			o := &output{lines: measure.NewLines(&stdout, ""), errs: measure.NewLines(&stderr, ""), status: status}
			o.lines.Above(status)
			s := newStream(flowtest.NewFlow(64), &plan{Size: 1000, Duration: time.Minute})
			m := startMeter(o, []*stream{s}, true, time.Second)
			s.Sent.Store(1000)
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			const want = "\r\x1b[K8.000 Mb/s, 1s of 1m0s, 59s left"
			if got := stderr.String(); terminal && got != want || !terminal && got != "" {
				t.Errorf("terminal: %v: %q, want %q", terminal, got, want)
			}
			m.stop()
			if terminal && !strings.HasSuffix(stderr.String(), "\r\x1b[K") {
				t.Errorf("the status stays: %q", stderr.String())
			}
			if lines := strings.Count(stdout.String(), "\n"); lines != 3 {
				t.Errorf("%d lines, want 3:\n%s", lines, &stdout)
			}
		})
	}
}

// A client knows a terminal from what is none.
func TestProgressOnATerminal(t *testing.T) {
	for kind, stderr := range flowtest.Streams(t) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			var stdout bytes.Buffer
			args := strings.Fields("-n x -r 8M -s 1000 -d 2500ms -i 0")
			n := w.network()
			if err := n.run(t.Context(), &applets.Env{Name: "operf", Args: args, Stdout: &stdout, Stderr: stderr.File}); err != nil {
				t.Errorf("on a %s: %v", kind, err)
			}
		})
		got := stderr.Written()
		if shown := strings.Count(got, " of 2.5s, "); (shown == 2) != (kind == "terminal") || kind != "terminal" && got != "" {
			t.Errorf("on a %s: %q", kind, got)
		}
	}
}
