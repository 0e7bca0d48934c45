package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/view"
	"o7s/ipc"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

var soakRounds = flag.Int("soak", 0, "soak each layer type for so many rounds, in place of 4, or of 600 with -long")

// A soak is a system that works for long: an hour's work, or ten, at the rate
// that the machine manages. A round has what a small machine may see in a
// minute, so 60 are an hour: programs that come, use flows, end or are killed;
// servers that come with a name and go with it, or are started on demand; an
// IPCP that dies and is made anew; somebody who watches. All that at once,
// beside an IPCP and a server that live all along. After a round nothing of it
// is there any more; after all of them IRMd, IPCPs, the server and this process
// hold what they held after the first ones.
func TestSoak(t *testing.T) {
	warmup, rounds := 1, 4
	warm := *long || *soakRounds > 0
	if warm {
		warmup, rounds = 60, 600
	}
	if *soakRounds > 0 {
		rounds = *soakRounds
	}
	t.Setenv("GOGC", "10") // of those that it starts: garbage is not to hide a leak
	for _, typ := range types {
		t.Run(typ.Name, func(t *testing.T) {
			var idle [3]int
			t.Run("warm", func(t *testing.T) {
				s := newSoak(t, typ.Name)
				s.rounds(t, 0, warmup)
				idle = s.goroutines(t)
			})
			if t.Failed() {
				return
			}
			s := newSoak(t, typ.Name)
			s.rounds(t, 0, warmup)
			before, own := s.possessions(t, nil), held()
			s.flows, s.ended, s.killed, s.ipcps = 0, 0, 0, 0
			began := time.Now()
			s.rounds(t, warmup, warmup+rounds)
			took := time.Since(began)
			if left := leftSince(own); left != "" {
				t.Errorf("this process has more than before: %s", left)
			}
			after := s.possessions(t, before)
			s.empty(t)
			for i, h := range after {
				b := before[i]
				// A Go program keeps the threads that it needed at the
				// most at one moment.
				if !racing && h.threads > b.threads+8 {
					t.Errorf("%s has %d threads, had %d", soakHolders[i], h.threads, b.threads)
				}
				// What it has of its own grows at first, and goes up and
				// down by some MiB later.
				if warm && !racing && h.kB > b.kB+soakKB {
					t.Errorf("%s has %d kB in use, had %d", soakHolders[i], h.kB, b.kB)
				}
				t.Logf("%s held %+v, now %+v", soakHolders[i], b, h)
			}
			now := s.goroutines(t)
			for i := range now {
				// Some may still be about to end; what a round leaves behind
				// is as many as the rounds, at least.
				if now[i] > idle[i]+3 {
					t.Errorf("server, IRMd and IPCP have %v goroutines, and %v after the warm-up alone", now, idle)
				}
			}
			t.Logf("%d rounds in %v; %d flows, %d processes ended and %d were killed, %d IPCPs were; server, IRMd and IPCP have %v goroutines",
				rounds, took.Round(time.Millisecond), s.flows, s.ended, s.killed, s.ipcps, now)
		})
	}
}

// soakKB is how much more memory of its own each may have than after the
// warm-up: 150 bytes for each flow of the long form.
const soakKB = 2 << 10

// soakHolders are those whose possessions are compared.
var soakHolders = []string{"server", "IRMd", "IPCP", "new IPCP"}

type soak struct {
	*world
	server  *process
	program string // another path of oping

	mu                          sync.Mutex // guards the fields below
	flows, ended, killed, ipcps int
}

func newSoak(t *testing.T, typ string) *soak {
	s := &soak{world: newWorld(t, typ)}
	must(t, s.admin.SetLogLevel(wait(t), "warn")) // the test keeps all lines
	s.server = s.role(t, "test-bound", "listens")
	s.register(t, "steady", "demand", "empty")
	must(t, s.admin.BindProcess(wait(t), s.server.pid(), "steady"))
	must(t, s.admin.BindProcess(wait(t), s.server.pid(), "fleeting"))
	must(t, s.mortal(wait(t)))
	exe, err := os.Executable()
	must(t, err)
	s.program = filepath.Join(t.TempDir(), "oping")
	must(t, os.Symlink(exe, s.program))
	must(t, s.admin.BindProgram(wait(t), irmctl.ProgramReq{Path: s.program, Name: "demand", Auto: true, Args: []string{"--listen"}}))
	must(t, s.echoes(wait(t), "steady")) // this process is one of the system
	return s
}

// mortal makes the IPCP that dies in each round.
func (s *soak) mortal(ctx context.Context) error {
	if _, err := s.admin.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: "mortal", Type: s.typ, Draft: ipcp.Draft{Layer: "other"}}); err != nil {
		return err
	}
	return s.admin.RegisterName(ctx, irmctl.RegisterReq{Name: "fleeting", Layers: []string{"other"}})
}

