package irm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"o7s/applets"
	"o7s/core"
	"o7s/ipc/irmctl"
)

var bindProgram = &command{
	name:    "program",
	summary: "let all instances of a program accept flows for a name",
	operand: operand{value: "PROGRAM", help: "the program: its path, or its name, which is looked up in PATH", check: checkWord},
	keywords: []keyword{
		{name: "name", value: "NAME", need: required, check: core.CheckName, help: "the name; it need not exist yet"},
		{name: "auto", need: bare, help: "start an instance whenever nobody accepts"},
	},
	rest: "ARG",
	notes: `It covers your own processes, those that run already and those to come. A
symlink is a program of its own: to bind oping does not bind irm. With auto, an
instance runs as you, with the words after --, and ends with irmd; one that
ends before it listens is started again only after a pause.`,
	example: "irm bind program oping name oping-server auto -- --listen\nirm bind program /usr/bin/oping name oping-server",
	limit:   quick,
	tried: func(in input) string {
		return fmt.Sprintf("bind program %q to name %q", in.operand, in.one("name"))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		if in.rest != nil && in.one("auto") == "" {
			return applets.Usagef("%w: arguments are for a program that irmd starts: say auto before --", core.ErrUsage)
		}
		path, err := findProgram(in.operand)
		if err != nil {
			return err
		}
		return d.BindProgram(ctx, irmctl.ProgramReq{Path: path, Name: in.one("name"), Auto: in.one("auto") != "", Args: in.rest})
	},
}

var unbindProgram = &command{
	name:    "program",
	summary: "take back a binding, or all bindings, of a program",
	operand: operand{value: "PROGRAM", help: "the program: its path, or its name, which is looked up in PATH", check: checkWord},
	keywords: []keyword{
		{name: "name", value: "NAME", check: core.CheckName, help: "the name; without it, all names of the program"},
	},
	notes:   "Instances that run go on, but accept for the name no more.",
	example: "irm unbind program oping name oping-server",
	limit:   quick,
	tried: func(in input) string {
		return fmt.Sprintf("unbind program %q from %s", in.operand, nameOrAll(in))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		path, err := findProgram(in.operand)
		if err != nil { // it may be gone by now
			if path, err = filepath.Abs(in.operand); err != nil {
				return err
			}
		}
		return d.UnbindProgram(ctx, irmctl.ProgramReq{Path: path, Name: in.one("name")})
	},
}

var ipcpOperand = operand{value: "IPCP", help: "the name of the IPCP", check: core.CheckName}

var bindIPCP = &command{
	name:    "ipcp",
	summary: "let an IPCP accept flows for a name",
	operand: ipcpOperand,
	keywords: []keyword{
		{name: "name", value: "NAME", need: required, check: core.CheckName, help: "the name; it need not exist yet"},
	},
	notes:   "An IPCP accepts flows where its layer is built on another; one of type local has\nno need to.",
	example: "irm bind ipcp local-ipcp name local-ipcp",
	limit:   quick,
	tried: func(in input) string {
		return fmt.Sprintf("bind IPCP %q to name %q", in.operand, in.one("name"))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.BindProgram(ctx, irmctl.ProgramReq{IPCP: in.operand, Name: in.one("name")})
	},
}

var unbindIPCP = &command{
	name:    "ipcp",
	summary: "take back a binding, or all bindings, of an IPCP",
	operand: ipcpOperand,
	keywords: []keyword{
		{name: "name", value: "NAME", check: core.CheckName, help: "the name; without it, all names of the IPCP"},
	},
	example: "irm unbind ipcp local-ipcp name local-ipcp",
	limit:   quick,
	tried: func(in input) string {
		return fmt.Sprintf("unbind IPCP %q from %s", in.operand, nameOrAll(in))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.UnbindProgram(ctx, irmctl.ProgramReq{IPCP: in.operand, Name: in.one("name")})
	},
}

func nameOrAll(in input) string {
	if n := in.one("name"); n != "" {
		return fmt.Sprintf("name %q", n)
	}
	return "all names"
}

// findProgram returns the absolute path of the program that word names, its
// last symlink kept.
func findProgram(word string) (string, error) {
	path, err := exec.LookPath(word)
	if errors.Is(err, exec.ErrDot) { // the user says where it is
		err = nil
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("%w: %s can't be executed: check its permissions", core.ErrPermission, word)
	case err != nil && strings.Contains(word, "/"):
		return "", fmt.Errorf("%w: there is no program %s", core.ErrNotFound, word)
	case err != nil:
		return "", fmt.Errorf("%w: there is no program %s in PATH; say where it is: /path/to/%s", core.ErrNotFound, word, word)
	}
	return filepath.Abs(path)
}

func checkWord(s string) error {
	if s == "" || strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%w: a program has a path, or a name", core.ErrUsage)
	}
	return nil
}
