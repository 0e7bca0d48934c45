package oping

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/core"
)

// ping runs a client over f and returns what it printed, how many replies
// came and how long it took.
func ping(t *testing.T, ctx context.Context, cfg config, f measure.Flow) (out, errs string, received uint64, took time.Duration) {
	t.Helper()
	if cfg.size == 0 {
		cfg.size = minSize
	}
	if cfg.interval == 0 {
		cfg.interval = time.Second
	}
	if cfg.name == "" {
		cfg.name = "oping-server"
	}
	stdout, stderr := &flowtest.WholeLines{T: t}, &flowtest.WholeLines{T: t}
	c := newClient(&cfg)
	c.out = measure.NewLines(stdout, "")
	c.errs = measure.NewLines(stderr, "oping: ")
	start := time.Now()
	received = c.run(ctx, f)
	return stdout.String(), stderr.String(), received, time.Since(start)
}

func TestClientTutorial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flowtest.NewFlow(64)
		us := []time.Duration{633, 498, 471, 505, 441}
		echo(f, func(n int) time.Duration { return us[n] * time.Microsecond })
		out, errs, received, _ := ping(t, t.Context(), config{count: 5}, f)
		const want = `Pinging oping-server with 64 bytes of data (5 packets):

64 bytes from oping-server: seq=0 time=0.633 ms
64 bytes from oping-server: seq=1 time=0.498 ms
64 bytes from oping-server: seq=2 time=0.471 ms
64 bytes from oping-server: seq=3 time=0.505 ms
64 bytes from oping-server: seq=4 time=0.441 ms

--- oping-server ping statistics ---
5 packets transmitted, 5 received, 0 out-of-order, 0% packet loss, time: 5000.441 ms
rtt min/avg/max/mdev = 0.441/0.510/0.633/0.073 ms
`
		if out != want || errs != "" || received != 5 {
			t.Errorf("%d replies, stderr %q, stdout:\n%s\nwant:\n%s", received, errs, out, want)
		}
	})
}

