package ipc_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/ipcp/local"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// An outsider is a process of another user that asks the IRMd, by messages of its
// own, for what no honest process asks.

// outsiders are what an outsider does. It prints "begun" when it is under way, and
// other lines where there is much to do before that.
var outsiders = map[string]func(ctx context.Context, args []string) error{
	"facts":     askFacts,
	"listens":   listenForAll,
	"accepts":   acceptForAll,
	"unbinds":   unbindPrograms,
	"binds":     bindOnePrograms,
	"announces": announceOften,
	"applet":    longApplet,
	"shows":     showIPCPs,
	"dials":     dialNames,
	"crowds":    crowdName,
	"hoards":    hoardFlows,
	"leaves":    dialAndLeave,
}

func outsiderRole(ctx context.Context, args []string) error {
	return outsiders[args[0]](ctx, args[1:])
}

// outside returns a connection that has announced itself.
func outside(ctx context.Context, applet string) (*rpc.Link, error) {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return nil, err
	}
	_, err = rpc.Do(ctx, l, irmctl.Announce, &irmctl.AnnounceReq{Path: "/proc/self/exe", Applet: applet}, nil)
	return l, err
}

// without asks without end, so many calls at a time.
func withoutEnd[Req, Resp any](l *rpc.Link, m rpc.Method[Req, Resp], calls int, req func() *Req) {
	var next func(*rpc.Reply[Resp], error)
	next = func(_ *rpc.Reply[Resp], err error) {
		if l.Err() == nil {
			rpc.Go(l, m, req(), next)
		}
	}
	for range calls {
		next(nil, nil)
	}
}

func same[T any](v T) func() *T { return func() *T { return &v } }

// askFacts asks many times how a flow of another stands.
func askFacts(ctx context.Context, args []string) error {
	id, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return err
	}
	for range 5 {
		done := make(chan error, 900)
		for range cap(done) {
			rpc.Go(l, irmctl.ShowFlow, &irmctl.FlowRef{ID: core.FlowID(id)}, func(_ *rpc.Reply[irmctl.Facts], err error) { done <- err })
		}
		for range cap(done) {
			if err := <-done; err != nil {
				return err
			}
		}
		fmt.Println("answers:", cap(done))
	}
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

// manyNames binds this process to as many names as it may.
func manyNames(ctx context.Context, l *rpc.Link) error {
	done := make(chan error, 100)
	for at := 0; at < 16000; at += cap(done) {
		for i := range cap(done) {
			rpc.Go(l, irmctl.BindProcess, &irmctl.BindReq{PID: os.Getpid(), Name: fmt.Sprintf("many-%d", at+i)}, func(_ *rpc.Reply[rpc.Empty], err error) { done <- err })
		}
		for range cap(done) {
			if err := <-done; err != nil {
				return err
			}
		}
		if at%1000 == 0 {
			fmt.Println("answers:", at)
		}
	}
	return nil
}

// listenForAll listens for all its names, again and again.
func listenForAll(ctx context.Context, _ []string) error {
	l, err := outside(ctx, "")
	if err != nil {
		return err
	}
	if err := manyNames(ctx, l); err != nil {
		return err
	}
	id := uint32(1000)
	withoutEnd(l, irmctl.Listen, 1000, func() *irmctl.ListenReq {
		id++
		rpc.Go(l, irmctl.Unlisten, &irmctl.Listener{ID: id - 1000}, func(*rpc.Reply[rpc.Empty], error) {})
		return &irmctl.ListenReq{ID: id, Credit: 1}
	})
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

// acceptForAll accepts for all its names, again and again.
func acceptForAll(ctx context.Context, _ []string) error {
	l, err := outside(ctx, "")
	if err != nil {
		return err
	}
	if err := manyNames(ctx, l); err != nil {
		return err
	}
	for id := range uint32(100) {
		rpc.Go(l, irmctl.Listen, &irmctl.ListenReq{ID: id + 1, Credit: 1}, func(*rpc.Reply[rpc.Empty], error) {})
	}
	n := uint32(0)
	withoutEnd(l, irmctl.Accept, 1000, func() *irmctl.AcceptReq {
		n++
		return &irmctl.AcceptReq{Listener: n%100 + 1, Credit: 1}
	})
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

// manyPrograms binds as many programs as it may: to names of their own, or to one.
func manyPrograms(ctx context.Context, l *rpc.Link, name string) error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	done := make(chan error, 10)
	for at := 0; at < 16000; at += cap(done) {
		for i := range cap(done) {
			req := irmctl.ProgramReq{Path: "/bin/sh", Name: fmt.Sprintf("many-%d", at+i)}
			if name != "" {
				req = irmctl.ProgramReq{Path: fmt.Sprintf("%s/many-%d", dir, at+i), Name: name}
				if err := os.WriteFile(req.Path, nil, 0o700); err != nil {
					return err
				}
			}
			rpc.Go(l, irmctl.BindProgram, &req, func(_ *rpc.Reply[rpc.Empty], err error) { done <- err })
		}
		for range cap(done) {
			if err := <-done; err != nil {
				return err
			}
		}
		if at%1000 == 0 {
			fmt.Println("answers:", at)
		}
	}
	return nil
}

func unbindPrograms(ctx context.Context, _ []string) error {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return err
	}
	if err := manyPrograms(ctx, l, ""); err != nil {
		return err
	}
	withoutEnd(l, irmctl.UnbindProgram, 1000, same(irmctl.ProgramReq{Path: "/bin/true"}))
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

func bindOnePrograms(ctx context.Context, _ []string) error {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return err
	}
	if err := manyPrograms(ctx, l, "one"); err != nil {
		return err
	}
	withoutEnd(l, irmctl.BindProgram, 1000, same(irmctl.ProgramReq{Path: "/bin/true", Name: "one"}))
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

func announceOften(ctx context.Context, _ []string) error {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return err
	}
	if err := manyPrograms(ctx, l, ""); err != nil {
		return err
	}
	fmt.Println("begun")
	for ctx.Err() == nil {
		a, err := outside(ctx, "")
		if err != nil {
			return err
		}
		a.Close()
		<-a.Done()
	}
	return nil
}

