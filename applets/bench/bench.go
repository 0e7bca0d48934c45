// Package bench measures flows side by side with Unix sockets and a pipe, on
// this machine, in one run: between two processes, through the public API. It
// prints one table. It tunes nothing.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"o7s/applets"
	"o7s/core/ipcp/port"
)

// Applet returns the bench applet.
func Applet() applets.Applet {
	return applets.Applet{
		Name:    "bench",
		Summary: "measure flows beside Unix sockets and a pipe on this machine",
		NoLink:  true,
		Run: func(ctx context.Context, env *applets.Env) error {
			if len(env.Args) == 2 && env.Args[0] == workerArg {
				return work(ctx, env.Args[1], env.Stdout)
			}
			return applets.CLI(ctx, env, &cli.App{
				Usage:     "measure flows beside Unix sockets and a pipe",
				UsageText: "o7s bench [--rounds N] [--time D] [udp | eth | layers]",
				ArgsUsage: "[udp | eth | layers]",
				Description: "It starts an IRMd of its own and two processes for each measurement, and prints\n" +
					"the median of the rounds. The rounds are interleaved, since machines drift. Run it\n" +
					"on a machine that does nothing else:\n\n   $ o7s bench\n\n" +
					"With udp it measures flows between two systems on this machine, over UDP, beside\n" +
					"sockets that pass many datagrams at a time, and sockets that pass one, and what\n" +
					"10,000 flows cost over which nothing passes; with eth flows on a virtual\n" +
					"Ethernet, beside packet sockets; with layers flows through a member of a layer\n" +
					"over a layer, beside flows of one process to another.",
				Flags: []cli.Flag{
					&cli.IntFlag{Name: "rounds", Value: 5, Usage: "measure each thing `N` times"},
					&cli.DurationFlag{Name: "time", Value: 200 * time.Millisecond, Usage: "let each measurement take `D`"},
				},
				Action: func(c *cli.Context) error {
					b := &bench{out: env.Stdout, errs: env.Stderr, rounds: c.Int("rounds"), time: c.Duration("time")}
					if b.rounds < 1 || b.time < time.Millisecond {
						return applets.Usagef("at least one round of 1 ms")
					}
					b.progress = applets.Terminal(env.Stderr)
					switch what := c.Args().First(); {
					case c.NArg() > 1 || what != "" && what != "udp" && what != "eth" && what != "layers":
						return applets.Usagef("unexpected argument %q: there are udp, eth and layers", c.Args().Get(c.NArg()-1))
					case what == "eth":
						return b.runEth(c.Context, env.Args)
					case what == "layers":
						return b.runLayers(c.Context)
					case what == "udp":
						return b.runUDP(c.Context)
					}
					return b.run(c.Context)
				},
			})
		},
	}
}

type bench struct {
	out, errs io.Writer
	progress  bool
	rounds    int
	time      time.Duration
	// The active worker is a process of client, the passive one of server.
	client, server *node
	macs           [2]port.MAC // of their devices, on Ethernet
	ips            [2]string   // of both, over UDP
}

// flowBatch is the kind of a flow with many packets a call.
const flowBatch = "flow batch"

// The rows, in the order of the table.
var (
	kinds = []string{"flow", flowBatch, "flow lent", "seqpacket", "stream", "pipe"}
	sizes = []int{64, 1500, 8192, 65000}
)

// placement says on which cores the two processes run.
type placement struct {
	name string
	cpus [2]int // -1: anywhere
}

// anywhere leaves the cores to the kernel.
var anywhere = placement{"anywhere", [2]int{-1, -1}}

func placements() []placement {
	p := []placement{anywhere}
	var may unix.CPUSet // of this process: a container may have a few only
	if unix.SchedGetaffinity(0, &may) != nil {
		return p
	}
	var cpus []int
	for cpu := 0; cpu < 8*len(may)*8 && len(cpus) < 2; cpu++ {
		if may.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) > 0 {
		p = append(p, placement{"on one core", [2]int{cpus[0], cpus[0]}})
	}
	if len(cpus) > 1 {
		p = append(p, placement{"on two cores", [2]int{cpus[0], cpus[1]}})
	}
	return p
}

func (b *bench) run(ctx context.Context) error {
	node, err := startNode(ctx, "local")
	if err != nil {
		return err
	}
	defer node.stop()
	b.client, b.server = node, node
	b.head("two processes")
	for _, p := range placements() {
		if err := b.place(ctx, p); err != nil {
			return err
		}
	}
	return b.allocations(ctx)
}

