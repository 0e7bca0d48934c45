package irmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"o7s/applets"
)

// runAsInit runs this irmd as a child and is itself only what process 1 must be:
// the parent that reaps every process whose own parent has ended. It returns
// when the child has ended, with its status. The end of process 1 ends all.
func runAsInit(ctx context.Context) error {
	p, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return fmt.Errorf("start the irmd: %w", err)
	}
	irmd := p.Pid
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(irmd, syscall.SIGTERM) })()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("wait4", err)
		case pid != irmd:
		case ws.Signaled():
			return fmt.Errorf("the irmd was killed: %v", ws.Signal())
		case ws.ExitStatus() != 0:
			return applets.Exit(ws.ExitStatus())
		default:
			return nil
		}
	}
}
