package oping

import (
	"bytes"
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/applets/internal/measure/schematest"
	"o7s/core"
)

func TestHistogram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flowtest.NewFlow(64)
		echo(f, func(n int) time.Duration {
			if n == 9 {
				return 50 * time.Millisecond
			}
			return 11 * time.Millisecond
		})
		out, errs, _, _ := ping(t, t.Context(), config{count: 10, quiet: true, histogram: true}, f)
		const want = `rtt min/avg/max/mdev = 11.000/14.900/50.000/12.333 ms
rtt p50/p90/p99/p99.9 = 11.0000/11.0000/49.8074/49.8074 ms

  10.0000 -  15.0000 ms          9  90.0% |########################################
  15.0000 -  20.0000 ms          0   0.0% |
  20.0000 -  30.0000 ms          0   0.0% |
  30.0000 -  50.0000 ms          1  10.0% |####
`
		if !strings.HasSuffix(out, want) || errs != "" {
			t.Errorf("stderr %q, stdout:\n%s\nwant at its end:\n%s", errs, out, want)
		}
	})
}

// With --json there is nothing on stdout but JSON.
func TestJSON(t *testing.T) {
	schema, err := schematest.Load("../../docs/tools-json.md", "oping")
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := flowtest.NewFlow(64)
			if !lost {
				echo(f, always(time.Millisecond))
			}
			out, _, _, _ := ping(t, t.Context(), config{count: 4, json: true, histogram: true, qos: core.QoSRaw}, f)
			var r result
			d := json.NewDecoder(strings.NewReader(out))
			d.DisallowUnknownFields()
			if err := d.Decode(&r); err != nil || d.More() {
				t.Fatalf("error %v, stdout:\n%s", err, out)
			}
			if err := schema.Check([]byte(out)); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if r.Sent != 4 || (r.RTT == nil) != lost || (r.Loss == 100) != lost || !lost && (r.RTT.P999 != 1 || r.Histogram[0].Count != 4) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Ctrl-\ prints a summary on stderr, at any time.
func TestShortSummary(t *testing.T) {
	errs := &flowtest.WholeLines{T: t}
	c := newClient(&config{name: "x", size: minSize})
	c.errs = measure.NewLines(errs, "oping: ")
	stop := c.watch(nil)
	defer stop()
	waitFor := func(want string) {
		t.Helper()
		syscall.Kill(syscall.Getpid(), syscall.SIGQUIT)
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(errs.String(), want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("stderr:\n%s\nwant %q", errs, want)
			}
		}
	}
	waitFor("oping: 0/0 packets, 0% loss\n")
	c.mu.Lock()
	c.stats.sent = 4
	c.stats.add(time.Millisecond, false)
	c.stats.add(3*time.Millisecond, false)
	c.mu.Unlock()
	waitFor("oping: 2/4 packets, 50% loss, min/avg/max = 1.000/2.000/3.000 ms\n")
}

// On a terminal a run that prints no lines shows its progress.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		status := measure.NewStatus(&b, true)
		c := newClient(&config{name: "x", size: minSize, deadline: time.Minute})
		c.errs = measure.NewLines(&b, "oping: ")
		stop := c.watch(status)
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		stop()
		const erase = "\r\x1b[K"
		const want = erase + "0/0 packets, 0% loss, 1s of 1m0s, 59s left" + erase + "0/0 packets, 0% loss, 2s of 1m0s, 58s left" + erase
		if b.String() != want {
			t.Errorf("%q\nwant %q", b.String(), want)
		}
	})
}

func TestLength(t *testing.T) {
	for want, cfg := range map[time.Duration]config{
		0:                {},
		5 * time.Second:  {count: 5, interval: time.Second},
		7 * time.Second:  {count: 5, interval: time.Second, duration: 7 * time.Second},
		9 * time.Second:  {duration: 7 * time.Second, deadline: 9 * time.Second},
		time.Millisecond: {count: 1, interval: time.Millisecond},
	} {
		if got := cfg.length(); got != want {
			t.Errorf("%+v: %v, want %v", cfg, got, want)
		}
	}
}
