package irmctl

import (
	"context"

	"o7s/core/view"
	"o7s/ipc/rpc"
)

// What ties programs and IPCPs to names.
var (
	BindProgram   = rpc.Method[ProgramReq, rpc.Empty]{Name: "bind.program"}
	UnbindProgram = rpc.Method[ProgramReq, rpc.Empty]{Name: "unbind.program"}
	ShowPrograms  = rpc.Method[Page, Rows[view.Program]]{Name: "show.programs"}
)

// ProgramReq ties the program at Path, or the IPCP, to Name; an empty Name, to
// unbind, means all. With Auto an instance is started, with Args, when nobody
// accepts.
type ProgramReq struct {
	Path, IPCP, Name string
	Auto             bool
	Args             []string
}

// BindProgram lets the instances of a program, or an IPCP, accept for a name.
func (c *Client) BindProgram(ctx context.Context, req ProgramReq) error {
	_, err := do(ctx, c, BindProgram, req)
	return err
}

// UnbindProgram takes that back.
func (c *Client) UnbindProgram(ctx context.Context, req ProgramReq) error {
	_, err := do(ctx, c, UnbindProgram, req)
	return err
}

// Programs returns what programs and IPCPs are bound to which names, by name.
func (c *Client) Programs(ctx context.Context) ([]view.Program, error) {
	return all(ctx, c, ShowPrograms)
}