// What a client prints and how long it takes, by its flags and its server.
func TestClient(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name   string
		cfg    config
		server func(f *flowtest.Flow)
		took   time.Duration
		out    string // without the first line and the blank ones
		errs   string
	}{
		{
			"one packet has no deviation", config{count: 1},
			func(f *flowtest.Flow) { echo(f, always(ms)) }, 1001 * ms, `
64 bytes from oping-server: seq=0 time=1.000 ms
--- oping-server ping statistics ---
1 packets transmitted, 1 received, 0 out-of-order, 0% packet loss, time: 1001.000 ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms`, "",
		},
		{
			"without a reply it waits 2 s and leaves the rtt line out", config{count: 2, interval: 100 * ms},
			func(f *flowtest.Flow) {}, 2200 * ms, `
--- oping-server ping statistics ---
2 packets transmitted, 0 received, 0 out-of-order, 100% packet loss, time: 2200.000 ms`, "",
		},
		{
			"a late last reply is waited for", config{count: 2, interval: 10 * ms, quiet: true},
			func(f *flowtest.Flow) { echo(f, always(1900*ms)) }, 1920 * ms, `
--- oping-server ping statistics ---
2 packets transmitted, 2 received, 0 out-of-order, 0% packet loss, time: 1920.000 ms
rtt min/avg/max/mdev = 1900.000/1900.000/1900.000/0.000 ms`, "",
		},
		{
			"twice the longest round trip is waited for", config{count: 5, quiet: true},
			func(f *flowtest.Flow) {
				echo(f, func(n int) time.Duration {
					if n == 4 {
						return 5900 * ms
					}
					return 3000 * ms
				})
			}, 10900 * ms, `
--- oping-server ping statistics ---
5 packets transmitted, 5 received, 0 out-of-order, 0% packet loss, time: 10900.000 ms
rtt min/avg/max/mdev = 3000.000/3580.000/5900.000/1296.919 ms`, "",
		},
		{
			"the duration ends it", config{duration: 2500 * ms, quiet: true},
			func(f *flowtest.Flow) { echo(f, always(ms)) }, 2500 * ms, `
--- oping-server ping statistics ---
2 packets transmitted, 2 received, 0 out-of-order, 0% packet loss, time: 2500.000 ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms`, "",
		},
		{
			"a packet due at the end of the duration is sent", config{duration: 2000 * ms, quiet: true},
			func(f *flowtest.Flow) { echo(f, always(ms)) }, 2001 * ms, `
--- oping-server ping statistics ---
2 packets transmitted, 2 received, 0 out-of-order, 0% packet loss, time: 2001.000 ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms`, "",
		},
		{
			"the count ends it before the duration", config{duration: time.Hour, count: 1, quiet: true},
			func(f *flowtest.Flow) { echo(f, always(ms)) }, 1001 * ms, `
--- oping-server ping statistics ---
1 packets transmitted, 1 received, 0 out-of-order, 0% packet loss, time: 1001.000 ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms`, "",
		},
		{
			"late replies are marked, lost ones counted", config{count: 4},
			func(f *flowtest.Flow) {
				echo(f, func(n int) time.Duration { return []time.Duration{1500 * ms, ms, -1, ms}[n] })
			}, 7000 * ms, `
64 bytes from oping-server: seq=1 time=1.000 ms
64 bytes from oping-server: seq=0 time=1500.000 ms [out-of-order]
64 bytes from oping-server: seq=3 time=1.000 ms
--- oping-server ping statistics ---
4 packets transmitted, 3 received, 1 out-of-order, 25% packet loss, time: 7000.000 ms
rtt min/avg/max/mdev = 1.000/500.667/1500.000/865.448 ms`, "",
		},
		{
			"the time of day is printed before a reply", config{count: 1, timeOfDay: true},
			func(f *flowtest.Flow) { echo(f, always(1500*time.Microsecond)) }, 1001500 * time.Microsecond, `
[946684801.001500] 64 bytes from oping-server: seq=0 time=1.500 ms
--- oping-server ping statistics ---
1 packets transmitted, 1 received, 0 out-of-order, 0% packet loss, time: 1001.500 ms
rtt min/avg/max/mdev = 1.500/1.500/1.500/0.000 ms`, "",
		},
		{
			"a name cannot forge a line", config{count: 1, name: "a\nb"},
			func(f *flowtest.Flow) { echo(f, always(ms)) }, 1001 * ms, `
64 bytes from a\nb: seq=0 time=1.000 ms
--- a\nb ping statistics ---
1 packets transmitted, 1 received, 0 out-of-order, 0% packet loss, time: 1001.000 ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms`, "",
		},
		{
			"the server closes the flow", config{},
			func(f *flowtest.Flow) {
				echo(f, always(ms))
				time.AfterFunc(1500*ms, func() { f.Fail(io.EOF) })
			}, 1500 * ms, `
64 bytes from oping-server: seq=0 time=1.000 ms
--- oping-server ping statistics ---
1 packets transmitted, 1 received, 0 out-of-order, 0% packet loss, time: 1500.000 ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms`, "oping: oping-server closed the flow\n",
		},
		{
			"the server dies while its reply is waited for", config{count: 1},
			func(f *flowtest.Flow) { time.AfterFunc(1500*ms, func() { f.Fail(core.ErrFlowDown) }) }, 1500 * ms, `
--- oping-server ping statistics ---
1 packets transmitted, 0 received, 0 out-of-order, 100% packet loss, time: 1500.000 ms`,
			"oping: the flow to oping-server broke: flow is down\n",
		},
		{
			"a write that meets the end leaves the word to the reader", config{},
			func(f *flowtest.Flow) {
				f.OnWrite = func([]byte) error {
					time.AfterFunc(ms, func() { f.Fail(io.EOF) })
					return core.ErrFlowDown
				}
			}, 1001 * ms, `
--- oping-server ping statistics ---
0 packets transmitted, 0 received, 0 out-of-order, 0% packet loss, time: 1001.000 ms`,
			"oping: oping-server closed the flow\n",
		},
		{
			"a write error of its own is told", config{},
			func(f *flowtest.Flow) { f.OnWrite = func([]byte) error { return core.ErrLimit } }, 3000 * ms, `
--- oping-server ping statistics ---
0 packets transmitted, 0 received, 0 out-of-order, 0% packet loss, time: 3000.000 ms`,
			"oping: the flow to oping-server broke: limit reached\n",
		},
		{
			"a server that does not read ends no later than the duration and 2 s", config{duration: 3000 * ms},
			func(f *flowtest.Flow) { f.SetFull(true) }, 5000 * ms, `
--- oping-server ping statistics ---
0 packets transmitted, 0 received, 0 out-of-order, 0% packet loss, time: 5000.000 ms`, "",
		},
		{
			"a flood sends when the reply is there, the first at once", config{count: 3, flood: true},
			func(f *flowtest.Flow) { echo(f, always(2*ms)) }, 6 * ms, `
64 bytes from oping-server: seq=0 time=2.000 ms
64 bytes from oping-server: seq=1 time=2.000 ms
64 bytes from oping-server: seq=2 time=2.000 ms
--- oping-server ping statistics ---
3 packets transmitted, 3 received, 0 out-of-order, 0% packet loss, time: 6.000 ms
rtt min/avg/max/mdev = 2.000/2.000/2.000/0.000 ms`, "",
		},
		{
			"a flood goes on after the interval without a reply", config{count: 3, flood: true},
			func(f *flowtest.Flow) {
				echo(f, func(n int) time.Duration { return []time.Duration{ms, -1, ms}[n] })
			}, 3001 * ms, `
64 bytes from oping-server: seq=0 time=1.000 ms
64 bytes from oping-server: seq=2 time=1.000 ms
--- oping-server ping statistics ---
3 packets transmitted, 2 received, 0 out-of-order, 33.333% packet loss, time: 3001.000 ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms`, "",
		},
		{
			"the duration ends a flood, its last reply counts", config{duration: 15 * ms, flood: true, quiet: true},
			func(f *flowtest.Flow) { echo(f, always(10*ms)) }, 20 * ms, `
--- oping-server ping statistics ---
2 packets transmitted, 2 received, 0 out-of-order, 0% packet loss, time: 20.000 ms
rtt min/avg/max/mdev = 10.000/10.000/10.000/0.000 ms`, "",
		},
		{
			"the server closes the flow of a flood", config{flood: true, quiet: true},
			func(f *flowtest.Flow) {
				echo(f, always(10*ms))
				time.AfterFunc(15*ms, func() { f.Fail(io.EOF) })
			}, 15 * ms, `
--- oping-server ping statistics ---
2 packets transmitted, 1 received, 0 out-of-order, 50% packet loss, time: 15.000 ms
rtt min/avg/max/mdev = 10.000/10.000/10.000/0.000 ms`, "oping: oping-server closed the flow\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := flowtest.NewFlow(64)
				tt.server(f)
				out, errs, _, took := ping(t, t.Context(), tt.cfg, f)
				_, out, _ = strings.Cut(out, "\n")
				out = "\n" + strings.TrimSpace(strings.ReplaceAll(out, "\n\n", "\n"))
				if out != tt.out || errs != tt.errs {
					t.Errorf("stdout:%s\nwant:%s\nstderr: %q, want %q", out, tt.out, errs, tt.errs)
				}
				if took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if f.IsClosed() {
					t.Error("it closed the flow of its caller")
				}
			})
		})
	}
}

