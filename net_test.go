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
//	mtu N                      change the MTU of both devices
//
// All of this is in a user namespace, so that it needs no root. Where the
// kernel forbids that the test is skipped, unless O7S_NEED_NETNS is set.
func TestNetwork(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		enterNamespace(t)
		return
	}
	params := scripts("testdata/net")
	params.Cmds["cable"], params.Cmds["mtu"] = cable, mtu
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

// host is a network namespace with one end of the cable.
type host struct {
	name string
	ns   netns.NsHandle
	net  *netlink.Handle
}

// path is where another process finds the namespace.
func (h *host) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(h.ns)) }

func (h *host) device() string { return "eth" + h.name }

// network is two hosts and the cable between them, for one script.
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
		ns, err := newNamespace()
		if err != nil {
			return nil, err
		}
		h, err := netlink.NewHandleAt(ns)
		if err != nil {
			return nil, err
		}
		n.hosts = append(n.hosts, &host{name: name, ns: ns, net: h})
	}
	return n, n.join()
}

// join joins the hosts by a new cable.
func (n *network) join() error {
	a, b := n.hosts[0], n.hosts[1]
	if err := a.net.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: a.device(), MTU: 1500}, PeerName: b.device(), PeerNamespace: netlink.NsFd(int(b.ns)),
	}); err != nil {
		return err
	}
	for i, h := range n.hosts {
		for _, dev := range []string{"lo", h.device()} {
			link, err := h.net.LinkByName(dev)
			if err == nil {
				err = h.net.LinkSetUp(link)
			}
			if err == nil && dev != "lo" {
				err = h.address(link, i+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
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
		ts.Fatalf("usage: cable pull|plug|remove|new")
	}
	n := ts.Value(networkKey{}).(*network)
	if args[0] == "new" {
		ts.Check(n.join())
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
		ts.Fatalf("usage: cable pull|plug|remove|new")
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