func longApplet(ctx context.Context, _ []string) error {
	_, err := outside(ctx, strings.Repeat("x", 65000))
	fmt.Println("begun", err)
	<-ctx.Done()
	return nil
}

func showIPCPs(ctx context.Context, _ []string) error {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return err
	}
	withoutEnd(l, irmctl.ShowIPCP, 1000, same(irmctl.IPCPReq{Name: "ipcp"}))
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

func dialNames(ctx context.Context, args []string) error {
	l, err := outside(ctx, "")
	if err != nil {
		return err
	}
	n := 0
	withoutEnd(l, irmctl.Alloc, 4000, func() *irmctl.AllocReq {
		n++
		return &irmctl.AllocReq{Name: args[0] + strconv.Itoa(n)}
	})
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

// crowdName asks for flows to a name, and gives each up at once.
func crowdName(ctx context.Context, args []string) error {
	l, err := outside(ctx, "")
	if err != nil {
		return err
	}
	done := make(chan error, 3000)
	for range cap(done) {
		rpc.Go(l, irmctl.Alloc, &irmctl.AllocReq{Name: args[0], Timeout: 2 * time.Second}, func(r *rpc.Reply[irmctl.Flow], err error) {
			if err != nil {
				done <- nil
				return
			}
			rpc.Go(l, irmctl.Dealloc, &irmctl.FlowRef{ID: r.Body.ID}, func(_ *rpc.Reply[rpc.Empty], err error) { done <- err })
		})
	}
	for n := range cap(done) {
		if err := <-done; err != nil {
			return err
		}
		if n%100 == 0 {
			fmt.Println("answers:", n)
		}
	}
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

// hoardFlows listens for a name and takes none of its flows: it does not read. When it
// has lost its connection it makes another.
func hoardFlows(ctx context.Context, args []string) error {
	for first := true; ; first = false {
		m := rpc.NewMux()
		rpc.Handle(m, irmctl.Arrived, func(c *rpc.Call[irmctl.Credit], _ *irmctl.ArrivedMsg) { <-time.After(2 * time.Second) })
		l, err := irmctl.Connect(ctx, rpc.Config{Mux: m})
		if err == nil {
			_, err = rpc.Do(ctx, l, irmctl.Announce, &irmctl.AnnounceReq{Path: "/proc/self/exe"}, nil)
		}
		if err == nil {
			_, err = rpc.Do(ctx, l, irmctl.Listen, &irmctl.ListenReq{ID: 1, Name: args[0], Credit: 1024}, nil)
		}
		if err != nil && first {
			return err
		}
		if first {
			fmt.Println("begun")
		}
		if err == nil {
			<-l.Done()
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// dialAndLeave asks for flows to a name and gives each back, without end.
func dialAndLeave(ctx context.Context, args []string) error {
	l, err := outside(ctx, "")
	if err != nil {
		return err
	}
	var next func()
	next = func() {
		rpc.Go(l, irmctl.Alloc, &irmctl.AllocReq{Name: args[0], Timeout: time.Second}, func(r *rpc.Reply[irmctl.Flow], err error) {
			switch {
			case l.Err() != nil:
			case err != nil:
				next()
			default:
				rpc.Go(l, irmctl.Dealloc, &irmctl.FlowRef{ID: r.Body.ID}, func(*rpc.Reply[rpc.Empty], error) { next() })
			}
		})
	}
	for range 500 {
		next()
	}
	fmt.Println("begun")
	<-ctx.Done()
	return nil
}

// A stopped process keeps its connection, and its flows, whoever asks how they stand.
func TestManyAskStoppedProcess(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, what := range []string{"facts", "crowds"} {
			w.register(t, "stopped")
			p := w.role(t, "test-echo", "listens", "stopped")
			c := w.dial(t, "stopped")
			must(t, ask(c, "x"))
			flows, err := w.admin.Flows(wait(t))
			must(t, err)
			at := slices.IndexFunc(flows, func(f view.Flow) bool { return f.PID == p.pid() })
			must(t, syscall.Kill(p.pid(), syscall.SIGSTOP))
			arg := "stopped"
			if what == "facts" {
				arg = fmt.Sprint(flows[at].ID)
			}
			w.roleAs(t, "test-outsider", "begun", somebody(), what, arg)
			must(t, syscall.Kill(p.pid(), syscall.SIGCONT))
			must(t, ask(c, "again"))
			must(t, c.Close())
			c = w.dial(t, "stopped")
			must(t, ask(c, "again"))
			must(t, c.Close())
			p.kill()
		}
	})
}

// somebody makes a process another user's, where that is possible.
func somebody() *syscall.SysProcAttr {
	if os.Geteuid() == 0 {
		return asNobody()
	}
	return nil
}

// Whatever an outsider asks for, others dial meanwhile.
func TestOutsiders(t *testing.T) {
	if racing {
		t.Skip("the race detector makes load another")
	}
	for _, args := range [][]string{{"listens"}, {"accepts"}, {"unbinds"}, {"binds"}, {"announces"}, {"shows"}, {"dials", "none-"}} {
		t.Run(args[0], func(t *testing.T) {
			w := newWorld(t, local.Type.Name)
			w.register(t, "others")
			w.role(t, "test-echo", "listens", "others")
			slowest := func() (d time.Duration) {
				for range 20 {
					begun := time.Now()
					c := w.dial(t, "others")
					must(t, ask(c, "x"))
					must(t, c.Deallocate(wait(t)))
					d = max(d, time.Since(begun))
				}
				return d
			}
			alone := slowest()
			begun := time.Now()
			p := w.roleAs(t, "test-outsider", "begun", somebody(), args...)
			took := time.Since(begun)
			beside := slowest()
			p.kill()
			after := slowest()
			h, err := possessionOf(w.pid())
			must(t, err)
			t.Logf("the slowest of 20 dials takes %v alone, %v beside, %v after; it began after %v; the IRMd has %d kB", alone, beside, after, took, h.kB)
			if beside > time.Second || after > time.Second {
				t.Errorf("a dial takes %v beside an outsider, %v after", beside, after)
			}
		})
	}
}

// Processes that take no flows do not take the descriptors of the IRMd.
func TestHoardedDescriptors(t *testing.T) {
	if racing {
		t.Skip("the race detector makes load another")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	w := newWorld(t, local.Type.Name)
	w.register(t, "others", "hoard")
	w.role(t, "test-echo", "listens", "others")
	const most = 512
	must(t, unix.Prlimit(w.pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}, nil))
	for range 8 {
		w.roleAs(t, "test-outsider", "begun", asNobody(), "hoards", "hoard")
	}
	w.roleAs(t, "test-outsider", "begun", asNobody(), "leaves", "hoard")
	held, slowest := 0, time.Duration(0)
	for range 30 {
		begun := time.Now()
		c, err := client(wait(t), w.dir)
		must(t, err)
		_, err = c.System(wait(t))
		must(t, err)
		c.Close()
		f := w.dial(t, "others")
		must(t, ask(f, "x"))
		must(t, f.Deallocate(wait(t)))
		slowest = max(slowest, time.Since(begun))
		held = max(held, descriptors(t, w.pid()))
	}
	t.Logf("the IRMd had %d descriptors of %d, and a connection and a dial take %v at most", held, most, slowest)
	if held > most*3/4 || slowest > 2*time.Second {
		t.Errorf("the IRMd had %d descriptors of %d, and a connection and a dial take %v at most", held, most, slowest)
	}
}

// What a process says of itself is bounded, and shown.
func TestLongApplet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	w.roleAs(t, "test-outsider", "begun", somebody(), "applet")
	rows, err := w.admin.Processes(wait(t))
	must(t, err)
	for _, r := range rows {
		if len(r.Path) > 4200 {
			t.Errorf("a process has a path of %d bytes", len(r.Path))
		}
	}
}
