package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// outsiders are what an outsider does on a connection, to something that arg names. It
// prints "begun" when it is under way, and other lines where there is much to do before
// that. What it asks for then goes on to the process's end.
var outsiders = map[string]func(ctx context.Context, l *rpc.Link, arg string) error{
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
	"lists":     askLists,
	"watches":   watchOften,
}

func outsiderRole(ctx context.Context, args []string) error {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err == nil {
		err = outsiders[args[0]](ctx, l, strings.Join(args[1:], ""))
	}
	if err != nil {
		return err
	}
	begun()
	<-ctx.Done()
	return nil
}

// begun says that the outsider is under way.
var begun = sync.OnceFunc(func() { fmt.Println("begun") })

// all makes n calls, so many at a time, and returns the first error.
func all[Req, Resp any](l *rpc.Link, m rpc.Method[Req, Resp], n, many int, req func(i int) *Req) error {
	done := make(chan error, many)
	for at := 0; at < n; at += many {
		for i := range many {
			rpc.Go(l, m, req(at+i), func(_ *rpc.Reply[Resp], err error) { done <- err })
		}
		for range many {
			if err := <-done; err != nil {
				return err
			}
		}
		if (at+many)/900 > at/900 {
			fmt.Println("answers:", at+many)
		}
	}
	return nil
}

// announce announces this process, which it can by one connection at a time.
func announce(ctx context.Context, l *rpc.Link, applet string) error {
	_, err := rpc.Do(ctx, l, irmctl.Announce, &irmctl.AnnounceReq{Path: "/proc/self/exe", Applet: applet}, nil)
	return err
}

// withoutEnd asks without end, so many calls at a time.
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
func askFacts(_ context.Context, l *rpc.Link, flow string) error {
	id, err := strconv.Atoi(flow)
	if err != nil {
		return err
	}
	return all(l, irmctl.ShowFlow, 5*900, 900, func(int) *irmctl.FlowRef { return &irmctl.FlowRef{ID: core.FlowID(id)} })
}

// manyNames announces this process and binds it to as many names as it may.
func manyNames(ctx context.Context, l *rpc.Link) error {
	if err := announce(ctx, l, ""); err != nil {
		return err
	}
	return all(l, irmctl.BindProcess, 16000, 100, func(i int) *irmctl.BindReq {
		return &irmctl.BindReq{PID: os.Getpid(), Name: fmt.Sprint("many-", i)}
	})
}

// listenForAll listens for all its names, again and again.
func listenForAll(ctx context.Context, l *rpc.Link, _ string) error {
	if err := manyNames(ctx, l); err != nil {
		return err
	}
	id := uint32(1000)
	withoutEnd(l, irmctl.Listen, 1000, func() *irmctl.ListenReq {
		id++
		rpc.Go(l, irmctl.Unlisten, &irmctl.Listener{ID: id - 1000}, func(*rpc.Reply[rpc.Empty], error) {})
		return &irmctl.ListenReq{ID: id, Credit: 1}
	})
	return nil
}

// acceptForAll accepts for all its names, again and again.
func acceptForAll(ctx context.Context, l *rpc.Link, _ string) error {
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
	return nil
}

// manyPrograms binds as many programs as it may: to names of their own, or to one.
func manyPrograms(l *rpc.Link, name string) error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var failed error
	err = all(l, irmctl.BindProgram, 16000, 10, func(i int) *irmctl.ProgramReq {
		if name == "" {
			return &irmctl.ProgramReq{Path: "/bin/sh", Name: fmt.Sprint("many-", i)}
		}
		path := fmt.Sprint(dir, "/many-", i)
		failed = errors.Join(failed, os.WriteFile(path, nil, 0o700))
		return &irmctl.ProgramReq{Path: path, Name: name}
	})
	return errors.Join(failed, err)
}

func unbindPrograms(_ context.Context, l *rpc.Link, _ string) error {
	err := manyPrograms(l, "")
	withoutEnd(l, irmctl.UnbindProgram, 1000, same(irmctl.ProgramReq{Path: "/bin/true"}))
	return err
}

func bindOnePrograms(_ context.Context, l *rpc.Link, _ string) error {
	err := manyPrograms(l, "one")
	withoutEnd(l, irmctl.BindProgram, 1000, same(irmctl.ProgramReq{Path: "/bin/true", Name: "one"}))
	return err
}

func announceOften(ctx context.Context, l *rpc.Link, _ string) error {
	if err := manyPrograms(l, ""); err != nil {
		return err
	}
	for begun(); ctx.Err() == nil; {
		a, err := irmctl.Connect(ctx, rpc.Config{})
		if err == nil {
			err = announce(ctx, a, "")
		}
		if err != nil {
			return err
		}
		a.Close()
		<-a.Done()
	}
	return nil
}

// longApplet announces itself with a text as long as a message takes, which may be
// refused.
func longApplet(ctx context.Context, l *rpc.Link, _ string) error {
	_ = announce(ctx, l, strings.Repeat("x", 65000))
	return nil
}

func showIPCPs(_ context.Context, l *rpc.Link, _ string) error {
	withoutEnd(l, irmctl.ShowIPCP, 1000, same(irmctl.IPCPReq{Name: "ipcp"}))
	return nil
}

