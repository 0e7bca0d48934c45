package oping

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"o7s/applets"
	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/applets/ipcpd"
	"o7s/applets/irmd"
	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/ipc/irmctl"
)

// TestMain makes this binary irmd or an IPCP, when it is called so.
func TestMain(m *testing.M) {
	table := []applets.Applet{irmd.Applet([]ipcp.Type{local.Type}), ipcpd.Applet(local.Type)}
	name := filepath.Base(os.Args[0])
	if slices.ContainsFunc(table, func(a applets.Applet) bool { return a.Name == name }) {
		os.Exit(applets.Main(os.Args, table))
	}
	os.Exit(m.Run())
}

// patience bounds every wait for what must come.
const patience = 60 * time.Second

// startNode starts an IRMd with a layer of the type local, for this process,
// to the test's end.
func startNode(t *testing.T) *irmctl.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "o7s-test-") // shorter than t.TempDir's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("O7S_RUNTIME_DIR", dir)
	var log bytes.Buffer
	cmd := exec.Command("/proc/self/exe", "--stdout")
	cmd.Args[0] = "irmd"
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // else each process sleeps for a second at its end
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("irmd: %v\n%s", err, log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c, err := irmctl.Dial(ctx)
	for errors.Is(err, core.ErrIRMd) && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // its socket is not there yet: nothing tells of it
		c, err = irmctl.Dial(ctx)
	}
	if err == nil {
		t.Cleanup(func() { c.Close() })
		_, err = c.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: "ipcp", Type: "local", Draft: ipcp.Draft{Layer: "layer"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Hundreds of flows: all are answered, each ends by its own clock, one that is
// used goes on, and the server has no goroutine for each.
func TestServerCrowd(t *testing.T) {
	admin := startNode(t)
	n := network(measure.IPC())
	out, errs := &flowtest.WholeLines{T: t}, &flowtest.WholeLines{T: t}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- n.run(ctx, &applets.Env{Name: "oping", Args: []string{"--listen", "--idle", "3s"}, Stdout: out, Stderr: errs})
	}()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	defer stop()
	lines := func(pattern string) (found []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(out.String(), -1) {
			found = append(found, m[1])
		}
		return found
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain until %s; stderr %q, stdout:\n%s", what, errs, out)
			}
		}
	}
	until("it has started", func() bool { return strings.Contains(out.String(), "started.\n") })
	err := admin.BindProcess(ctx, os.Getpid(), "crowd")
	if err == nil {
		err = admin.RegisterName(ctx, irmctl.RegisterReq{Name: "crowd", Layers: []string{"layer"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	dial := func() measure.Flow {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		f, err := n.Dial(ctx, "crowd", core.QoSRaw)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		f.SetDeadline(time.Now().Add(patience))
		return f
	}
	exchange := func(f measure.Flow) error {
		if err := f.WritePacket(newPing(64)); err != nil {
			return err
		}
		p := make([]byte, core.MaxPacket)
		size, err := f.ReadPacket(p)
		if m, ok := decode(p[:size]); err == nil && (size != 64 || !ok || m.typ != typeReply) {
			err = fmt.Errorf("an answer of %d bytes", size)
		}
		return err
	}

	used := dial()
	if err := exchange(used); err != nil {
		t.Fatal(err)
	}
	usedFD := lines(`New flow (\d+)\.`)[0]
	over, through := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-over:
				through <- nil
				return
			default:
			}
			if err := exchange(used); err != nil {
				through <- err
				return
			}
			time.Sleep(time.Millisecond) // it is to be used, not to take all there is
		}
	}()
	const flows = 300
	before, most := runtime.NumGoroutine(), 0
	for range flows {
		if err := exchange(dial()); err != nil {
			t.Fatal(err)
		}
		most = max(most, runtime.NumGoroutine())
	}
	if most-before > flows/3 {
		t.Errorf("%d goroutines more with %d flows", most-before, flows)
	}
	until("all but one have timed out", func() bool { return len(lines(`Flow (\d+) timed`)) >= flows })
	if over := lines(`Flow (\d+) timed`); !slices.Equal(over, lines(`New flow (\d+)\.`)[1:]) || slices.Contains(over, usedFD) {
		t.Errorf("not in the order they came in, or not all but %s, timed out: %s", usedFD, over)
	}
	close(over)
	if err := <-through; err != nil {
		t.Errorf("the flow that is used: %v", err)
	}
	stop()
	if errs.String() != "" {
		t.Errorf("stderr %q", errs)
	}
}