// SIGINT ends the client at once, wherever it waits, with its statistics.
func TestClientInterrupted(t *testing.T) {
	tests := []struct {
		name    string
		cfg     config
		prepare func(f *flowtest.Flow)
		sent    int
	}{
		{"before the first packet", config{interval: 10 * time.Second}, func(f *flowtest.Flow) {}, 0},
		{"between packets", config{}, func(f *flowtest.Flow) { echo(f, always(0)) }, 2},
		{"waiting for late replies", config{count: 1}, func(f *flowtest.Flow) {}, 1},
		{"in a write", config{}, func(f *flowtest.Flow) { f.SetFull(true) }, 0},
		{"in a flood", config{flood: true, interval: 10 * time.Second}, func(f *flowtest.Flow) {}, 1},
		{"in a write of a flood", config{flood: true}, func(f *flowtest.Flow) { f.SetFull(true) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := flowtest.NewFlow(64)
				tt.prepare(f)
				ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
				defer cancel()
				out, errs, _, took := ping(t, ctx, tt.cfg, f)
				if took != 2500*time.Millisecond || errs != "" {
					t.Errorf("it took %v, want 2.5s; stderr %q", took, errs)
				}
				if want := fmt.Sprintf("\n%d packets transmitted", tt.sent); !strings.Contains(out, want) {
					t.Errorf("stdout has no %q:\n%s", want, out)
				}
			})
		})
	}
}

