package ipc_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/ipc/ipcpctl"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// A process of another user gets at neither the memory nor the descriptors of
// a flow: not those of its ends, not by the IRMd, not by the IPCP.
func TestFlowOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	each(t, func(t *testing.T, w *world) {
		w.register(t, "private")
		server := w.role(t, "test-echo", "listens", "private")
		client := w.role(t, "test-client", "dialed", "private")
		list, err := w.admin.IPCPs(wait(t))
		must(t, err)
		args := []string{}
		for _, pid := range append(pids(list), server.pid(), client.pid(), w.pid()) {
			args = append(args, fmt.Sprint(pid))
		}
		// Root finds what the thief is looking for.
		if n, err := maps(client.pid()); n == 0 || err != nil {
			t.Fatalf("the client has %d flows mapped, %v", n, err)
		}
		thief := w.roleAs(t, "test-thief", "done", asNobody(), args...)
		line, err := thief.line("done", 1)
		must(t, err)
		t.Log(line)
		if n := thief.count("got in"); n > 0 {
			t.Errorf("it got in %d times", n)
		}
		c := w.dial(t, "private")
		must(t, ask(c, "x"))
		must(t, c.Close())
	})
}

// maps returns how many flows a process has mapped.
func maps(pid int) (int, error) {
	h, err := possessionOf(pid)
	return h.memories, err
}

// thiefRole tries to get at what other processes have.
func thiefRole(ctx context.Context, args []string) error {
	tries := 0
	try := func(what string, err error) {
		if tries++; err == nil {
			fmt.Println("got in:", what)
		}
	}
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		dir := filepath.Join("/proc", arg)
		for _, d := range []string{"fd", "map_files"} {
			_, err := os.ReadDir(filepath.Join(dir, d))
			try(dir+"/"+d, err)
		}
		for _, name := range []string{"mem", "maps", "environ"} {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY, 0)
			if err == nil { // the kernel may look when it is read
				_, err = f.Read(make([]byte, 1))
				f.Close()
			}
			try(dir+"/"+name, err)
		}
		for fd := range 100 {
			f, err := os.OpenFile(fmt.Sprintf("%s/fd/%d", dir, fd), os.O_RDWR, 0)
			if err == nil {
				f.Close()
			}
			try(fmt.Sprintf("%s/fd/%d", dir, fd), err)
			n, err := stolen(pid, fd)
			if err == nil {
				unix.Close(n)
			}
			try(fmt.Sprintf("pidfd_getfd of %d in %d", fd, pid), err)
		}
		try("ptrace of "+arg, unix.PtraceSeize(pid))
		try("a signal to "+arg, unix.Kill(pid, unix.SIGSTOP))
	}
	fmt.Println("done: tried", tries, "ways")
	<-ctx.Done()
	return nil
}

// An application may not send the IRMd what an IPCP may send, also if root runs it.
func TestApplicationPosesAsIPCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	a, b := w.pair(t, "pair")
	l := w.link(t)
	for what, err := range map[string]error{
		"request":  call(t, l, ipcpctl.FlowReqArr, ipcp.Arrival{Dst: core.Hash("hash")}),
		"reply":    call(t, l, ipcpctl.FlowAllocReply, ipcp.AllocReply{Flow: a.ID(), Code: core.ErrNotAllocated}),
		"released": call(t, l, ipcpctl.FlowReleased, ipcpctl.FlowReq{Flow: b.ID()}),
		"attach":   call(t, l, ipcpctl.Attach, ipcpctl.FlowReq{Flow: a.ID()}),
		"register": call(t, l, ipcpctl.Register, ipcpctl.HashReq{Hash: core.Hash("hash")}),
	} {
		fails(t, what, err, core.ErrNotSupported)
	}
	must(t, rpc.Notify(l, ipcpctl.Splice, &ipcpctl.SpliceMsg{A: a.ID(), B: b.ID()})) // nobody answers
	// The flow is as it was.
	must(t, a.WritePacket([]byte("x")))
	_, err := b.Read(make([]byte, 1))
	must(t, err)
}

// The socket and its directory let those in that they must, and no more.
func TestRuntimeDirectoryRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, local.Type.Name)
	want := map[string]string{"": "drwx------", irmctl.Socket: "Srw-------"}
	if os.Geteuid() == 0 {
		want = map[string]string{"": "drwxr-xr-x", irmctl.Socket: "Srw-rw-rw-"}
	}
	for name, mode := range want {
		fi, err := os.Lstat(filepath.Join(w.dir, name))
		must(t, err)
		if !strings.EqualFold(fi.Mode().String(), mode) {
			t.Errorf("%q has the mode %v, want %s", name, fi.Mode(), mode)
		}
	}
}
