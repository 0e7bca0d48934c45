package tutorial

import (
	"context"
	"fmt"
	"time"
)

// step is one step of the tutorial.
type step struct {
	title string
	do    func(*tutorial, context.Context) error
}

// story is a tutorial: what is said before its steps and after them.
type story struct {
	intro, outro string
	steps        []step
}

var tutorial1 = story{intro, outro, []step{
	{"Start the IRMd", (*tutorial).startIRMd},
	{"Create a local layer", (*tutorial).createLayer},
	{"Start a ping server", (*tutorial).startServer},
	{"Bind (1) and register (2)", (*tutorial).bindAndRegister},
	{"Allocate a flow (3) and ping", (*tutorial).pingServer},
	{"Let the flow end", (*tutorial).deallocate},
	{"End", (*tutorial).finish},
}}

const intro = `
Ouroboros Tutorial 01

We start the IRMd, create a local layer, start a ping server and connect a
client that sends it a few pings. For that, the server is bound (1) to a name
and the name is registered (2) in the local layer. Then the client can
allocate a flow (3) to that name, and the server responds.

By hand this takes four terminal windows. Here they share one, and the margin
tells which window a line is from. What follows a $ is a command as you would
type it. The processes are real; their runtime directory, of their own, is in
%s.
`

const outro = `
Every process has ended, and the tutorial's directory is removed. To do all
this by hand, "o7s install DIR" puts the commands irmd, irm and oping into a
directory.
`

func (t *tutorial) startIRMd(ctx context.Context) (err error) {
	t.screen.say(`In the first window we start the IRMd, the daemon that manages
names, layers, processes and flows. With --stdout it logs to its window. An
IRMd for all users of a system is started by the superuser, with "sudo irmd
--stdout"; this one is for the tutorial alone.`)
	if t.irmd, err = t.start(irmdWindow, "irmd --stdout"); err != nil {
		return err
	}
	if _, err = t.irmd.await(ctx, patience, "daemon started..."); err != nil {
		return err
	}
	t.screen.say(`The number is the process id (pid) of the IRMd: %d now, and
another one on every run. II marks information, DB what helps with debugging.`, t.irmd.pid())
	return nil
}

func (t *tutorial) createLayer(ctx context.Context) error {
	t.screen.say(`A layer consists of IPC processes (IPCPs). Ours will have one, of
the type local. A local IPCP is a kind of loopback interface: it does all that
an IPCP does, but only for processes on the same system. "irm ipcp create" would
make an IPCP that is in no layer yet. "irm ipcp bootstrap" makes it the first
member of a new layer, here local-layer, and creates it too if there is none of
that name. In the second window:`)
	if err := t.irm(ctx, "irm ipcp bootstrap type local name local-ipcp layer local-layer"); err != nil {
		return err
	}
	line, err := t.irmd.await(ctx, patience, "Bootstrapped IPCP")
	if err != nil {
		return err
	}
	t.screen.say(`The IRMd created the IPCP, process %d, and bootstrapped it in
local-layer. An IPCP logs to the same window under its own pid.`, number(line, "Bootstrapped IPCP %d"))
	return nil
}

func (t *tutorial) startServer(ctx context.Context) (err error) {
	words := "oping --listen"
	if t.fast {
		words += " --idle " + t.idle().String()
	}
	t.screen.say(`In the third window we start oping as a server. ("oping --help"
lists what else it can do.)`)
	if t.server, err = t.start(serverWindow, words); err != nil {
		return err
	}
	if _, err = t.server.await(ctx, patience, "Ouroboros ping server started."); err != nil {
		return err
	}
	if _, err = t.irmd.await(ctx, patience, "This process accepts flows for:"); err != nil {
		return err
	}
	t.screen.say(`The IRMd notices that an oping server, process %d, has started.
The list of the names that it accepts flows for is empty: no name is bound to it
yet.`, t.server.pid())
	return nil
}

