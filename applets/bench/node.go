package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc/irmctl"
)

// node is an IRMd of the bench's own, with one layer, in a directory of its own.
type node struct {
	dir   string
	space *os.File // its network namespace; nil: this process's
	irmd  *exec.Cmd
	ipcp  int // the pid
}

// startTime bounds the start of a process, stopTime its end.
const (
	startTime = 10 * time.Second
	stopTime  = 5 * time.Second
)

// startNode starts a node whose layer is of a type, with settings.
func startNode(ctx context.Context, typ string, settings ...ipcp.Setting) (*node, error) {
	return startNodeIn(ctx, nil, typ, settings...)
}

// startNodeIn is startNode in a network namespace.
func startNodeIn(ctx context.Context, space *os.File, typ string, settings ...ipcp.Setting) (*node, error) {
	dir, err := os.MkdirTemp("", "o7s-bench-")
	if err != nil {
		return nil, err
	}
	// For this process, which asks for the layer.
	os.Setenv(runtimeDir, dir)
	// Its log goes to /dev/null: every line would wake a reader.
	n := &node{dir: dir, space: space, irmd: self(ctx, dir, "irmd", "--stdout", "--log-level", "info")}
	if err := within(space, n.irmd.Start); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start an irmd: %w", err)
	}
	if n.ipcp, err = bootstrap(ctx, typ, settings); err != nil {
		n.stop()
		return nil, fmt.Errorf("start an irmd: %w", err)
	}
	return n, nil
}

// bootstrap makes the layer as soon as the irmd listens. It returns the IPCP's pid.
func bootstrap(ctx context.Context, typ string, settings []ipcp.Setting) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	c, err := irmctl.Dial(ctx)
	for errors.Is(err, core.ErrIRMd) && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // until the file of the socket is there
		c, err = irmctl.Dial(ctx)
	}
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: "bench", Type: typ, Draft: ipcp.Draft{Layer: "bench", Settings: settings}})
}

func (n *node) stop() {
	stop(n.irmd)
	os.RemoveAll(n.dir)
}

// stop ends cmd in order, and waits.
func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	t := time.AfterFunc(stopTime, func() { _ = cmd.Process.Kill() })
	defer t.Stop()
	_ = cmd.Wait()
}

const runtimeDir = "O7S_RUNTIME_DIR"

// self returns a command that runs this executable, with the IRMd in dir. It gets a
// process group of its own, so that Ctrl-C reaches the bench alone. The bench ends it.
func self(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args[1:]...)
	// What the user has configured is not measured.
	cmd.Env = append(os.Environ(), runtimeDir+"="+dir, "O7S_CONFIG_DIR="+filepath.Join(dir, "config"))
	cmd.Args[0] = args[0]
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	return cmd
}

// worker starts a worker of the node on cpu; its descriptors from 3 on are files.
func (n *node) worker(ctx context.Context, s spec, cpu int, files []*os.File) (*exec.Cmd, *bufio.Reader, error) {
	arg, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	cmd := self(ctx, n.dir, "bench", workerArg, string(arg))
	cmd.ExtraFiles = files
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := within(n.space, func() error { return startOn(cmd, cpu) }); err != nil {
		return nil, nil, fmt.Errorf("start a worker: %w", err)
	}
	return cmd, bufio.NewReader(out), nil
}

// startOn starts cmd on one core: a process inherits the affinity of the
// thread that starts it.
func startOn(cmd *exec.Cmd, cpu int) error {
	if cpu < 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var was, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &was); err != nil {
		return err
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("run on CPU %d: %w", cpu, err)
	}
	defer unix.SchedSetaffinity(0, &was)
	return cmd.Start()
}

// outcome reads the result that a worker prints as its last line.
func outcome(cmd *exec.Cmd, out *bufio.Reader) (result, error) {
	var r result
	err := json.NewDecoder(out).Decode(&r)
	if werr := cmd.Wait(); werr != nil {
		return r, fmt.Errorf("a worker failed: %w", werr)
	}
	if err != nil {
		return r, fmt.Errorf("a worker's result: %w", err)
	}
	return r, nil
}
