package ipc_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"o7s/core"
	"o7s/ipc"
)

var long = flag.Bool("long", false, "run the long forms: every fault at every step, great numbers")

// The crash matrix. A flow's life is an allocation, a packet each way and the
// deallocation. It is brought to each line that the IRMd and the IPCP log on
// the way, and held there; then one of the processes dies in one of the ways
// below. In the short form the steps are a few lines apart.

// A fault is a way to go.
type fault struct {
	name string
	// strike begins it, while the step is held; finish ends it, after.
	strike, finish func(pid int) error
}

func sig(s syscall.Signal) func(int) error {
	return func(pid int) error { return syscall.Kill(pid, s) }
}

func nothing(int) error { return nil }

var faults = []fault{
	{"killed", sig(syscall.SIGKILL), nothing},
	{"stopped and killed", sig(syscall.SIGSTOP), sig(syscall.SIGKILL)},
	{"link closed", closeLink, sig(syscall.SIGKILL)},
}

// A victim is who dies; the others are in the test's process.
type victim struct {
	name string
	// What survivors may hear, beside success: of Dial, of the flow, of Accept.
	dial, flow, accept []error
}

var victims = []victim{
	{name: "client", flow: []error{io.EOF, core.ErrFlowDown}},
	{name: "server", dial: []error{core.ErrNotAllocated}, flow: []error{core.ErrFlowDown}},
	{name: "IPCP", dial: []error{core.ErrIPCP, core.ErrFlowDown, core.ErrNotAllocated}, flow: []error{io.EOF, core.ErrFlowDown}},
	{name: "IRMd", dial: []error{core.ErrIRMd}, flow: []error{io.EOF, core.ErrFlowDown}, accept: []error{core.ErrIRMd}},
}

func TestCrash(t *testing.T) {
	for _, typ := range types {
		for _, v := range victims {
			t.Run(typ.Name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, typ.Name)
				must(t, w.gate.narrow())
				w.served(t) // this process is connected, and the names exist
				w.empty(t)
				before := w.holds(t)
				stride, faults := 1, faults
				if !*long {
					stride = 5
				}
				cases := 0
				for i, f := range faults {
					step := 0
					if !*long {
						step = 2 * i // the faults share the steps out
					}
					for ; w.crash(t, v, f, step); step += stride {
						cases++
					}
				}
				t.Logf("%d deaths", cases)
				if v.name == "client" || v.name == "server" {
					w.holdsNoMore(t, before)
				}
				if least := 4; cases < least*len(faults) {
					t.Errorf("only %d cases: the steps were not reached", cases)
				}
			})
		}
	}
}

// A life is the part of one process in a flow.
type life struct {
	what string
	err  error
}

