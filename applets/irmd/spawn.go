package irmd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"o7s/core"
	"o7s/core/irm"
	"o7s/ipc/ipcpctl"
	"o7s/ipc/rpc"
)

// spawner starts IPCPs: this executable again, under another name. It is
// irm.Spawner.
type spawner struct {
	m    *irm.Manager
	args func() []string // for the log, as it is now
}

const (
	// helloTime bounds how long an IPCP may take to start.
	helloTime = 5 * time.Second
	// endTime is how long it may take to end after SIGTERM, before SIGKILL. It has
	// last words for other systems, which on a machine with much to do take a while.
	endTime = 3 * time.Second
	// stopTime is the same for a program that irmd has started.
	stopTime = time.Second
	// killTime is how long after SIGKILL a process may still be waited for.
	killTime = 250 * time.Millisecond
)

// child is an IPCP that runs. It is irm.Child.
type child struct {
	ipcpctl.Client
	cmd  *exec.Cmd
	done chan struct{} // closed when it is reaped
}

// Spawn implements irm.Spawner.
func (s *spawner) Spawn(ctx context.Context, i irm.IPCP, died func(irm.Child, error)) (irm.Child, error) {
	ours, theirs, err := rpc.Pair()
	if err != nil {
		return nil, err
	}

	// Not the path of the executable, which may be replaced or gone by now.
	cmd := exec.Command("/proc/self/exe", append(s.args(), "--name="+i.Name())...)
	cmd.Args[0] = "ipcpd-" + i.Type().Name
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	// A group of its own: Ctrl-C is for the irmd.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	theirs.Close() // now, or the death of the child is not seen
	if err != nil {
		ours.Close()
		return nil, err
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	link, err := rpc.New(ours, rpc.Config{
		Mux: ipcpMux(s.m, i), DownErr: core.ErrIPCP,
		// The kernel takes this process for the peer, which made the pair.
		Peer: &rpc.Peer{PID: cmd.Process.Pid, UID: os.Geteuid(), GID: os.Getegid()},
		// An IPCP that has closed its link can do nothing more.
		OnEnd: func(*rpc.Link, error) { _ = cmd.Process.Kill() },
		// It calls for every flow that its layer allocates.
		Limits: rpc.Limits{Calls: 1 << 16, Queue: 64 << 20, Stall: ipcpctl.Stall},
	})
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	c.Client.Link = link
	hello, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	if err := link.Handshake(hello); err != nil {
		link.Close()
		<-link.Done()
		_ = cmd.Wait()
		return nil, fmt.Errorf("process %d: %w", cmd.Process.Pid, err)
	}
	go func() {
		err := cmd.Wait()
		if err == nil {
			err = fmt.Errorf("exit status 0")
		}
		// Its end of the link ended with it: what it said until then counts,
		// and those who wait for an answer hear that it died.
		select {
		case <-link.Done():
		case <-time.After(stopTime): // it has given that end away
			link.Close()
			<-link.Done()
		}
		died(c, err)
		close(c.done)
	}()
	return c, nil
}

// PID implements irm.Child.
func (c *child) PID() int { return c.cmd.Process.Pid }

// Stop implements irm.Child.
func (c *child) Stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	t := time.AfterFunc(endTime, func() { _ = c.cmd.Process.Kill() })
	defer t.Stop()
	<-c.done
}