func (t *tutorial) bindAndRegister(ctx context.Context) error {
	t.screen.say(`Clients can't reach the server yet. We bind it to a name, which can
be any, and register that name in local-layer. In the second window:`)
	if err := t.irm(ctx, fmt.Sprintf("irm bind process %d name oping-server", t.server.pid())); err != nil {
		return err
	}
	if _, err := t.irmd.await(ctx, patience, "Bound process"); err != nil {
		return err
	}
	if err := t.irm(ctx, "irm name register oping-server layer local-layer"); err != nil {
		return err
	}
	if _, err := t.irmd.await(ctx, patience, "Registered oping-server"); err != nil {
		return err
	}
	t.screen.say(`The name is bound and registered. A layer gets a hash instead of
the name in plain text: in a local layer the 256-bit SHA3 hash, unless you choose
another. The log shows its first 4 bytes in hexadecimal, f6c93ff2.`)
	return nil
}

func (t *tutorial) pingServer(ctx context.Context) (err error) {
	words := fmt.Sprintf("oping --server-name oping-server --count %d", count)
	if t.fast {
		words += " --interval " + t.interval().String()
	}
	t.screen.say(`In the fourth window a client sends %d pings to oping-server, one
every %v. (The short form: oping -n oping-server -c %d.)`, count, t.interval(), count)
	if t.ping, err = t.start(clientWindow, words); err != nil {
		return err
	}
	line, err := t.irmd.await(ctx, patience, "Flow req arrived from IPCP")
	if err != nil {
		return err
	}
	if _, err = t.irmd.await(ctx, patience, "Flow on flow_id 1 allocated."); err != nil {
		return err
	}
	if _, err = t.irmd.await(ctx, patience, ":         oping-server"); err != nil {
		return err
	}
	t.screen.say(`The IRMd's window shows how the flow was allocated. The client,
process %d, asked for a flow to oping-server, and the IRMd had the local IPCP,
process %d, allocate it towards f6c93ff2. The same IPCP then asked the IRMd for
a process that listens for f6c93ff2: that is oping-server, to which we bound our
server. Each end of the flow has its own flow_id, which the IRMd assigns: 0 for
the client's, 1 for the server's. An IPCP never sees flow_ids as such; it knows
the two ends by flow descriptors (fds), 64 and 65. The server, once it had
accepted the flow, accepts the next: the IRMd sees the instance again, and now
it accepts flows for oping-server.`, t.ping.pid(), number(line, "from IPCP %d"))
	if err := t.ping.wait(ctx, patience+count*t.interval()); err != nil {
		return err
	}
	_, err = t.irmd.await(ctx, patience, "Dead process removed")
	return err
}

func (t *tutorial) deallocate(ctx context.Context) error {
	t.screen.say(`A flow is deallocated in two phases at each end: the process
initiates it, the IPCP completes it. The client did so with flow_id 0, and then
its process, %d, ended. The server keeps its end until no ping has come for %v.`, t.ping.pid(), t.idle())
	if _, err := t.server.await(ctx, patience+t.idle(), "Flow 64 timed out."); err != nil {
		return err
	}
	if _, err := t.irmd.await(ctx, patience, "Finished deallocating flow 1"); err != nil {
		return err
	}
	t.screen.say(`The server initiated the deallocation of flow_id 1, and the IPCP
completed it.`)
	return nil
}

func (t *tutorial) finish(ctx context.Context) error {
	t.screen.say(`This concludes the tutorial. By hand, Ctrl-C in its window ends a
process. Here the server ends first, then the IRMd, and with it the IPCP.`)
	if err := t.server.stop(); err != nil {
		return err
	}
	if _, err := t.irmd.await(ctx, patience, "Dead process removed"); err != nil {
		return err
	}
	return t.irmd.stop()
}

// irm types a command in the second window and waits until it is done.
func (t *tutorial) irm(ctx context.Context, words string) error {
	p, err := t.start(irmWindow, words)
	if err != nil {
		return err
	}
	// The command itself waits for the IRMd, and its error says what it waited for.
	return p.wait(ctx, 2*patience)
}

// count is how many pings the client sends.
const count = 5

// interval returns the time between two of them.
func (t *tutorial) interval() time.Duration {
	if t.fast {
		return 100 * time.Millisecond
	}
	return time.Second
}

// idle returns the server's time-out. It is so long that the client has ended before,
// as the tutorial tells it, also on a busy machine.
func (t *tutorial) idle() time.Duration {
	if t.fast {
		return 2 * time.Second
	}
	return 10 * time.Second
}

// number returns the number in line where format, of package fmt, has %d.
func number(line, format string) (n int) {
	for i := range line {
		if _, err := fmt.Sscanf(line[i:], format, &n); err == nil {
			return n
		}
	}
	return 0
}