// client is the asking part.
func (w *world) client(ctx context.Context, name string) life {
	c, err := w.node.Dial(ctx, name)
	if err != nil {
		return life{"dial", err}
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := ask(c, "a packet"); err != nil {
		return life{"flow", err}
	}
	return life{"close", c.Deallocate(ctx)}
}

// server is the accepting part.
func server(l *ipc.Listener) life {
	c, err := l.AcceptFlow()
	if err != nil {
		return life{"accept", err}
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return life{"flow", echo(c)}
}

// crash lets v die by f at the nth line of a flow's life, from 0, and looks
// what becomes of the others. It reports false where there is no such line.
func (w *world) crash(t *testing.T, v victim, f fault, n int) (reached bool) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Fatalf("%s %s at line %d", v.name, f.name, n)
		}
	}()
	const name = "crash"
	w.register(t, name)
	ctx := wait(t)

	// The processes: the victim's is one of its own.
	var p *process
	asks, serves := make(chan life, 1), make(chan life, 1)
	var l *ipc.Listener
	pid := w.pid()
	switch v.name {
	case "IPCP":
		list, err := w.admin.IPCPs(ctx)
		must(t, err)
		pid = list[0].PID
	case "server":
		p = w.role(t, "test-echo", "listens", name)
		pid = p.pid()
	}
	if v.name != "server" {
		l = w.listen(t, name)
	}
	step := w.gate.hold(n)
	defer w.gate.open()
	if l != nil {
		go func() { serves <- server(l) }()
	}
	ended := make(chan struct{})
	if v.name == "client" {
		var err error
		p, err = start("test-life", w.dir, nil, name)
		must(t, err)
		t.Cleanup(func() { p.kill() })
		pid, ended = p.pid(), p.done
	} else {
		go func() {
			asks <- w.client(ctx, name)
			close(ended)
		}()
	}
	select {
	case <-step:
		reached = true
	case <-ended: // its life was shorter
	case <-ctx.Done():
		t.Fatal("neither the step nor the end is reached")
	}

	if !reached {
		w.gate.open()
	}
	if reached || v.name != "client" { // its pid may be another's by now
		must(t, unlessGone(f.strike(pid)))
	}
	w.gate.open()
	if p != nil && f.name == "stopped and killed" {
		w.served(t) // whoever has stopped
	}
	if reached || v.name != "client" {
		must(t, unlessGone(f.finish(pid)))
	}
	struck := time.Now()
	if p != nil {
		<-p.done
	}
	if v.name != "client" {
		v.check(t, result(t, "client", asks))
	}
	if l != nil && v.name != "IRMd" {
		must(t, l.Close()) // perhaps no flow has reached it, and it waits
	}
	if l != nil {
		v.check(t, result(t, "server", serves))
	}
	if d := time.Since(struck); d > soon() {
		t.Errorf("it took %v until the others knew", d)
	}
	if v.name == "IRMd" {
		<-w.done
		must(t, l.Close())
	}
	w.recover(t, v, p)
	w.empty(t)
	w.clean(t)
	return reached
}

// unlessGone is err, where it does not say that the process has ended.
func unlessGone(err error) error {
	for _, gone := range []error{syscall.ESRCH, os.ErrNotExist, os.ErrPermission} { // it is root's as it exits
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}

// check tells whether a survivor may hear that.
func (v victim) check(t *testing.T, is life) {
	t.Helper()
	may := map[string][]error{"dial": v.dial, "flow": v.flow, "accept": append(v.accept, net.ErrClosed)}[is.what]
	if is.err == nil {
		return
	}
	for _, err := range may {
		if errors.Is(is.err, err) {
			return
		}
	}
	t.Errorf("a survivor hears of the %s's end: %s: %v", v.name, is.what, is.err)
}

// served checks that another client and another server are served.
func (w *world) served(t *testing.T) {
	t.Helper()
	w.register(t, "bystander")
	l := w.listen(t, "bystander")
	defer l.Close()
	done := make(chan life, 1)
	go func() { done <- server(l) }()
	if is := w.client(wait(t), "bystander"); is.err != nil {
		t.Errorf("a bystander's %s: %v", is.what, is.err)
	}
	if is := result(t, "bystander", done); is.err != nil {
		t.Errorf("a bystander's %s: %v", is.what, is.err)
	}
}

// recover brings back what died, where that is the system's.
func (w *world) recover(t *testing.T, v victim, p *process) {
	t.Helper()
	switch v.name {
	case "IPCP":
		list, err := w.admin.IPCPs(wait(t))
		for ; err == nil && len(list) > 0; list, err = w.admin.IPCPs(wait(t)) {
			// it is being reaped
		}
		must(t, err)
		must(t, w.bootstrap(w.typ)) // under its name
	case "IRMd":
		if err := within(soon(), w.gone); err != nil {
			t.Error("the IPCPs outlive the IRMd")
		}
		w.restart(t)
		w.setUp(t)
		must(t, w.gate.narrow())
	}
}

// clean checks that the runtime directory has what it must, and no more.
func (w *world) clean(t testing.TB) {
	t.Helper()
	files, err := os.ReadDir(w.dir)
	must(t, err)
	if len(files) != 2 {
		t.Errorf("the runtime directory has %v", files)
	}
}

// lifeRole is a client's life.
func lifeRole(ctx context.Context, args []string) error {
	c, err := ipc.Dial(ctx, args[0])
	if err != nil {
		return err
	}
	defer c.Deallocate(ctx)
	return ask(c, "a packet")
}
