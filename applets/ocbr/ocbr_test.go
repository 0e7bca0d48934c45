package ocbr

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/core"
)

// world is a server of ocbr and a network that leads to it.
func world(t *testing.T, args ...string) (n network, out, errs *flowtest.WholeLines) {
	l := flowtest.NewListener()
	out, errs = &flowtest.WholeLines{T: t}, &flowtest.WholeLines{T: t}
	ctx, cancel := context.WithCancel(t.Context())
	fd := 64
	n = network{
		Dial: func(context.Context, string, core.QoS) (measure.Flow, error) {
			c, s := flowtest.Pipe(fd, fd)
			fd++
			l.Flows <- s
			return c, nil
		},
		Listen: func(context.Context) (measure.Listener, error) { return l, nil },
	}
	ended := make(chan error, 1)
	go func() {
		ended <- n.run(ctx, &applets.Env{Name: "ocbr", Args: append([]string{"-l"}, args...), Stdout: out, Stderr: errs})
	}()
	synctest.Wait() // package cli parses one command line at a time
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n, out, errs
}

func client(ctx context.Context, n network, args ...string) (out, errs string, err error) {
	var stdout, stderr bytes.Buffer
	err = n.run(ctx, &applets.Env{Name: "ocbr", Args: args, Stdout: &stdout, Stderr: &stderr})
	return stdout.String(), stderr.String(), err
}

// The lines of both ends, to the letter.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, out, errs := world(t)
		stdout, stderr, err := client(t.Context(), n, "-n", "x", "-d", "2", "-r", "800k")
		const sent = "Client started, duration 2, rate 800000 b/s, size 1000 B.\n" +
			"sent statistics:       200 packets,       200000 bytes in      2000 ms, 0.8000 Mb/s\n"
		if err != nil || stdout != sent || stderr != "" {
			t.Errorf("error %v, stderr %q, stdout:\n%s\nwant:\n%s", err, stderr, stdout, sent)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		// Which interval a packet on its bound belongs to is open.
		const line = `Flow   64:       +(99|100|101) packets \( +(99|100|101)000 bytes\) in +1000 ms => +(99|100|101)\.0000 pps, +0\.[78]\d+ Mbps\n`
		want := regexp.MustCompile(`^Server started, interval is 1 s, timeout is 1 s\.\nNew flow\.\n` + line + line + `Test on flow 64 timed out\n$`)
		if !want.MatchString(out.String()) || errs.String() != "" {
			t.Errorf("stderr %q, stdout:\n%s\nwant:\n%s", errs, out, want)
		}
	})
}

// Packets are numbered by 64 bits, and zeros follow.
func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flowtest.NewFlow(64)
		next := uint64(0)
		f.OnWrite = func(p []byte) error {
			if binary.LittleEndian.Uint64(p) != next || len(p) != 100 || !bytes.Equal(p[8:], make([]byte, 92)) {
				t.Errorf("packet %d is % x", next, p)
			}
			next++
			return nil
		}
		n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return f, nil }}
		if _, _, err := client(t.Context(), n, "-n", "x", "-d", "1", "-s", "100"); err != nil || next != 1250 {
			t.Errorf("error %v, %d packets, want 1250", err, next)
		}
	})
}

// At most ten flows are read at once.
func TestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, out, _ := world(t, "-t", "5")
		for range 12 {
			f, _ := n.Dial(t.Context(), "x", core.QoSRaw)
			f.WritePacket(make([]byte, 100))
		}
		synctest.Wait()
		if news, waits := strings.Count(out.String(), "New flow.\n"), strings.Count(out.String(), "Can't accept any more flows, waiting.\n"); news != 10 || waits != 2 {
			t.Errorf("%d flows are read, %d wait, want 10 and 2", news, waits)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if news := strings.Count(out.String(), "New flow.\n"); news != 12 {
			t.Errorf("%d flows are read, want 12", news)
		}
	})
}

