package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core/ipcp/local"
	"o7s/ipc"
)

// What one end of an idle flow may take, in KiB: memory of its own and its half
// of the page that the two ends share; page tables, of which one of 4 KiB serves
// a single flow while rings are large, and several once flows are many.
const (
	idleMemory = 9
	idleTables = 4
)

// Between two processes there are many flows, and a goroutine waits on either
// end of each. They take a descriptor, a mapping and some memory each, but no
// thread and no time, and a packet passes one of them as if it were alone. When
// they end, closed or with their process, all of it is given back.
func TestIdleFlows(t *testing.T) {
	t.Parallel()
	flows := 1000
	if *long {
		flows = 10_000
	}
	var lim unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)) // Go has raised it as far as it goes
	if need := uint64(flows + 500); lim.Cur < need {
		t.Skipf("%d flows take up to %d descriptors of a process, and it may have %d", flows, need, lim.Cur)
	}
	w := newWorld(t, local.Type.Name, "--log-level", "info")
	w.register(t, "idle")
	server := &idler{process: w.role(t, "test-idle-server", "ready", "idle")}
	client := &idler{process: w.role(t, "test-idle-client", "ready", "idle")}
	list, err := w.admin.IPCPs(wait(t))
	must(t, err)
	ends := []*idler{client, server}
	all := map[string]int{"client": client.pid(), "server": server.pid(), "irmd": w.pid(), "ipcpd-local": pids(list)[0]}

	client.all(t, "dial", 1)
	t.Log("lone flow: a round trip in", client.do(t, "trips"))
	client.all(t, "close", 1)
	server.do(t, "await 0")
	held := w.holds(t)
	before := usages(t, all, "without a flow")
	for _, p := range ends {
		p.goroutines = p.do(t, "collect")
	}

	start := time.Now()
	client.all(t, "dial", flows)
	server.do(t, fmt.Sprint("await ", flows))
	t.Logf("%d flows in %v", flows, time.Since(start).Round(time.Millisecond))
	for _, p := range ends {
		p.do(t, "collect")
	}
	atRest(t, all)
	now := usages(t, all, "with the flows")
	for name := range all {
		checkIdle(t, name, flows, before[name], now[name])
	}
	t.Log("flow among them: a round trip in", client.do(t, "trips"))

	client.do(t, "ask")
	if *long && !racing {
		giveBack(t, client, now["client"])
	}
	start = time.Now()
	client.all(t, "close", flows)
	server.do(t, "await 0")
	t.Logf("closed in %v", time.Since(start).Round(time.Millisecond))
	gone := func(p *idler) usage {
		p.rests(t)
		u := usageOf(t, p.pid())
		if b := before[strings.TrimPrefix(p.name, "test-idle-")]; u.descriptors != b.descriptors || u.memories != 0 {
			t.Errorf("%s, after the flows: %+v, before: %+v", p.name, u, b)
		}
		return u
	}
	gone(client)
	once := gone(server)
	w.holdsNoMore(t, held)
	usages(t, all, "after the flows")

	client.all(t, "dial", flows)
	server.do(t, fmt.Sprint("await ", flows))
	client.do(t, "ask")
	start = time.Now()
	client.kill()
	delete(all, "client")
	server.do(t, "await 0")
	t.Logf("ended by the client's death in %v", time.Since(start).Round(time.Millisecond))
	twice := gone(server)
	w.holdsNoMore(t, held)
	usages(t, all, "after the client's death")
	// What Go keeps of the first time, the goroutines above all, serves the
	// second.
	if more := twice.anon - once.anon; more > flows/2+2<<10 && !racing {
		t.Errorf("%d flows later the server has %d KiB more", flows, more)
	}
	w.empty(t)
}