func TestClientHeader(t *testing.T) {
	for want, cfg := range map[string]config{
		"Pinging oping-server with 64 bytes of data:\n\n":                {},
		"Pinging a\\tb with 1500 bytes of data (7 packets):\n\n":         {name: "a\tb", size: 1500, count: 7},
		"Pinging oping-server with 100 bytes of data (2 packets):\n\n\n": {size: 100, count: 2, quiet: true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if out, _, _, _ := ping(t, ctx, cfg, flowtest.NewFlow(64)); !strings.HasPrefix(out, want) {
			t.Errorf("stdout:\n%s\nwant:\n%s", out, want)
		}
	}
}

// Only first replies to packets that were sent count; what else a server may
// send does no harm.
func TestClientStrangeReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flowtest.NewFlow(64)
		f.OnWrite = func(p []byte) error {
			with := func(change func(p []byte)) {
				q := append([]byte(nil), p...)
				binary.BigEndian.PutUint32(q[offType:], typeReply)
				change(q)
				f.Deliver(q)
			}
			f.Deliver(nil)
			f.Deliver(p[:headerSize-1])
			f.Deliver(p) // still a request
			with(func(q []byte) { binary.BigEndian.PutUint32(q[offType:], 2) })
			with(func(q []byte) { binary.BigEndian.PutUint32(q[offID:], 7) })
			with(func(q []byte) { binary.BigEndian.PutUint32(q[offID:], 1<<32-1) })
			with(func(q []byte) { binary.LittleEndian.PutUint64(q[offSec:], 1<<63) })
			with(func(q []byte) { binary.LittleEndian.PutUint64(q[offSec:], 3) }) // not yet
			with(func(q []byte) { binary.LittleEndian.PutUint64(q[offNsec:], 1e9) })
			with(func(q []byte) {})
			with(func(q []byte) {}) // a duplicate
			return nil
		}
		out, errs, received, _ := ping(t, t.Context(), config{count: 2}, f)
		const want = `2 packets transmitted, 2 received, 0 out-of-order, 0% packet loss, time: 2000.000 ms`
		if !strings.Contains(out, want) || received != 2 || errs != "" || strings.Count(out, "bytes from") != 2 {
			t.Errorf("%d replies, stderr %q, stdout:\n%s", received, errs, out)
		}
	})
}

// The schedule is absolute: what a write takes does not add up, and one that
// took long is followed by no burst.
func TestClientSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, start := flowtest.NewFlow(64), time.Now()
		var at []time.Duration
		f.OnWrite = func(p []byte) error {
			at = append(at, time.Since(start))
			if len(at) == 4 {
				time.Sleep(3500 * time.Millisecond)
			} else {
				time.Sleep(200 * time.Millisecond)
			}
			return nil
		}
		ping(t, t.Context(), config{count: 7}, f)
		const want = "[1s 2s 3s 4s 7.5s 8.5s 9.5s]"
		if got := fmt.Sprint(at); got != want {
			t.Errorf("packets at %s, want %s", got, want)
		}
	})
}