func TestClientFails(t *testing.T) {
	tests := []struct {
		name   string
		server func(f *flowtest.Flow)
		want   string
	}{
		{"it dies", func(f *flowtest.Flow) { time.AfterFunc(time.Second, func() { f.Fail(core.ErrFlowDown) }) }, "the flow to x broke: flow is down"},
		{"it closes the flow", func(f *flowtest.Flow) { time.AfterFunc(time.Second, func() { f.Fail(io.EOF) }) }, "x closed the flow"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			f := flowtest.NewFlow(64)
			tt.server(f)
			n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return f, nil }}
			out, _, err := client(t.Context(), n, "-n", "x")
			if err == nil || err.Error() != tt.want || !strings.Contains(out, "sent statistics:       125 packets") && !strings.Contains(out, "sent statistics:       126 packets") || !f.IsClosed() {
				t.Errorf("%s: error %v, want %s; stdout:\n%s", tt.name, err, tt.want, out)
			}
		})
	}
}

// A flood has no rate to tell.
func TestFlood(t *testing.T) {
	f := flowtest.NewFlow(64)
	n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return f, nil }}
	out, _, err := client(t.Context(), n, "-n", "x", "-f", "-d", "10ms")
	if want := "Client started, duration 0.01, as fast as can be, size 1000 B.\n"; err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("error %v, stdout:\n%s\nwant at its start:\n%s", err, out, want)
	}
}

// An interrupt ends the client in time, with its statistics.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _, _ := world(t)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		start := time.Now()
		out, _, err := client(ctx, n, "-n", "x")
		if took := time.Since(start); err != nil || took > 1600*time.Millisecond || !strings.Contains(out, "sent statistics:") {
			t.Errorf("error %v after %v, stdout:\n%s", err, took, out)
		}
	})
}

// The busy wait keeps the rate, too; it cannot be tested in virtual time.
func TestSpin(t *testing.T) {
	f := flowtest.NewFlow(64)
	n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return f, nil }}
	out, _, err := client(t.Context(), n, "-n", "x", "-d", "0.1", "-r", "8M", "--spin")
	if err != nil || !strings.Contains(out, "sent statistics:       100 packets") {
		t.Errorf("error %v, stdout:\n%s", err, out)
	}
}

// On a terminal the rate and the time left are shown while it sends, and erased;
// elsewhere nothing is.
func TestProgress(t *testing.T) {
	for kind, stderr := range flowtest.Streams(t) {
		var stdout bytes.Buffer
		synctest.Test(t, func(t *testing.T) {
			n := network{Dial: func(context.Context, string, core.QoS) (measure.Flow, error) { return flowtest.NewFlow(64), nil }}
			args := strings.Fields("-n x -r 8M -s 1000 -d 2500ms")
			if err := n.run(t.Context(), &applets.Env{Name: "ocbr", Args: args, Stdout: &stdout, Stderr: stderr.File}); err != nil {
				t.Errorf("on a %s: %v", kind, err)
			}
		})
		want := regexp.MustCompile("^$")
		if kind == "terminal" {
			// Which second a packet on its bound belongs to is open.
			want = regexp.MustCompile(`^\r\x1b\[K(8|7\.9)\S+ Mb/s, 1s of 2\.5s, 2s left\r\x1b\[K(8|7\.9)\S+ Mb/s, 2s of 2\.5s, 1s left\r\x1b\[K$`)
		}
		if got := stderr.Written(); !want.MatchString(got) || strings.Contains(stdout.String(), "\x1b") {
			t.Errorf("on a %s: %q, want %s; stdout:\n%s", kind, got, want, &stdout)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", "either --listen or --server-name NAME is needed"},
		{"-l -n x", "--server-name is for the client"},
		{"-n x -i 1", "--interval is for the server"},
		{"-n x -t 1", "--timeout is for the server"},
		{"-l -i 0", "--interval: 0 is too short"},
		{"-l -t x", `--timeout: "x" is no time: give seconds`},
		{"-n x -d 0", "--duration: 0 is too short"},
		{"-n x -r 0", `--rate: "0" is no rate`},
		{"-n x -s big", `--size: "big" is no number of bytes`},
		{"-n x --sleep --spin", "--spin and --sleep exclude each other"},
		{"-n x -f --spin", "--flood goes with neither"},
		{"-n x -f -r 1M", "--flood goes with neither"},
		{"-n x -q gold", `--qos: unknown QoS "gold"`},
		{"-n x y", `unexpected argument "y"`},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		_, err := parse(t.Context(), &applets.Env{Name: "ocbr", Args: strings.Fields(tt.args), Stdout: &out, Stderr: &out})
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || out.Len() > 0 {
			t.Errorf("%q: error %v, want %s; output %q", tt.args, err, tt.want, &out)
		}
	}
}
