package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// greedyRole asks without end on so many connections: for lists, or to watch.
// Without connections it asks for as many as it gets.
func greedyRole(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for range n {
		mux := rpc.NewMux()
		rpc.Handle(mux, irmctl.Event, func(*rpc.Call[rpc.Empty], *view.Event) {})
		l, err := irmctl.Connect(ctx, rpc.Config{Mux: mux})
		if err != nil {
			return err
		}
		switch args[0] {
		case "list":
			var next func(*rpc.Reply[irmctl.Rows[view.Name]], error)
			next = func(_ *rpc.Reply[irmctl.Rows[view.Name]], err error) {
				if err == nil || errors.Is(err, core.ErrLimit) {
					rpc.Go(l, irmctl.ShowNames, &irmctl.Page{}, next)
				}
			}
			for range 1000 {
				next(nil, nil)
			}
		case "watch":
			for range 4000 {
				rpc.Go(l, irmctl.Watch, &rpc.Empty{}, func(*rpc.Reply[rpc.Empty], error) {})
			}
		}
	}
	fmt.Println("asks")
	<-ctx.Done()
	return nil
}

// One user who asks for lists without end, or watches by very many calls, takes
// neither the time of others nor the IRMd's memory, and when the user's
// processes have ended no work of theirs is left.
func TestGreedyUser(t *testing.T) {
	if racing {
		t.Skip("the race detector makes load another")
	}
	for _, tt := range []struct {
		what  string
		links int
	}{{"list", 4}, {"list", 60}, {"watch", 60}} {
		t.Run(fmt.Sprintf("%s on %d connections", tt.what, tt.links), func(t *testing.T) {
			w := newWorld(t, "local")
			for i := range 1000 {
				must(t, w.admin.CreateName(wait(t), fmt.Sprintf("name-%d", i), ""))
			}
			w.register(t, "others")
			w.role(t, "test-echo", "listens", "others")
			var attr *syscall.SysProcAttr
			if os.Geteuid() == 0 {
				attr = asNobody()
			}
			slowest := func() (d time.Duration) {
				for range 50 {
					begun := time.Now()
					c := w.dial(t, "others")
					must(t, ask(c, "x"))
					must(t, c.Deallocate(wait(t)))
					d = max(d, time.Since(begun))
				}
				return d
			}
			alone := slowest()
			greedy := w.roleAs(t, "test-greedy", "asks", attr, tt.what, strconv.Itoa(tt.links))
			beside := slowest()
			h, err := possessionOf(w.pid())
			must(t, err)
			greedy.kill()
			after := slowest()
			t.Logf("the slowest of 50 dials takes %v alone, %v beside, %v after; the IRMd has %d kB", alone, beside, after, h.kB)
			if beside > time.Second || after > time.Second {
				t.Errorf("a dial takes %v beside a greedy user, %v after", beside, after)
			}
			if h.kB > 200<<10 {
				t.Errorf("the IRMd has %d kB", h.kB)
			}
		})
	}
}
