package irm

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"o7s/core"
	"o7s/ipc/irmctl"
)

// binder is the part of the IRMd that knows which processes, programs and IPCPs
// accept flows for which names.
type binder interface {
	BindProcess(ctx context.Context, pid int, name string) error
	UnbindProcess(ctx context.Context, pid int, name string) error
	BindProgram(ctx context.Context, req irmctl.ProgramReq) error
	UnbindProgram(ctx context.Context, req irmctl.ProgramReq) error
}

var pidOperand = operand{value: "PID", help: "the process, one that uses flows", check: checkPID}

var bindProcess = &command{
	name:    "process",
	summary: "let a process accept flows for a name",
	operand: pidOperand,
	keywords: []keyword{
		{name: "name", value: "NAME", need: required, check: core.CheckName, help: "the name; it need not exist yet"},
	},
	notes: `The name is reachable once it is registered too, with "irm name register".
The two may be done in any order.`,
	example: "irm bind process 6810 name oping-server",
	limit:   quick,
	tried: func(in input) string {
		return fmt.Sprintf("bind process %s to name %q", in.operand, in.one("name"))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		pid, err := parsePID(in.operand)
		if err != nil {
			return err
		}
		return d.BindProcess(ctx, pid, in.one("name"))
	},
}

var unbindProcess = &command{
	name:    "process",
	summary: "take back a binding, or all bindings, of a process",
	operand: pidOperand,
	keywords: []keyword{
		{name: "name", value: "NAME", check: core.CheckName, help: "the name; without it, all names of the process"},
	},
	example: "irm unbind process 6810 name oping-server",
	limit:   quick,
	tried: func(in input) string {
		if in.one("name") == "" {
			return fmt.Sprintf("unbind process %s from all names", in.operand)
		}
		return fmt.Sprintf("unbind process %s from name %q", in.operand, in.one("name"))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		pid, err := parsePID(in.operand)
		if err != nil {
			return err
		}
		return d.UnbindProcess(ctx, pid, in.one("name"))
	},
}

// parsePID returns the positive number that s is, in plain digits.
func parsePID(s string) (int, error) {
	pid, err := strconv.ParseInt(s, 10, 32)
	if err == nil && pid < 0 {
		return 0, fmt.Errorf("%w: a process with a negative number is one that the PID namespace of irmd does not have: it can't be named by it, and can listen for a name itself", core.ErrUsage)
	}
	if err != nil || pid < 1 || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("%w: a process id is a positive number", core.ErrUsage)
	}
	return int(pid), nil
}

func checkPID(s string) error {
	_, err := parsePID(s)
	return err
}
