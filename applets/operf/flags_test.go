package operf

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"o7s/applets"
	"o7s/core"
)

func TestFlags(t *testing.T) {
	client := config{
		name: "x", qos: core.QoSRaw, parallel: 1, interval: time.Second,
		plan: plan{Duration: time.Minute, Rate: 1e6, Size: 1500},
	}
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
		{"-l", config{listen: true, interval: time.Second}, ""},
		{"--listen --json -i 0", config{listen: true, json: true}, ""},
		{"-n x", client, ""},
		{"-n x -t bi", with(func(c *config) { c.plan.both = true }), ""},
		{"-n x -d 10", with(func(c *config) { c.plan.Duration = 10 * time.Second }), ""},
		{"-n x -d 0.5", with(func(c *config) { c.plan.Duration = 500 * time.Millisecond }), ""},
		{"-n x -r 64", with(func(c *config) { c.plan.Rate = 64e3 }), ""},
		{"-n x -r 10", with(func(c *config) { c.plan.Rate = 10e3 }), "operf: --rate 10 is 10 kb/s, one packet in 1.2 s: 10M is in Mb/s, and 10k says that it is meant\n"},
		{"-n x -r 10k", with(func(c *config) { c.plan.Rate = 10e3 }), ""},
		{"-n x --rate 2G", with(func(c *config) { c.plan.Rate = 2e9 }), ""},
		{"-n x -f", with(func(c *config) { c.plan.Rate = 0 }), ""},
		{"-n x --sleep", with(func(c *config) { c.plan.Sleep = true }), ""},
		{"-n x -RP 4", with(func(c *config) { c.plan.Reverse, c.parallel = true, 4 }), ""},
		{"-n x -q data", with(func(c *config) { c.qos = core.QoSData }), ""},
		{"-n x --json-stream -i 100ms", with(func(c *config) { c.jsonStream, c.interval = true, 100*time.Millisecond }), ""},
		{"-n x -s 65535", with(func(c *config) { c.plan.Size = 65535 }), ""},
		{"-n x -s 1048576", with(func(c *config) { c.plan.Size = 65535 }), "operf: size 1048576 is not within 64 to 65535 bytes: it is 65535 now\n"},
		{"-n x -s 1", with(func(c *config) { c.plan.Size = 64 }), "operf: size 1 is not within 64 to 65535 bytes: it is 64 now\n"},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		env := &applets.Env{Name: "operf", Args: strings.Fields(tt.args), Stdout: &stdout, Stderr: &stderr}
		cfg, err := parse(t.Context(), env)
		if err != nil || *cfg != tt.want || stdout.Len() > 0 || stderr.String() != tt.errs {
			t.Errorf("%q: error %v, stdout %q, stderr %q\n%+v\nwant:\n%+v", tt.args, err, &stdout, &stderr, cfg, tt.want)
		}
	}
}

// Wrong usage is told in one line that says what is wrong.
func TestUsageErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", "either --listen or --server-name NAME is needed"},
		{"-l -n x", "--server-name is for the client: it does not go with --listen"},
		{"-l -f", "--flood is for the client: it does not go with --listen"},
		{"-n x y", `unexpected argument "y"`},
		{"-n=", "--server-name: invalid value"},
		{"-n x -t tri", `--test: unknown type "tri": it is uni or bi`},
		{"-n x -t bi -R", "--reverse does not go with --test bi"},
		{"-n x -d 0", "--duration: 0 leaves no time"},
		{"-n x -d 1w", `--duration: "1w" is no time: give seconds`},
		{"-n x -i 1ms", "--interval: 1ms is too short"},
		{"-n x -r fast", `--rate: "fast" is no rate`},
		{"-n x -f -r 1M", "--flood goes with neither --rate nor --sleep"},
		{"-n x -f --sleep", "--flood goes with neither --rate nor --sleep"},
		{"-n x -s big", `--size: "big" is no number of bytes`},
		{"-n x -P 0", `--parallel: "0" is no number of flows: it is 1 to 128`},
		{"-n x -P 129", `--parallel: "129" is no number of flows`},
		{"-n x -q gold", `--qos: unknown QoS "gold"`},
		{"-n x --json --json-stream", "--json and --json-stream exclude each other"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		env := &applets.Env{Name: "operf", Args: strings.Fields(tt.args), Stdout: &out, Stderr: &out}
		_, err := parse(t.Context(), env)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || out.Len() > 0 {
			t.Errorf("%q: error %v, want %s; output %q", tt.args, err, tt.want, &out)
		}
	}
}