// checkIdle checks what so many flows take of one of the four processes.
func checkIdle(t *testing.T, name string, flows int, before, now usage) {
	t.Helper()
	if n := now.descriptors - before.descriptors; n > flows {
		t.Errorf("%s: %d descriptors for %d flows", name, n, flows)
	}
	if racing {
		return // which takes threads and memory
	}
	// Go's own memory takes some more.
	if n := now.mappings - before.mappings; n > flows+flows/50+50 {
		t.Errorf("%s: %d mappings for %d flows", name, n, flows)
	}
	if most := 8 + runtime.NumCPU(); now.memories > 0 && now.threads >= most {
		t.Errorf("%s: %d threads, want less than %d", name, now.threads, most)
	}
	memory, tables := now.anon-before.anon+now.shared-before.shared, now.tables-before.tables
	if memory > flows*idleMemory+1<<10 || tables > flows*idleTables+1<<10 {
		t.Errorf("%s: %d KiB for %d flows, and %d of page tables", name, memory, flows, tables)
	}
	if *long && memory+tables > flows*idleMemory {
		t.Errorf("%s: %d KiB for %d flows, page tables too", name, memory+tables, flows)
	}
	per := func(kB int) float64 { return float64(kB) / float64(flows) }
	t.Logf("%s: KiB for each flow: %.2f of its own, %.2f shared, %.2f of page tables", name,
		per(now.anon-before.anon), per(now.shared-before.shared), per(tables))
}

// giveBack waits until flows that were used have given back what they took for
// that.
func giveBack(t *testing.T, p *idler, idle usage) {
	t.Helper()
	used := usageOf(t, p.pid())
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		u := usageOf(t, p.pid())
		if u.shared <= idle.shared+64 {
			t.Logf("%d KiB of rings were given back after %v", used.shared-u.shared, time.Since(start).Round(time.Second))
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("idle flows share %d KiB, %d before they were used", u.shared, idle.shared)
		}
	}
}

// idler is a process that does what it is told, and says when it is done.
type idler struct {
	*process
	words      int
	goroutines string // that it had without a flow
}

// do returns what came of it.
func (p *idler) do(t *testing.T, words string) string {
	t.Helper()
	fmt.Fprintln(p.in, words)
	p.words++
	line, err := p.line("done:", p.words)
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
	return strings.TrimPrefix(line, "done: ")
}

// all does it for n flows, so many at a time that it takes no patience.
func (p *idler) all(t *testing.T, word string, n int) {
	t.Helper()
	for n > 0 {
		k := min(n, 200)
		p.do(t, fmt.Sprint(word, " ", k))
		n -= k
	}
}

// rests waits until p has no more goroutines than without a flow.
func (p *idler) rests(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for n := p.do(t, "collect"); n != p.goroutines; n = p.do(t, "collect") {
		if time.Now().After(deadline) {
			t.Fatalf("%s has %s goroutines, had %s without a flow", p.name, n, p.goroutines)
		}
	}
}

// atRest waits for a second in which none of the processes runs.
func atRest(t *testing.T, all map[string]int) {
	t.Helper()
	ran := func() map[string]int {
		m := make(map[string]int)
		for name, pid := range all {
			m[name] = switchesOf(t, pid)
		}
		return m
	}
	for deadline := time.Now().Add(patience); ; {
		a := ran()
		time.Sleep(time.Second)
		b := ran()
		if reflect.DeepEqual(a, b) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no rest: they had run %v times, a second later %v", a, b)
		}
	}
}

// usage is what a process has of the system's.
type usage struct {
	descriptors, memories, mappings, threads int
	anon, shared, tables                     int // KiB; of what is shared, its share
}

func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	h, err := possessionOf(pid)
	must(t, err)
	u.descriptors, u.memories, u.threads = h.descriptors, h.memories, h.threads
	dir := fmt.Sprintf("/proc/%d/", pid)
	text := func(name string) string {
		b, err := os.ReadFile(dir + name)
		must(t, err)
		return string(b)
	}
	u.mappings = strings.Count(text("maps"), "\n")
	for line := range strings.Lines(text("status") + text("smaps_rollup")) {
		f := strings.Fields(line)
		to := map[string]*int{"VmPTE:": &u.tables, "Pss_Anon:": &u.anon, "Pss_Shmem:": &u.shared}[f[0]]
		if to != nil {
			*to, err = strconv.Atoi(f[1])
			must(t, err)
		}
	}
	return u
}

func usages(t *testing.T, all map[string]int, when string) map[string]usage {
	t.Helper()
	m := make(map[string]usage)
	for name, pid := range all {
		m[name] = usageOf(t, pid)
		t.Logf("%s, %s: %+v", name, when, m[name])
	}
	return m
}

// switchesOf returns how often threads of a process came to run so far.
func switchesOf(t *testing.T, pid int) int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/task/", pid)
	tasks, err := os.ReadDir(dir)
	must(t, err)
	sum := 0
	for _, task := range tasks {
		b, err := os.ReadFile(dir + task.Name() + "/schedstat")
		must(t, err)
		n, err := strconv.Atoi(strings.Fields(string(b))[2])
		must(t, err)
		sum += n
	}
	return sum
}

