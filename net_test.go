package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestNetwork plays the scenarios of testdata/net: those of TestScripts, on
// hosts A and B with a network of their own. Each host is a network namespace;
// a cable joins device ethA of A (10.7.0.1, fd07::1) to device ethB of B
// (10.7.0.2, fd07::2). Beside TestScripts' commands they have:
//
//	cable pull|plug            take host B's end of the cable out, or put it in
//	cable remove|new           remove both devices, or make them anew
//	cable shake                change host A's device 1000 times
//	mtu N                      change the MTU of both devices
//	wires A-B B-C ...          join more hosts, A to D: A by device ethAB to B by ethBA,
//	                           and so on
//
// All of this is in a user namespace, so that it needs no root. Where the
// kernel forbids that the test is skipped, unless O7S_NEED_NETNS is set.
func TestNetwork(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Parallel()
		enterNamespace(t)
		return
	}
	params := scripts("testdata/net")
	params.Cmds["cable"], params.Cmds["mtu"], params.Cmds["wires"] = cable, mtu, wires
	then := params.Setup
	params.Setup = func(env *testscript.Env) error {
		net, err := newNetwork()
		if err != nil {
			return err
		}
		env.Values[networkKey{}] = net
		env.Defer(net.close)
		for _, h := range net.hosts {
			env.Setenv("NETNS_"+h.name, h.path())
		}
		return then(env)
	}
	testscript.Run(t, params)
}

type networkKey struct{}

const inNamespace = "O7S_TEST_IN_NAMESPACE"

// enterNamespace runs this test again, as root of namespaces of its own.
func enterNamespace(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestNetwork$", "-test.timeout=170s", fmt.Sprintf("-test.v=%v", testing.Verbose()), fmt.Sprintf("-long=%v", *long))
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts it
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		if os.Getenv("O7S_NEED_NETNS") == "" {
			t.Skipf("the kernel gives this user no namespaces: %v", err)
		}
		t.Fatalf("start in namespaces: %v", err)
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

// host is a network namespace, with one end of the cable if it is A or B.
type host struct {
	name string
	ns   netns.NsHandle
	net  *netlink.Handle
}

// path is where another process finds the namespace.
func (h *host) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(h.ns)) }

func (h *host) device() string { return "eth" + h.name }

// network is the hosts of one script: A, B, the cable between them, and more.
type network struct{ hosts []*host }

// close removes the network, which goes with its namespaces.
func (n *network) close() {
	for _, h := range n.hosts {
		h.net.Close()
		h.ns.Close()
	}
}

func newNetwork() (*network, error) {
	n := &network{}
	for _, name := range []string{"A", "B"} {
		if _, err := n.host(name); err != nil {
			return nil, err
		}
	}
	return n, n.join()
}

// host returns the host of that name, a new one where there is none.
func (n *network) host(name string) (*host, error) {
	for _, h := range n.hosts {
		if h.name == name {
			return h, nil
		}
	}
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	net, err := netlink.NewHandleAt(ns)
	if err != nil {
		ns.Close()
		return nil, err
	}
	h := &host{name: name, ns: ns, net: net}
	n.hosts = append(n.hosts, h)
	return h, h.up("lo")
}

// join joins the hosts A and B by a new cable.
func (n *network) join() error {
	a, b := n.hosts[0], n.hosts[1]
	err := joinHosts(a, b, a.device(), b.device())
	for i, h := range []*host{a, b} {
		if err == nil {
			var link netlink.Link
			if link, err = h.net.LinkByName(h.device()); err == nil {
				err = h.address(link, i+1)
			}
		}
	}
	return err
}

// joinHosts joins a and b by a new cable between new devices.
func joinHosts(a, b *host, devA, devB string) error {
	err := a.net.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: devA, MTU: 1500}, PeerName: devB, PeerNamespace: netlink.NsFd(int(b.ns)),
	})
	if err == nil {
		err = a.up(devA)
	}
	if err == nil {
		err = b.up(devB)
	}
	return err
}

