package oping

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/core"
)

// run runs oping with args, as the multitool does, over n.
func run(n network, args ...string) (status int, out, errs string) {
	var stdout, stderr bytes.Buffer
	a := applets.Applet{Name: "oping", Run: func(ctx context.Context, env *applets.Env) error {
		env.Stdout, env.Stderr = &stdout, &stderr
		return n.run(ctx, env)
	}}
	status = applets.Main(append([]string{"oping"}, args...), []applets.Applet{a})
	return status, stdout.String(), stderr.String()
}

// noNetwork fails the test if it is used.
func noNetwork(t *testing.T) network {
	return network{
		Dial: func(context.Context, string, core.QoS) (measure.Flow, error) {
			t.Error("dial")
			return nil, core.ErrIRMd
		},
		Listen: func(context.Context) (measure.Listener, error) { t.Error("listen"); return nil, core.ErrIRMd },
		NewSet: flowtest.NewSet,
	}
}

func TestAppletName(t *testing.T) {
	if a := Applet(); a.Name != "oping" || a.Summary == "" || a.Hidden || a.Run == nil {
		t.Errorf("Applet() = %+v", a)
	}
}

// Help and version need no IRMd.
func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"-l", "--help"}, {"-n", "x", "-h"}} {
		status, out, errs := run(noNetwork(t), args...)
		if status != applets.StatusDone || errs != "" {
			t.Errorf("%q: status %d, stderr %q", args, status, errs)
		}
		for _, want := range []string{
			"oping --listen ", "oping --server-name oping-server --count 5 ", "oping -n oping-server -c 5 ",
			"irm bind process 6810 name oping-server\n", "irm name register oping-server layer local-layer\n",
			"Client options:\n", "Server options:\n", "--count N, -c N", "--idle TIME",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%q: the help has no %q:\n%s", args, want, out)
			}
		}
	}
	for _, flag := range []string{"--version", "-v"} {
		status, out, errs := run(noNetwork(t), flag)
		if want := applets.VersionLine("oping") + "\n"; status != applets.StatusDone || out != want || errs != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q", flag, status, out, errs)
		}
	}
}

// --deadline bounds the wait for a flow, too.
func TestDeadlineOfDial(t *testing.T) {
	for _, args := range [][]string{{"-n", "x"}, {"-n", "x", "-w", "1m"}} {
		n := noNetwork(t)
		n.Dial = func(ctx context.Context, _ string, _ core.QoS) (measure.Flow, error) {
			end, bounded := ctx.Deadline()
			if bounded != (len(args) == 4) || bounded && time.Until(end) > time.Minute {
				t.Errorf("%q: dial until %v, %t", args, end, bounded)
			}
			return nil, core.ErrTimeout
		}
		if status, out, errs := run(n, args...); status != applets.StatusFailed || out != "" || errs != "oping: allocate a flow to x: timed out\n" {
			t.Errorf("%q: status %d, stdout %q, stderr %q", args, status, out, errs)
		}
	}
}

func TestClientStatus(t *testing.T) {
	closed := func(n network, f *flowtest.Flow) network {
		n.Dial = func(_ context.Context, name string, qos core.QoS) (measure.Flow, error) {
			if name != "oping-server" || qos != core.QoSVoice {
				t.Errorf("dial %q with %+v", name, qos)
			}
			return f, nil
		}
		return n
	}
	args := []string{"-n", "oping-server", "-c", "3", "-f", "-Q", "-q", "voice"}

	f := flowtest.NewFlow(64)
	echo(f, always(0))
	status, out, errs := run(closed(noNetwork(t), f), args...)
	if status != applets.StatusDone || errs != "" || !strings.Contains(out, "\n3 packets transmitted, 3 received") || f.Closings() != 1 {
		t.Errorf("replies came: status %d, %d closings, stderr %q, stdout:\n%s", status, f.Closings(), errs, out)
	}

	f = flowtest.NewFlow(64)
	f.OnWrite = func([]byte) error { f.Fail(core.ErrFlowDown); return nil }
	status, out, errs = run(closed(noNetwork(t), f), args...)
	const want = "oping: the flow to oping-server broke: flow is down\n"
	if status != applets.StatusFailed || errs != want || !strings.Contains(out, "\n1 packets transmitted, 0 received") || f.Closings() != 1 {
		t.Errorf("no reply came: status %d, %d closings, stderr %q, stdout:\n%s", status, f.Closings(), errs, out)
	}

	n := noNetwork(t)
	n.Dial = func(context.Context, string, core.QoS) (measure.Flow, error) {
		err := fmt.Errorf("%w: register it with \"irm\"", core.ErrName)
		return nil, &net.OpError{Op: "dial", Net: "o7s", Err: err}
	}
	status, out, errs = run(n, "-n", "a\nb")
	if status != applets.StatusFailed || out != "" || errs != "oping: allocate a flow to a\\nb: unknown name: register it with \"irm\"\n" {
		t.Errorf("no flow: status %d, stdout %q, stderr %q", status, out, errs)
	}
}