// obey does what the test says, and says what came of it.
func obey(ctx context.Context, words map[string]func(n int) (any, error)) error {
	fmt.Println("ready")
	for {
		var line string
		select {
		case line = <-said:
		case <-ctx.Done():
			return nil
		}
		word, number, _ := strings.Cut(line, " ")
		n, _ := strconv.Atoi(number)
		result, err := words[word](n)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		fmt.Println("done:", result)
	}
}

// collect does what Go would do some minutes later, and returns how many
// goroutines there are.
func collect(int) (any, error) {
	for range 2 {
		debug.FreeOSMemory()
	}
	return runtime.NumGoroutine(), nil
}

// idleServerRole answers each packet with itself, with a goroutine for each
// flow.
func idleServerRole(ctx context.Context, args []string) error {
	l, err := ipc.Listen(ctx, args[0])
	if err != nil {
		return err
	}
	defer l.Close()
	var mu sync.Mutex // guards flows
	flows, changed := 0, sync.NewCond(&mu)
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		flows += n
		changed.Broadcast()
	}
	go func() {
		for {
			c, err := l.AcceptFlow()
			if err != nil {
				return
			}
			count(1)
			go func() {
				p := make([]byte, 64)
				n, err := c.Read(p)
				for err == nil {
					if _, err = c.Write(p[:n]); err == nil {
						n, err = c.Read(p)
					}
				}
				c.Close()
				count(-1)
			}()
		}
	}()
	return obey(ctx, map[string]func(int) (any, error){
		"await": func(n int) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			for flows != n {
				changed.Wait()
			}
			return n, nil
		},
		"collect": collect,
	})
}

// idleClientRole dials its name. A goroutine waits on each flow but the first,
// which is for round trips.
func idleClientRole(ctx context.Context, args []string) error {
	const atOnce = 16
	var conns []*ipc.Conn
	answers := make(chan struct{}, atOnce)
	many := func(conns []*ipc.Conn, f func(c **ipc.Conn) error) error {
		errs := make(chan error)
		var next atomic.Int32
		for range atOnce {
			go func() {
				var err error
				for i := next.Add(1) - 1; err == nil && int(i) < len(conns); i = next.Add(1) - 1 {
					err = f(&conns[i])
				}
				errs <- err
			}()
		}
		var all error
		for range atOnce {
			all = errors.Join(all, <-errs)
		}
		return all
	}
	return obey(ctx, map[string]func(int) (any, error){
		"dial": func(n int) (any, error) {
			conns = append(conns, make([]*ipc.Conn, n)...)
			return n, many(conns[len(conns)-n:], func(c **ipc.Conn) (err error) {
				if *c, err = ipc.Dial(ctx, args[0]); err == nil && c != &conns[0] {
					go await(*c, answers)
				}
				return err
			})
		},
		"ask": func(int) (any, error) {
			go many(conns[1:], func(c **ipc.Conn) error { return (*c).WritePacket([]byte("are you there?")) })
			for range conns[1:] {
				<-answers
			}
			return len(conns), nil
		},
		"trips": func(int) (any, error) { return trips(conns[0]) },
		"close": func(n int) (any, error) {
			err := many(conns[len(conns)-n:], func(c **ipc.Conn) error { return (*c).Close() })
			clear(conns[len(conns)-n:])
			if conns = conns[:len(conns)-n]; len(conns) == 0 {
				conns = nil
			}
			return n, err
		},
		"collect": collect,
	})
}

// await reads c to its end.
func await(c *ipc.Conn, answers chan<- struct{}) {
	p := make([]byte, 64)
	for {
		if _, err := c.Read(p); err != nil {
			return
		}
		answers <- struct{}{}
	}
}

// trips returns the least median of some hundred round trips, which the kernel
// has left in their places.
func trips(c *ipc.Conn) (any, error) {
	p := make([]byte, 64)
	took := make([]time.Duration, 500)
	least := time.Hour
	for range 20 {
		for i := range took {
			start := time.Now()
			if err := c.WritePacket(p); err != nil {
				return nil, err
			}
			if _, err := c.ReadPacket(p); err != nil {
				return nil, err
			}
			took[i] = time.Since(start)
		}
		slices.Sort(took)
		least = min(least, took[len(took)/2])
	}
	return least, nil
}