// possessions returns what they hold once no flow is left, waiting a while until
// that is no more than most. They let go of a flow's memory after they have said
// so.
func (s *soak) possessions(t *testing.T, most []possession) (all []possession) {
	t.Helper()
	must(t, s.quiet(wait(t)))
	for ctx := wait(t); ; {
		h, err := possessionOf(s.server.pid())
		must(t, err)
		all = append([]possession{h}, s.holds(t)...)
		more := false
		for i, h := range all {
			more = more || h.memories > 0 || most != nil && h.descriptors > most[i].descriptors
		}
		if !more {
			return all
		}
		if ctx.Err() != nil {
			t.Fatalf("without flows, %v hold %+v, and held %+v", soakHolders, all, most)
		}
	}
}

// rounds does the rounds from the one number to the other.
func (s *soak) rounds(t *testing.T, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
		works := []struct {
			what string
			work func(context.Context, int) error
		}{
			{"client", s.client}, {"client", s.client},
			{"killed client", s.killedClient}, {"killed client", s.killedClient},
			{"server", s.comesAndGoes}, {"layer", s.layerDies}, {"demand", s.onDemand},
			{"watcher", s.watches},
		}
		var wg sync.WaitGroup
		for _, w := range works {
			wg.Go(func() {
				if err := w.work(ctx, n); err != nil {
					t.Errorf("round %d: %s: %v", n, w.what, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		if err := s.quiet(ctx); err != nil {
			t.Fatalf("after round %d: %v", n, err)
		}
		cancel()
	}
}

func (s *soak) count(flows, ended, killed, ipcps int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows += flows
	s.ended += ended
	s.killed += killed
	s.ipcps += ipcps
}

// client is a program that does its work and ends.
func (s *soak) client(context.Context, int) error {
	p, err := start("test-work", s.dir, nil, "steady", "8")
	if err != nil {
		return err
	}
	_, err = p.line("done", 1)
	s.count(8, 1, 0, 0)
	return errors.Join(err, p.ends())
}

// killedClient is one that is killed while it works.
func (s *soak) killedClient(context.Context, int) error {
	p, err := start("test-work", s.dir, nil, "steady", "1000000")
	if err != nil {
		return err
	}
	_, err = p.line("works", 1)
	p.kill()
	s.count(2, 0, 1, 0) // at least
	return errors.Join(err, p.stop())
}

// comesAndGoes is a server with a name of its own, which is killed or ends.
func (s *soak) comesAndGoes(ctx context.Context, n int) error {
	name := fmt.Sprint("name ", n)
	p, err := start("test-echo", s.dir, nil, name)
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := p.line("listens", 1); err != nil {
		return err
	}
	if err := s.admin.RegisterName(ctx, irmctl.RegisterReq{Name: name, Layers: []string{"layer"}}); err != nil {
		return err
	}
	c, err := s.dialEcho(ctx, name)
	if err != nil {
		return err
	}
	defer c.Close()
	s.count(1, 0, 0, 0)
	if n%2 == 0 {
		p.kill()
		s.count(0, 0, 1, 0)
	} else {
		p.in.Close() // it closes its listener, and leaves the flow to its end
		<-p.done
		s.count(0, 1, 0, 0)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, core.ErrFlowDown) {
		return fmt.Errorf("a flow whose server has gone: %w", err)
	}
	if err := s.admin.UnregisterName(ctx, irmctl.RegisterReq{Name: name, Layers: []string{"layer"}}); err != nil {
		return err
	}
	return s.admin.DestroyName(ctx, name)
}

// layerDies kills an IPCP under a flow and makes it anew.
func (s *soak) layerDies(ctx context.Context, _ int) error {
	c, err := s.dialEcho(ctx, "fleeting")
	if err != nil {
		return err
	}
	defer c.Close()
	find := func() (pid int, err error) {
		list, err := s.admin.IPCPs(ctx)
		for _, i := range list {
			if i.Name == "mortal" {
				pid = i.PID
			}
		}
		return pid, err
	}
	pid, err := find()
	if err != nil || pid == 0 {
		return fmt.Errorf("the IPCP is not there: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	s.count(1, 0, 0, 1)
	// The server may hear first, and close its end.
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, core.ErrFlowDown) && err != io.EOF {
		return fmt.Errorf("a flow whose IPCP has gone: %w", err)
	}
	for pid != 0 { // it is being reaped
		if pid, err = find(); err != nil {
			return err
		}
	}
	return s.mortal(ctx)
}

// onDemand pings a server that is started for it, and kills that.
func (s *soak) onDemand(ctx context.Context, _ int) error {
	p, err := start("oping", s.dir, nil, "-n", "demand", "-c", "1", "-i", "1ms")
	if err != nil {
		return err
	}
	<-p.done
	if err := errors.Join(p.err, p.stop()); err != nil {
		return fmt.Errorf("%w: %q", err, p.lines)
	}
	list, err := s.admin.Processes(ctx)
	if err != nil {
		return err
	}
	killed := 0
	for _, p := range list {
		if p.Auto {
			killed++
			err = errors.Join(err, syscall.Kill(p.PID, syscall.SIGKILL))
		}
	}
	s.count(1, 1, killed, 0)
	if killed != 1 {
		return fmt.Errorf("%d servers were started", killed)
	}
	for running := 1; err == nil && running > 0; {
		var programs []view.Program
		programs, err = s.admin.Programs(ctx)
		running = 0
		for _, p := range programs {
			running += p.Running
		}
	}
	return err
}

// watches is an administrator who looks at all lists, and at events until
// there is one.
func (s *soak) watches(ctx context.Context, _ int) error {
	mux := rpc.NewMux()
	seen := make(chan string, 1)
	rpc.Handle(mux, irmctl.Event, func(_ *rpc.Call[rpc.Empty], e *view.Event) {
		select {
		case seen <- e.Event:
		default:
		}
	})
	link, err := irmctl.ConnectTo(ctx, s.dir, rpc.Config{Mux: mux})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	over := async(func() error {
		_, err := rpc.Do(ctx, link, irmctl.Watch, &rpc.Empty{}, nil)
		return err
	})
	err = s.echoes(ctx, "steady")
	s.count(1, 0, 0, 0)
	if err == nil {
		<-seen
	}
	cancel()
	if e := <-over; !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	link.Close()
	<-link.Done()
	c, cerr := client(context.Background(), s.dir)
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	defer c.Close()
	_, e1 := c.Flows(context.Background())
	_, e2 := c.Bindings(context.Background())
	_, e3 := c.Registrations(context.Background())
	return errors.Join(err, e1, e2, e3)
}

// echoes uses a flow to name in this process.
func (s *soak) echoes(ctx context.Context, name string) error {
	c, err := s.dialEcho(ctx, name)
	if err != nil {
		return err
	}
	return c.Close()
}

// dialEcho returns a flow to name on which packets came back.
func (s *soak) dialEcho(ctx context.Context, name string) (*ipc.Conn, error) {
	c, err := s.node.Dial(ctx, name)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := askMuch(c); err != nil {
		c.Close()
		return nil, fmt.Errorf("flow to %q: %w", name, err)
	}
	return c, nil
}

// quiet waits until no flow is left, and no process beside the server and this
// one.
func (s *soak) quiet(ctx context.Context) error {
	for {
		sys, err := s.admin.System(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		if sys.Flows == 0 && sys.Processes == 2 && sys.IPCPs == 2 && sys.Names == 4 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("there are %+v", sys)
		}
	}
}

// stack begins that of a goroutine, when a Go program is told to quit.
var stack = regexp.MustCompile(`^goroutine [1-9]\d* `)

// goroutines ends the world and returns how many goroutines the server, the
// IRMd and the IPCP had.
func (s *soak) goroutines(t *testing.T) (n [3]int) {
	t.Helper()
	must(t, s.quiet(wait(t)))
	ctx := wait(t)
	list, err := s.admin.IPCPs(ctx)
	must(t, err)
	n[0] = s.server.dump(t, s.server.pid())
	for _, i := range list {
		if i.Name == "ipcp" {
			n[2] = s.process.dump(t, i.PID)
		}
	}
	for { // the IRMd hears of both
		sys, err := s.admin.System(ctx)
		must(t, err)
		if sys.Processes == 1 && sys.IPCPs == 1 {
			break
		}
	}
	n[1] = s.process.dump(t, s.pid())
	return n
}

// dump tells pid, which is p's or its child's, to quit and counts the
// goroutines that it writes down.
func (p *process) dump(t *testing.T, pid int) (goroutines int) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGQUIT))
	if pid == p.pid() {
		must(t, within(patience, p.gone))
		<-p.done
	} else { // the registers come last
		_, err := p.line("rip ", 1)
		must(t, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dumped = p.dumped || pid == p.pid()
	at := 0
	for i, l := range p.lines {
		if strings.HasPrefix(l, "SIGQUIT: quit") {
			at = i
		}
	}
	for block := range strings.SplitSeq(strings.Join(p.lines[at:], "\n"), "\n\n") {
		if stack.MatchString(block) && strings.Contains(block, "o7s/") { // the runtime has its own
			goroutines++
		}
	}
	return goroutines
}

// ends waits for the end of p, which must be a proper one.
func (p *process) ends() error {
	if err := within(patience, p.done); err != nil {
		p.kill()
		return errors.Join(err, p.stop())
	}
	return p.stop()
}

// workRole dials its name so often, and has packets of all sizes echoed on
// each flow.
func workRole(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for i := range n {
		c, err := ipc.Dial(ctx, args[0])
		if err != nil {
			return err
		}
		if err := askMuch(c); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("works")
		}
	}
	fmt.Println("done")
	return nil
}

// askMuch sends packets of many sizes and checks that they come back.
func askMuch(c *ipc.Conn) error {
	p, q := make([]byte, ipc.MaxPacket), make([]byte, ipc.MaxPacket)
	rnd := rand.NewChaCha8([32]byte{byte(c.ID())})
	for _, size := range []int{1, 8, 64, 1000, 1500, 9000, ipc.MaxPacket} {
		size -= rand.IntN(size)
		rnd.Read(p[:size])
		if err := c.WritePacket(p[:size]); err != nil {
			return err
		}
		n, err := c.ReadPacket(q)
		if err != nil {
			return err
		}
		if !bytes.Equal(p[:size], q[:n]) {
			return fmt.Errorf("of %d bytes came %d back, or others", size, n)
		}
	}
	return nil
}
