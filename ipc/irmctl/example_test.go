package irmctl_test

import (
	"context"
	"fmt"
	"log"

	"o7s/core/ipcp"
	"o7s/ipc/irmctl"
)

// What an administrator does, by a program: a layer, a name in it, and who serves it.
func ExampleClient() {
	ctx := context.Background()
	c, err := irmctl.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	layer := ipcp.Draft{Layer: "local-layer"}
	if _, err := c.BootstrapIPCP(ctx, irmctl.BootstrapReq{Name: "local-ipcp", Type: "local", Draft: layer}); err != nil {
		log.Fatal(err)
	}
	if err := c.RegisterName(ctx, irmctl.RegisterReq{Name: "oping-server", Layers: []string{"local-layer"}}); err != nil {
		log.Fatal(err)
	}
	if err := c.BindProgram(ctx, irmctl.ProgramReq{Path: "/usr/local/bin/oping", Name: "oping-server", Auto: true, Args: []string{"--listen"}}); err != nil {
		log.Fatal(err)
	}
	names, err := c.Names(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range names {
		fmt.Println(n.Name, n.Policy)
	}
}
