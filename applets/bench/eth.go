package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"o7s/core/ipcp"
	"o7s/core/ipcp/port"
	machine "o7s/ipc/port"
)

// The kinds of links over Ethernet: a flow between two systems, and a packet
// socket that passes many frames at a time.
const (
	ethFlow   = "far flow on Ethernet"
	rawFrames = "frames, many at a time"
)

const (
	ethMTU = 1500
	// rawType is the EtherType of frames without a flow.
	rawType = 0xb001
	// inside is set in the environment of a bench that is in namespaces of its
	// own.
	inside = "O7S_BENCH_INSIDE"
)

// ethDevices are the ends of the cable: the client's and the server's.
var ethDevices = [2]string{"o7s-client", "o7s-server"}

// runEth measures flows between two systems that a cable joins. The systems are
// network namespaces in a user namespace, so that it needs no root.
func (b *bench) runEth(ctx context.Context, args []string) error {
	if os.Getenv(inside) == "" {
		return enterNamespaces(ctx, b.out, b.errs, args)
	}
	spaces, macs, err := cable()
	if err != nil {
		return fmt.Errorf("join two network namespaces: %w", err)
	}
	b.macs = macs
	if b.client, err = startNodeIn(ctx, spaces[0], "eth-dix", ipcp.Setting{Name: "dev", Value: ethDevices[0]}); err != nil {
		return err
	}
	defer b.client.stop()
	if b.server, err = startNodeIn(ctx, spaces[1], "eth-dix", ipcp.Setting{Name: "dev", Value: ethDevices[1]}); err != nil {
		return err
	}
	defer b.server.stop()
	b.head("two processes, and for a flow two IPCPs")
	if err := b.lossyWays(ctx, "On Ethernet, a virtual cable of MTU 1500", []string{ethFlow, rawFrames}); err != nil {
		return err
	}
	return b.allocations(ctx)
}

// enterNamespaces runs the bench again, as root of a user namespace.
func enterNamespaces(ctx context.Context, out, errs io.Writer, args []string) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"bench"}, args...)...)
	cmd.Args[0] = "o7s"
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * stopTime
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run in namespaces of its own: %w", err)
	}
	return nil
}

// cable makes two network namespaces that a pair of devices joins.
func cable() (spaces [2]*os.File, macs [2]port.MAC, err error) {
	for i := range spaces {
		if spaces[i], err = newNamespace(); err != nil {
			return spaces, macs, err
		}
	}
	link := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: ethDevices[0], MTU: ethMTU}, PeerName: ethDevices[1],
	}
	if err := netlink.LinkAdd(link); err != nil {
		return spaces, macs, err
	}
	for i, dev := range ethDevices {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return spaces, macs, err
		}
		copy(macs[i][:], l.Attrs().HardwareAddr)
		if err := netlink.LinkSetNsFd(l, int(spaces[i].Fd())); err != nil {
			return spaces, macs, err
		}
		if err := within(spaces[i], func() error { return netlink.LinkSetUp(l) }); err != nil {
			return spaces, macs, err
		}
	}
	return spaces, macs, nil
}

// newNamespace returns a new network namespace.
func newNamespace() (*os.File, error) {
	var made *os.File
	err := keepNamespace(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		made, err = currentNamespace()
		return err
	})
	return made, err
}

func currentNamespace() (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
}

// keepNamespace calls f, which may change the network namespace of its thread.
func keepNamespace(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := currentNamespace()
	if err != nil {
		return err
	}
	defer was.Close()
	err = f()
	if back := unix.Setns(int(was.Fd()), unix.CLONE_NEWNET); err == nil {
		err = back
	}
	return err
}

// within calls f in a network namespace; nil is this process's own.
func within(space *os.File, f func() error) error {
	if space == nil {
		return f()
	}
	return keepNamespace(func() error {
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// openEther returns a worker's end over a packet socket.
func openEther(s spec) (link, error) {
	dev := ethDevices[0]
	if s.Role == "passive" {
		dev = ethDevices[1]
	}
	e, err := machine.Machine.Ether(dev, rawType)
	if err != nil {
		return nil, err
	}
	l := &frames{Ether: e, out: make([]port.Frame, 64), in: make([]port.Frame, 128)}
	for i := range l.out {
		l.out[i] = port.Frame{Peer: s.Peer, Body: make([]byte, s.Size)}
	}
	l.end = time.AfterFunc(time.Hour, func() { e.Close() })
	return l, nil
}

// frames passes many frames a system call.
type frames struct {
	port.Ether
	out, in []port.Frame
	end     *time.Timer
}

func (l *frames) send(n uint64) (int, error) {
	for i, f := range l.out {
		stamp(f.Body, n+uint64(i))
	}
	return l.Send(l.out)
}

func (l *frames) recv(got func(uint64)) error {
	n, err := l.Recv(l.in)
	if err != nil {
		return io.EOF // end has closed it
	}
	l.end.Reset(quiet)
	for _, f := range l.in[:n] {
		got(stamped(f.Body))
	}
	return nil
}

// Close ends the link, once: the timer may have done so.
func (l *frames) Close() error {
	if l.end.Stop() {
		return l.Ether.Close()
	}
	return nil
}
