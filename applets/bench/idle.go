package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"o7s/ipc"
)

// maxIdle is how many idle flows are measured at most.
const maxIdle = 10000

// idle measures what idle flows cost the IPCPs: those on which no packet passes.
func (b *bench) idle(ctx context.Context) error {
	b.tell("flows that idle")
	s := spec{Kind: "idle", Role: "passive", Name: fmt.Sprintf("bench-%d", names.Add(1)), Time: 60 * b.time, Most: maxIdle}
	nodes := []*node{b.client, b.server}
	var before, after [2]usage
	for i, n := range nodes {
		before[i] = usageOf(n.ipcp)
	}
	server, sout, err := b.server.worker(ctx, s, -1, nil)
	if err != nil {
		return err
	}
	defer stop(server)
	if err := ready(sout); err != nil {
		return err
	}
	s.Role = "active"
	client, cout, err := b.client.worker(ctx, s, -1, nil)
	if err != nil {
		return err
	}
	defer stop(client)
	line, err := cout.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the worker with flows that idle: %w", err)
	}
	flows, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || flows == 0 {
		return fmt.Errorf("the worker with flows that idle has %q of them", line)
	}
	for i, n := range nodes {
		before[i].cpu = usageOf(n.ipcp).cpu
	}
	start := time.Now()
	select {
	case <-time.After(5 * b.time):
	case <-ctx.Done():
		return ctx.Err()
	}
	took := time.Since(start)
	b.tell("")
	fmt.Fprintf(b.out, "\n%-24s %10s %14s %14s\n", fmt.Sprintf("%d flows idle", flows), "threads", "KiB of a flow", "% of a CPU")
	for i, n := range nodes {
		after[i] = usageOf(n.ipcp)
		fmt.Fprintf(b.out, "%-24s %10d %14.1f %14.2f\n", []string{"the client's IPCP", "the server's IPCP"}[i], after[i].threads,
			float64(after[i].kib-before[i].kib)/float64(flows), 100*(after[i].cpu-before[i].cpu).Seconds()/took.Seconds())
	}
	return nil
}

// usage is what a process takes.
type usage struct {
	threads int
	kib     int // of memory, shared memory included
	cpu     time.Duration
}

func usageOf(pid int) (u usage) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		k, v, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
		switch k {
		case "Threads":
			u.threads = n
		case "VmRSS":
			u.kib = n
		}
	}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks { // of each thread: the process's own counts ticks
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
		ns, _, _ := strings.Cut(string(b), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		u.cpu += time.Duration(n)
	}
	return u
}

// dialers is how many flows are asked for at a time.
const dialers = 4

// idle allocates flows for a while and prints how many it has. It holds them until
// ctx is done.
func idle(ctx context.Context, s spec, out io.Writer) error {
	var flows atomic.Int32
	var all sync.WaitGroup
	errs := make(chan error, dialers)
	start := time.Now()
	for range dialers {
		all.Go(func() {
			for time.Since(start) < s.Time && int(flows.Add(1)) <= s.Most {
				c, err := ipc.Dial(ctx, s.Name)
				if err != nil {
					errs <- err
					return
				}
				context.AfterFunc(ctx, func() { c.Close() })
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	fmt.Fprintln(out, min(int(flows.Load()), s.Most))
	<-ctx.Done()
	return nil
}

// hold accepts flows and holds them until ctx is done.
func hold(ctx context.Context, s spec, out io.Writer) error {
	return acceptEach(ctx, s, out, func(c *ipc.Conn) error {
		context.AfterFunc(ctx, func() { c.Close() })
		return nil
	})
}