// head says what is measured where.
func (b *bench) head(what string) {
	fmt.Fprintf(b.out, "%s, %d CPUs, Linux %s, %s; median of %d rounds of %v, %s\n",
		cpuName(), runtime.NumCPU(), release(), runtime.Version(), b.rounds, b.time, what)
}

// place measures all kinds at one placement.
func (b *bench) place(ctx context.Context, p placement) error {
	trips, ways, err := b.measure(ctx, p.name+", ", kinds, sizes, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\nBoth processes %s\n", p.name)
	fmt.Fprintf(b.out, "%-11s %26s  %s\n", "", "round trip 64 B", "one way: million packets/s (CPU us/packet, both processes)")
	fmt.Fprintf(b.out, "%-11s %8s %8s %8s", "", "p50 us", "p99 us", "CPU us")
	for _, size := range sizes {
		fmt.Fprintf(b.out, " %16s", fmt.Sprintf("%d B", size))
	}
	fmt.Fprintln(b.out)
	for _, kind := range kinds {
		fmt.Fprintf(b.out, "%-11s", kind)
		if t := trips[kind]; len(t) > 0 {
			fmt.Fprintf(b.out, " %8.2f %8.2f %8.2f", median(t, p50), median(t, p99), median(t, cpuEach))
		} else {
			fmt.Fprintf(b.out, " %26s", "")
		}
		for _, size := range sizes {
			w := ways[kind][size]
			fmt.Fprintf(b.out, " %16s", fmt.Sprintf("%.3g (%.3g)", median(w, millions), median(w, cpuEach)))
		}
		fmt.Fprintln(b.out)
	}
	return nil
}

// measure measures each of kinds at p, round by round. It returns the results of round
// trips by kind, and those of one way by kind and size. doing begins the line that
// tells on a terminal what is being done.
func (b *bench) measure(ctx context.Context, doing string, kinds []string, sizes []int, p placement) (trips map[string][]result, ways map[string]map[int][]result, err error) {
	trips = make(map[string][]result)
	ways = make(map[string]map[int][]result)
	defer b.tell("")
	for round := range b.rounds {
		for _, kind := range kinds {
			b.tell("%sround %d of %d: %s", doing, round+1, b.rounds, kind)
			s := spec{Kind: kind, IPs: b.ips, Peer: b.macs[1], Time: b.time}
			if s.Port, err = b.freePort(); err != nil {
				return nil, nil, err
			}
			switch kind {
			case flowBatch, segmented, rawFrames: // a round trip is of one packet
			default:
				s.Mode, s.Size = "trip", 64
				r, err := b.pair(ctx, s, p)
				if err != nil {
					return nil, nil, err
				}
				trips[kind] = append(trips[kind], r)
			}
			if ways[kind] == nil {
				ways[kind] = make(map[int][]result)
			}
			for _, size := range sizes {
				s.Mode, s.Size = "way", size
				r, err := b.pair(ctx, s, p)
				if err != nil {
					return nil, nil, err
				}
				ways[kind][size] = append(ways[kind][size], r)
			}
		}
	}
	return trips, ways, nil
}

// allocations measures how fast flows are allocated and closed.
func (b *bench) allocations(ctx context.Context) error {
	fmt.Fprintf(b.out, "\n%-24s %10s %14s %14s\n", "allocate and close", "flows/s", "Dial p50 us", "Close p50 us")
	for _, clients := range []int{1, 8} {
		var all []result
		for round := range b.rounds {
			b.tell("allocations, round %d of %d: %d clients", round+1, b.rounds, clients)
			r, err := b.dials(ctx, clients)
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		b.tell("")
		fmt.Fprintf(b.out, "%-24s %10.0f %14.0f %14.0f\n", fmt.Sprintf("%d clients", clients),
			1e6*median(all, millions), median(all, p50), median(all, p99))
	}
	return nil
}

// tell says on a terminal what is being done.
func (b *bench) tell(format string, args ...any) {
	if b.progress {
		fmt.Fprintf(b.errs, "\r\x1b[K"+format, args...)
	}
}

// The figures of a result.
func p50(r result) float64      { return float64(r.P50) / 1e3 }                                // us
func p99(r result) float64      { return float64(r.P99) / 1e3 }                                // us
func cpuEach(r result) float64  { return float64(r.CPU) / 1e3 / float64(r.N) }                 // us a packet
func millions(r result) float64 { return float64(r.N) / float64(r.Nanos) * 1e3 }               // a second
func lost(r result) float64     { return 100 * float64(r.Sent-r.N) / float64(max(r.Sent, 1)) } // %

func median(rs []result, of func(result) float64) float64 {
	v := make([]float64, len(rs))
	for i, r := range rs {
		v[i] = of(r)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

func release() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}