func TestServerStatus(t *testing.T) {
	n := noNetwork(t)
	n.Listen = func(context.Context) (measure.Listener, error) { return nil, core.ErrIRMd }
	status, out, errs := run(n, "--listen")
	if status != applets.StatusFailed || out != "" || errs != "oping: start the ping server: no IRMd answers\n" {
		t.Errorf("no IRMd: status %d, stdout %q, stderr %q", status, out, errs)
	}

	l := flowtest.NewListener()
	n.Listen = func(context.Context) (measure.Listener, error) { return l, nil }
	go func() { l.Errs <- errors.New("gone") }()
	status, out, errs = run(n, "-l")
	if status != applets.StatusFailed || out != "Ouroboros ping server started.\n" || errs != "oping: accept a flow: gone\n" {
		t.Errorf("the listener fails: status %d, stdout %q, stderr %q", status, out, errs)
	}

	// Stopped while it waits for an IRMd, and while it serves.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := &applets.Env{Name: "oping", Args: []string{"-l", "--idle", "1h"}, Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
	n.Listen = func(ctx context.Context) (measure.Listener, error) { return nil, ctx.Err() }
	if err := n.run(ctx, env); err != nil {
		t.Errorf("stopped before it listens: %v", err)
	}
	n.Listen = func(ctx context.Context) (measure.Listener, error) { return flowtest.NewListener(), nil }
	if err := n.run(ctx, env); err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// Wrong usage is status 2, one line on stderr, and starts nothing.
func TestUsageErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", "either --listen or --server-name NAME is needed"},
		{"-Q", "either --listen or --server-name NAME is needed"},
		{"--nonsense", `there is no flag "--nonsense"; "oping --help" lists the flags`},
		{"-n", `the flag "-n" needs a value`},
		{"-n x -c 1 --count 2", `"-c" and "--count" are one flag: give one of them; "oping --help" lists the flags`},
		{"-n x -n y", `"-n" is given twice: give it once; "oping --help" lists the flags`},
		{"-n x y", `unexpected argument "y"`},
		{"-l y", `unexpected argument "y"`},
		{"-n=", "--server-name: invalid value: a name has at least one byte"},
		{"-n " + strings.Repeat("x", 256), "--server-name: invalid value: a name has at most 255 bytes, this one has 256"},
		{"-l -n x", "--server-name is for the client: it does not go with --listen"},
		{"-l -c 5", "--count is for the client: it does not go with --listen"},
		{"-l -f", "--flood is for the client: it does not go with --listen"},
		{"-l -D", "--timeofday is for the client: it does not go with --listen"},
		{"-n x --idle 5s", "--idle is for the server: it goes with --listen"},
		{"-l --idle 0", "--idle: 0 would end every flow at once"},
		{"-l --idle x", `--idle: "x" is no time: give milliseconds, or a number and ms, s, m, h or d`},
		{"-n x -c 0", `--count: "0" is no number of packets: it is 1 or more`},
		{"-n x -c -1", `--count: "-1" is no number of packets: it is 1 or more`},
		{"-n x -c five", `--count: "five" is no number of packets: it is 1 or more`},
		{"-n x -i 0", "--interval: 0 is no interval: --flood sends as fast as replies come"},
		{"-n x -i 0.2", `--interval: "0.2" needs a unit: ms, s, m, h or d`},
		{"-n x -i -5", `--interval: "-5" is no time: give milliseconds, or a number and ms, s, m, h or d`},
		{"-n x -d 0s", "--duration: 0 leaves no time to send a packet"},
		{"-n x -d 1w", `--duration: "1w" is no time: give milliseconds, or a number and ms, s, m, h or d`},
		{"-n x -s big", `--size: "big" is no number of bytes`},
		{"-n x -w 0", "--deadline: 0 leaves no time to send a packet"},
		{"-l -w 5s", "--deadline is for the client"},
		{"-n x -q gold", `--qos: unknown QoS "gold": it is raw, raw_no_errors, best, video, voice or data`},
		{"--help x", "No help topic for 'x'"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			status, out, errs := run(noNetwork(t), strings.Fields(tt.args)...)
			if status != applets.StatusUsage || out != "" || !strings.HasPrefix(errs, "oping: "+tt.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("status %d, stdout %q, stderr:\n%swant:\noping: %s", status, out, errs, tt.want)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	client := config{name: "x", qos: core.QoSRaw, interval: time.Second, size: 64}
	with := func(set func(*config)) config {
		c := client
		set(&c)
		return c
	}
	tests := []struct {
		args string
		want config
		errs string
	}{
		{"-l", config{listen: true, idle: 10 * time.Second}, ""},
		{"--listen --quiet --idle 1m", config{listen: true, quiet: true, idle: time.Minute}, ""},
		{"-lQ", config{listen: true, quiet: true, idle: 10 * time.Second}, ""},
		{"-n x", client, ""},
		{"--server-name x", client, ""},
		{"-n x -c 5", with(func(c *config) { c.count = 5 }), ""},
		{"--count 18446744073709551615 -n x", with(func(c *config) { c.count = 1<<64 - 1 }), ""},
		{"-n x -i 20", with(func(c *config) { c.interval = 20 * time.Millisecond }), ""},
		{"-n x --interval 10s", with(func(c *config) { c.interval = 10 * time.Second }), ""},
		{"-n x -i 1m", with(func(c *config) { c.interval = 10 * time.Second }), "oping: interval 1m is longer than 10 s: truncated to 10 s\n"},
		{"-n x -d 1d", with(func(c *config) { c.duration = 24 * time.Hour }), ""},
		{"-n x --duration 500", with(func(c *config) { c.duration = 500 * time.Millisecond }), ""},
		{"-n x -d 2", with(func(c *config) { c.duration = 2 * time.Millisecond }), "oping: --duration 2 is 2 ms: 2s is in seconds, and 2ms says that it is meant\n"},
		{"-n x -d 2ms", with(func(c *config) { c.duration = 2 * time.Millisecond }), ""},
		{"-n x -w 5", with(func(c *config) { c.deadline = 5 * time.Millisecond }), "oping: --deadline 5 is 5 ms: 5s is in seconds, and 5ms says that it is meant\n"},
		{"-n x -i 1", with(func(c *config) { c.interval = time.Millisecond }), "oping: --interval 1 is 1 ms: 1s is in seconds, and 1ms says that it is meant\n"},
		{"-l --idle 10", config{listen: true, idle: 10 * time.Millisecond}, "oping: --idle 10 is 10 ms: 10s is in seconds, and 10ms says that it is meant\n"},
		{"-n x -s 1500", with(func(c *config) { c.size = 1500 }), ""},
		{"-n x -s 63", client, "oping: size 63 is not within 64 to 1500 bytes: it is 64 now\n"},
		{"-n x -s -1", client, "oping: size -1 is not within 64 to 1500 bytes: it is 64 now\n"},
		{"-n x --size 1501", with(func(c *config) { c.size = 1500 }), "oping: size 1501 is not within 64 to 1500 bytes: it is 1500 now\n"},
		{"-n x -s 99999999999999999999", with(func(c *config) { c.size = 1500 }), "oping: size 99999999999999999999 is not within 64 to 1500 bytes: it is 1500 now\n"},
		{"-n x -w 5s", with(func(c *config) { c.deadline = 5 * time.Second }), ""},
		{"-n x --json --histogram", with(func(c *config) { c.json, c.histogram = true, true }), ""},
		{"-n x -q raw", client, ""},
		{"-n x -q best", with(func(c *config) { c.qos = core.QoSBest }), ""},
		{"-n x -q video", with(func(c *config) { c.qos = core.QoSVideo }), ""},
		{"-n x -q voice", with(func(c *config) { c.qos = core.QoSVoice }), ""},
		{"-n x --qos data", with(func(c *config) { c.qos = core.QoSData }), ""},
		{"--listen=false -n x", client, ""},
		{"-n x -q raw_no_errors", with(func(c *config) { c.qos = core.QoSRawNoErrors }), ""},
		{"-n x -fQD", with(func(c *config) { c.flood, c.quiet, c.timeOfDay = true, true, true }), ""},
		{"-n x -F", with(func(c *config) { c.flood, c.busy = true, true }), ""},
		{"-n x --flood --quiet --timeofday", with(func(c *config) { c.flood, c.quiet, c.timeOfDay = true, true, true }), ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			env := &applets.Env{Name: "oping", Args: strings.Fields(tt.args), Stdout: &stdout, Stderr: &stderr}
			cfg, err := parse(t.Context(), env)
			if err != nil || *cfg != tt.want || stdout.Len() > 0 || stderr.String() != tt.errs {
				t.Errorf("error %v, stdout %q, stderr %q\n%+v\nwant:\n%+v", err, &stdout, &stderr, cfg, tt.want)
			}
		})
	}
}