// up starts a device.
func (h *host) up(dev string) error {
	link, err := h.net.LinkByName(dev)
	if err == nil {
		err = h.net.LinkSetUp(link)
	}
	return err
}

// address gives the device of host number n its addresses.
func (h *host) address(link netlink.Link, n int) error {
	for _, s := range []string{fmt.Sprintf("10.7.0.%d/24", n), fmt.Sprintf("fd07::%d/64", n)} {
		addr, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		addr.Flags |= unix.IFA_F_NODAD // of use at once
		if err := h.net.AddrReplace(link, addr); err != nil {
			return err
		}
	}
	return nil
}

// newNamespace returns a new network namespace.
func newNamespace() (netns.NsHandle, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		return 0, err
	}
	defer old.Close()
	ns, err := netns.New()
	if err != nil {
		return 0, err
	}
	return ns, netns.Set(old)
}

// cable pulls out or plugs in host B's end.
func cable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cable pull|plug|remove|new|shake")
	}
	n := ts.Value(networkKey{}).(*network)
	switch args[0] {
	case "new":
		ts.Check(n.join())
		return
	case "shake":
		a := n.hosts[0]
		link, err := a.net.LinkByName(a.device())
		ts.Check(err)
		for i := range 1000 {
			ts.Check(a.net.LinkSetMTU(link, 1400+i%2))
		}
		return
	}
	b := n.hosts[1]
	link, err := b.net.LinkByName(b.device())
	ts.Check(err)
	switch args[0] {
	case "pull":
		ts.Check(b.net.LinkSetDown(link))
	case "plug":
		ts.Check(b.net.LinkSetUp(link))
		ts.Check(b.address(link, 2)) // the kernel has taken those of IPv6
	case "remove":
		ts.Check(b.net.LinkDel(link)) // the other end goes too
	default:
		ts.Fatalf("usage: cable pull|plug|remove|new|shake")
	}
}

// mtu changes the MTU of both devices.
func mtu(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mtu N")
	}
	size, err := strconv.Atoi(args[0])
	ts.Check(err)
	for _, h := range ts.Value(networkKey{}).(*network).hosts {
		link, err := h.net.LinkByName(h.device())
		ts.Check(err)
		ts.Check(h.net.LinkSetMTU(link, size))
	}
}

// wires joins hosts, in pairs.
func wires(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: wires A-B...")
	}
	n := ts.Value(networkKey{}).(*network)
	for _, pair := range args {
		var ends [2]*host
		a, b, ok := strings.Cut(pair, "-")
		if !ok {
			ts.Fatalf("%q is no pair of hosts", pair)
		}
		for i, name := range []string{a, b} {
			h, err := n.host(name)
			ts.Check(err)
			ts.Setenv("NETNS_"+name, h.path())
			ends[i] = h
		}
		ts.Check(joinHosts(ends[0], ends[1], "eth"+a+b, "eth"+b+a))
	}
}

// at HOST COMMAND... becomes COMMAND, run on that host: with a runtime directory
// of its own below the script's, and in the host's network if it has one.
func at() {
	name := os.Args[1]
	dir := filepath.Join(os.Getenv("O7S_RUNTIME_DIR"), name)
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if ns := os.Getenv("NETNS_" + name); err == nil && ns != "" {
		err = enter(ns)
	}
	path := ""
	if err == nil {
		path, err = exec.LookPath(os.Args[2])
	}
	if err == nil {
		os.Setenv("O7S_RUNTIME_DIR", dir)
		os.Setenv("O7S_CONFIG_DIR", filepath.Join(os.Getenv("O7S_CONFIG_DIR"), name))
		err = syscall.Exec(path, os.Args[2:], os.Environ())
	}
	fmt.Fprintf(os.Stderr, "at %s: %v\n", strings.Join(os.Args[1:], " "), err)
	os.Exit(1)
}

// enter moves this thread, which then becomes a program, into a network
// namespace.
func enter(path string) error {
	runtime.LockOSThread()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return netns.Set(netns.NsHandle(f.Fd()))
}