func dialNames(ctx context.Context, l *rpc.Link, name string) error {
	if err := announce(ctx, l, ""); err != nil {
		return err
	}
	n := 0
	withoutEnd(l, irmctl.Alloc, 4000, func() *irmctl.AllocReq {
		n++
		return &irmctl.AllocReq{Name: name + strconv.Itoa(n)}
	})
	return nil
}

// crowdName asks for flows to a name, and gives each up at once.
func crowdName(ctx context.Context, l *rpc.Link, name string) error {
	if err := announce(ctx, l, ""); err != nil {
		return err
	}
	done := make(chan error, 3000)
	for range cap(done) {
		rpc.Go(l, irmctl.Alloc, &irmctl.AllocReq{Name: name, Timeout: 2 * time.Second}, func(r *rpc.Reply[irmctl.Flow], err error) {
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
	return nil
}

// hoardFlows listens for a name and takes none of its flows: it does not read. When it
// has lost its connection it makes another.
func hoardFlows(ctx context.Context, _ *rpc.Link, name string) error {
	for first := true; ctx.Err() == nil; first = false {
		m := rpc.NewMux()
		rpc.Handle(m, irmctl.Arrived, func(c *rpc.Call[irmctl.Credit], _ *irmctl.ArrivedMsg) { <-time.After(2 * time.Second) })
		l, err := irmctl.Connect(ctx, rpc.Config{Mux: m})
		if err == nil {
			err = announce(ctx, l, "")
		}
		if err == nil {
			_, err = rpc.Do(ctx, l, irmctl.Listen, &irmctl.ListenReq{ID: 1, Name: name, Credit: 1024}, nil)
		}
		if err != nil && first {
			return err
		}
		begun()
		if err == nil {
			<-l.Done()
		}
	}
	return nil
}

// dialAndLeave asks for flows to a name and gives each back, without end.
func dialAndLeave(ctx context.Context, l *rpc.Link, name string) error {
	if err := announce(ctx, l, ""); err != nil {
		return err
	}
	var next func()
	next = func() {
		rpc.Go(l, irmctl.Alloc, &irmctl.AllocReq{Name: name, Timeout: time.Second}, func(r *rpc.Reply[irmctl.Flow], err error) {
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
	return nil
}

// askLists asks without end for lists, on so many connections.
func askLists(ctx context.Context, _ *rpc.Link, links string) error {
	return onMany(ctx, links, func(l *rpc.Link) {
		var next func(*rpc.Reply[irmctl.Rows[view.Name]], error)
		next = func(_ *rpc.Reply[irmctl.Rows[view.Name]], err error) {
			if err == nil || errors.Is(err, core.ErrLimit) {
				rpc.Go(l, irmctl.ShowNames, &irmctl.Page{}, next)
			}
		}
		for range 1000 {
			next(nil, nil)
		}
	})
}

// watchOften watches by very many calls, on so many connections.
func watchOften(ctx context.Context, _ *rpc.Link, links string) error {
	return onMany(ctx, links, func(l *rpc.Link) {
		for range 4000 {
			rpc.Go(l, irmctl.Watch, &rpc.Empty{}, func(*rpc.Reply[rpc.Empty], error) {})
		}
	})
}

// onMany makes so many connections, and has ask use each.
func onMany(ctx context.Context, links string, ask func(l *rpc.Link)) error {
	n, err := strconv.Atoi(links)
	for range n {
		mux := rpc.NewMux()
		rpc.Handle(mux, irmctl.Event, func(*rpc.Call[rpc.Empty], *view.Event) {})
		var l *rpc.Link
		if l, err = irmctl.Connect(ctx, rpc.Config{Mux: mux}); err != nil {
			break
		}
		ask(l)
	}
	return err
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

// Whatever an outsider asks for, others dial meanwhile, and the IRMd does not grow much;
// and when the outsider has ended no work of its is left.
func TestOutsiders(t *testing.T) {
	if racing {
		t.Skip("the race detector makes load another")
	}
	for _, args := range [][]string{
		{"listens"}, {"accepts"}, {"unbinds"}, {"binds"}, {"announces"}, {"shows"}, {"dials", "none-"},
		{"lists", "4"}, {"lists", "60"}, {"watches", "60"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			w := newWorld(t, local.Type.Name)
			if args[0] == "lists" { // which are to be long
				for i := range 1000 {
					must(t, w.admin.CreateName(wait(t), fmt.Sprintf("name-%d", i), ""))
				}
			}
			w.register(t, "others")
			w.role(t, "test-echo", "listens", "others")
			// The median: other programs use the machine, too, and may stop one dial.
			typical := func() time.Duration {
				var took [20]time.Duration
				for i := range took {
					begun := time.Now()
					c := w.dial(t, "others")
					must(t, ask(c, "x"))
					must(t, c.Deallocate(wait(t)))
					took[i] = time.Since(begun)
				}
				slices.Sort(took[:])
				return took[len(took)/2]
			}
			alone := typical()
			begun := time.Now()
			p := w.roleAs(t, "test-outsider", "begun", somebody(), args...)
			took := time.Since(begun)
			beside := typical()
			h, err := possessionOf(w.pid())
			must(t, err)
			p.kill()
			after := typical()
			t.Logf("a dial takes %v alone, %v beside, %v after; it began after %v; the IRMd has %d kB", alone, beside, after, took, h.kB)
			if beside > time.Second || after > time.Second {
				t.Errorf("a dial takes %v beside an outsider, %v after", beside, after)
			}
			if h.kB > 200<<10 {
				t.Errorf("the IRMd has %d kB", h.kB)
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
