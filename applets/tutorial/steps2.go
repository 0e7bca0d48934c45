package tutorial

import (
	"context"
	"fmt"
)

var tutorial2 = story{intro2, outro, []step{
	{"Start the IRMd", (*tutorial).startIRMd},
	{"Create a local layer", (*tutorial).createLayer},
	{"Create a unicast layer over it", (*tutorial).firstMember},
	{"Enroll a second member", (*tutorial).secondMember},
	{"Connect the two", (*tutorial).connect},
	{"Start a ping server", (*tutorial).startServer},
	{"Bind, register, and ping across the layer", (*tutorial).pingAcross},
	{"Disconnect, and end a member", (*tutorial).disconnect},
	{"End", (*tutorial).finish},
}}

const intro2 = `
Ouroboros Tutorial 02

A layer over a layer: the members of a unicast layer are joined by flows of other
layers. Ours has two members over the local layer of Tutorial 01, on this machine,
and a ping goes from one to the other. On several machines the layer below would be
on Ethernet or over UDP, or another unicast layer; the rest is the same.

The margin tells which window a line is from. What follows a $ is a command as you
would type it. The processes are real; their runtime directory, of their own, is in
%s.
`

// all types commands in the second window, one after the other.
func (t *tutorial) all(ctx context.Context, commands ...string) error {
	for _, words := range commands {
		if err := t.irm(ctx, words); err != nil {
			return err
		}
	}
	return nil
}

func (t *tutorial) firstMember(ctx context.Context) error {
	t.screen.say(`A unicast layer needs a first member, as every layer does. It draws a
random address, and starts what it will need: routes (link-state-routing, pff), a
directory (dht), and the means to avoid congestion (ca).`)
	if err := t.irm(ctx, "irm ipcp bootstrap type unicast name uni-1 layer unicast-layer"); err != nil {
		return err
	}
	if _, err := t.irmd.await(ctx, patience, "Bootstrapped IPCP"); err != nil {
		return err
	}
	t.screen.say(`Other members have to reach it, so it accepts flows like any server:
under its own name, and under that of the layer, which stands for whichever member
answers. Both names are registered in the layer below.`)
	return t.all(ctx,
		"irm bind ipcp uni-1 name uni-1",
		"irm bind ipcp uni-1 name unicast-layer",
		"irm name register uni-1 layer local-layer",
		"irm name register unicast-layer layer local-layer")
}

func (t *tutorial) secondMember(ctx context.Context) error {
	t.screen.say(`The second member is created, and bound to its names before it needs
them. Then it enrolls: it allocates a flow to unicast-layer, asks for the layer's
configuration, and works as that says.`)
	err := t.all(ctx,
		"irm ipcp create type unicast name uni-2",
		"irm bind ipcp uni-2 name uni-2",
		"irm bind ipcp uni-2 name unicast-layer",
		"irm name register uni-2 layer local-layer",
		"irm ipcp enroll name uni-2 layer unicast-layer")
	if err != nil {
		return err
	}
	_, err = t.irmd.await(ctx, patience, "Enrolled IPCP")
	return err
}

func (t *tutorial) connect(ctx context.Context) error {
	t.screen.say(`A member without a connection to another is quiet. "irm ipcp connect"
makes two: one for management, on which members tell each other who is joined with
whom, and one for data transfer, which carries packets.`)
	if err := t.irm(ctx, "irm ipcp connect name uni-2 dst uni-1"); err != nil {
		return err
	}
	if _, err := t.irmd.await(ctx, patience, "Established Data Transfer connection"); err != nil {
		return err
	}
	t.screen.say(`"irm ipcp show" tells what a member has found out.`)
	return t.irm(ctx, "irm ipcp show uni-2")
}

func (t *tutorial) pingAcross(ctx context.Context) (err error) {
	t.screen.say(`The server's name is registered with one member. The ping goes in by
the other one, which finds the name in the directory and asks for a flow across the
layer.`)
	err = t.all(ctx, fmt.Sprintf("irm bind process %d name oping-server", t.server.pid()), "irm name register oping-server ipcp uni-1")
	if err != nil {
		return err
	}
	words := fmt.Sprintf("oping --server-name oping-server --count %d", count)
	if t.fast {
		words += " --interval " + t.interval().String()
	}
	if t.ping, err = t.start(clientWindow, words); err != nil {
		return err
	}
	if err := t.ping.wait(ctx, patience+count*t.interval()); err != nil {
		return err
	}
	t.screen.say(`The server keeps its end until no ping has come for %v.`, t.idle())
	_, err = t.server.await(ctx, patience+t.idle(), "Flow 64 timed out.")
	return err
}

func (t *tutorial) disconnect(ctx context.Context) error {
	t.screen.say(`What was connected is disconnected in the opposite order. A connection
that ends in another way is made again.`)
	return t.all(ctx, "irm ipcp disconnect name uni-2 dst uni-1", "irm ipcp destroy name uni-2")
}
