package ipc_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/ipcp/local"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// hangingFiles mounts a file system that no process serves, in which there is one file,
// prog. A process that opens prog waits until the test's end: not even a signal ends that.
// With looks, stat of prog waits in the same way.
func hangingFiles(t *testing.T, looks bool) (prog string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hang")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { os.Remove(dir) })
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	f := os.NewFile(uintptr(fd), "fuse")
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=65534,group_id=65534,allow_other", fd)
	if err := unix.Mount("hang", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		f.Close()
		t.Skipf("no FUSE here: %v", err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil { // which fails whoever waits
			t.Error(err)
		}
		<-ended
		f.Close()
	})
	go func() {
		defer close(ended)
		b := make([]byte, 1<<17+4096)
		for {
			n, err := unix.Read(fd, b)
			if err == unix.EINTR || err == unix.ENOENT { // ENOENT: it was withdrawn
				continue
			}
			if err != nil {
				return
			}
			if out := fuseAnswer(b[:n], looks); out != nil {
				_, _ = unix.Write(fd, out)
			}
		}
	}()
	return filepath.Join(dir, "prog")
}

// fuseAnswer answers a request of the kernel, by linux/fuse.h; nil: not at all.
func fuseAnswer(b []byte, looks bool) []byte {
	const (
		lookup, forget, getattr, open, getxattr, init = 1, 2, 3, 14, 22, 26
		access, interrupt                             = 34, 36
	)
	le := binary.LittleEndian
	op, unique, node := le.Uint32(b[4:]), le.Uint64(b[8:]), le.Uint64(b[16:])
	attr := func(id uint64) []byte {
		a := make([]byte, 88)
		mode, size := uint32(unix.S_IFREG|0o755), uint64(4096)
		if id == 1 {
			mode, size = unix.S_IFDIR|0o755, 0
		}
		le.PutUint64(a, id)
		le.PutUint64(a[8:], size)
		le.PutUint32(a[60:], mode)
		le.PutUint32(a[64:], 1)
		le.PutUint32(a[68:], 65534)
		le.PutUint32(a[72:], 65534)
		le.PutUint32(a[80:], 4096)
		return a
	}
	var body []byte
	code := int32(0)
	switch {
	case op == init:
		body = make([]byte, 64)
		le.PutUint32(body, 7)
		le.PutUint32(body[4:], 31)
		le.PutUint32(body[20:], 4096)
	case op == forget, op == interrupt, op == open:
		return nil
	case looks:
		return nil
	case op == getattr:
		body = append(make([]byte, 16), attr(node)...)
	case op == lookup:
		body = append(make([]byte, 40), attr(2)...)
		le.PutUint64(body, 2)
	case op == access, op == getxattr:
		code = -int32(syscall.ENOSYS)
	default:
		code = -int32(syscall.ENOSYS)
	}
	out := make([]byte, 16, 16+len(body))
	le.PutUint32(out, uint32(16+len(body)))
	le.PutUint32(out[4:], uint32(code))
	le.PutUint64(out[8:], unique)
	return append(out, body...)
}

// hangRole binds and announces the program args[0], on a file system that hangs.
func hangRole(ctx context.Context, args []string) error {
	l, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return err
	}
	const many = 20
	done := make(chan error, many)
	for i := range many {
		req := irmctl.ProgramReq{Path: args[0], Name: args[1], Auto: true}
		if i > 0 {
			req.Name = fmt.Sprint("hangs-", i)
		}
		rpc.Go(l, irmctl.BindProgram, &req, func(_ *rpc.Reply[rpc.Empty], err error) { done <- err })
	}
	a, err := irmctl.Connect(ctx, rpc.Config{})
	if err != nil {
		return err
	}
	rpc.Go(a, irmctl.Announce, &irmctl.AnnounceReq{Path: args[0]}, func(*rpc.Reply[rpc.Empty], error) {})
	fmt.Println("asked")
	for range many {
		fmt.Println("bound:", <-done)
	}
	<-ctx.Done()
	return nil
}

// A file system that hangs, whose files are bound as programs, stops those who want
// them, and nobody else: others dial meanwhile, and the IRMd ends when it is told to.
func TestFileSystemThatHangs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system, and be somebody else")
	}
	for _, looks := range []bool{false, true} {
		t.Run(fmt.Sprint("also to look: ", looks), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, local.Type.Name)
			prog := hangingFiles(t, looks)
			w.register(t, "others", "stuck")
			w.role(t, "test-echo", "listens", "others")
			p := w.roleAs(t, "test-hang", "asked", asNobody(), prog, "stuck")
			var stuck <-chan error
			if !looks {
				_, err := p.line("bound:", 20)
				must(t, err)
				stuck = async(func() error { return errOf(w.node.Dial(wait(t), "stuck")) })
			}
			slowest, dials := time.Duration(0), 0
			for began := time.Now(); time.Since(began) < 7*time.Second; dials++ { // longer than a file is waited for
				begun := time.Now()
				c := w.dial(t, "others")
				must(t, ask(c, "x"))
				must(t, c.Deallocate(wait(t)))
				must(t, w.admin.RegisterName(wait(t), irmctl.RegisterReq{Name: "another", Layers: []string{"layer"}}))
				_, err := w.admin.Programs(wait(t))
				must(t, err)
				slowest = max(slowest, time.Since(begun))
				time.Sleep(10 * time.Millisecond) // to leave the processor to others
			}
			t.Logf("the slowest of %d dials, with a registration and a list, takes %v", dials, slowest)
			if slowest > time.Second {
				t.Errorf("a dial takes %v", slowest)
			}
			if stuck != nil {
				fails(t, "a dial of the program that hangs", result(t, "dial", stuck), core.ErrNotAllocated)
			} else {
				_, err := p.line("bound:", 20)
				must(t, err)
				// The announcement waits too.
				if late, refused := p.count("does not answer"), p.count("limit reached"); late < 15 || late > 16 || late+refused != 20 {
					t.Errorf("%d of 20 are refused, %d are given up", refused, late)
				}
			}
			// Once more, for the end.
			if !looks {
				time.Sleep(time.Second) // until it may be started again
				go func() { _, _ = w.node.Dial(t.Context(), "stuck") }()
				must(t, errOf(w.line("Flow request arrived for stuck", 2)))
			}
			begun := time.Now()
			must(t, w.cmd.Process.Signal(syscall.SIGTERM))
			<-w.done
			if d := time.Since(begun); d > 2*time.Second {
				t.Errorf("the IRMd ends after %v", d)
			}
		})
	}
}
