package irmd

import (
	"o7s/core/irm"
	"os"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"o7s/ipc/flow"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// stuck makes the last close of a socket wait until free is called: an epoll
// instance watches it, whose reader is in a page fault that nobody resolves.
func stuck(t *testing.T, socket int) (free func()) {
	r, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		t.Skip("userfaultfd: ", errno)
	}
	faults := int(r)
	control := func(cmd uintptr, arg *[4]uint64) {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(faults), cmd, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatalf("ioctl %#x: %v", cmd, errno)
		}
	}
	size := unix.Getpagesize()
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	at := uint64(uintptr(unsafe.Pointer(&page[0])))
	control(0xc018aa3f, &[4]uint64{0xaa})                   // UFFDIO_API
	control(0xc020aa00, &[4]uint64{at, uint64(size), 1, 0}) // UFFDIO_REGISTER, of missing pages

	watch, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.EpollCtl(watch, unix.EPOLL_CTL_ADD, socket, &unix.EpollEvent{Events: unix.EPOLLOUT}); err != nil {
		t.Fatal(err)
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(watch), uintptr(at), 1, ^uintptr(0), 0, 0)
	}()
	p := []unix.PollFd{{Fd: int32(faults), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 10000)
		if n > 0 {
			break
		}
		if err != unix.EINTR {
			t.Fatal("no page fault: ", err)
		}
	}
	return func() {
		control(0xc020aa04, &[4]uint64{at, uint64(size), 0, 0}) // UFFDIO_ZEROPAGE
		<-left
		unix.Close(watch)
		unix.Close(faults)
		unix.Munmap(page)
	}
}

// A process can close its end before the IRMd has, and make the IRMd's close
// wait, which must hold up nothing else.
func TestCloseOfAnEndDoesNotWaitForItsProcess(t *testing.T) {
	// A collection waits for calls that the scheduler is not told of: without
	// one, this test can say what is wrong.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	a, b, err := new(memory).NewFlow(irm.Owner{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	// A process of another user gets it.
	ours, theirs, err := rpc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close() // it releases it at once
	l, err := rpc.New(ours, rpc.Config{Peer: &rpc.Peer{PID: 1, UID: os.Geteuid() + 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.Close(); <-l.Done() }()
	(&process{link: l}).FlowArrived(0, irm.HandedFlow{End: a}, func(int, error) {})
	free := stuck(t, a.(*end).kit.Bell[0]) // as by one that has closed its own copy
	closed := make(chan struct{})
	go func() {
		a.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("Close waits")
	}
	free()
	<-closed
}

// Nor can a process send descriptors to the IRMd, whose close may take long,
// not even before its connection is accepted.
func TestNoDescriptorsAreSentToTheIRMd(t *testing.T) {
	dir := t.TempDir()
	h, err := takeHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.release()
	if err := h.listen(); err != nil {
		t.Fatal(err)
	}
	defer h.close()
	conn, err := rpc.Dial(t.Context(), dir, irmctl.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var known error
	raw.Control(func(fd uintptr) { _, known = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSRIGHTS) })
	if known != nil {
		t.Skip("the kernel cannot refuse descriptors (before Linux 6.16)")
	}
	if _, _, err := conn.WriteMsgUnix([]byte("x"), unix.UnixRights(0), nil); err == nil {
		t.Error("a descriptor is sent")
	}
}

// What is made ahead is used once, by a flow with rings of that size, and
// closed where the next one needs others.
func TestMemoryMadeAhead(t *testing.T) {
	m := new(memory)
	kitOf := func(held int) *flow.Kit {
		a, b, err := m.NewFlow(irm.Owner{}, held)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close(); b.Close() })
		return a.(*end).kit
	}
	first := kitOf(0)
	m.Prepare()
	m.Prepare() // again is no more
	spare := m.spare.Load()
	if spare == nil || spare == first || spare.Ring != flow.DefaultRing {
		t.Fatalf("made ahead: %+v after %+v", spare, first)
	}
	if kit := kitOf(0); kit != spare {
		t.Errorf("the second flow has %+v, not %+v", kit, spare)
	}
	if kit := kitOf(0); kit == spare || m.spare.Load() != nil {
		t.Errorf("the third flow has the second one's memory")
	}
	m.Prepare()
	spare = m.spare.Load()
	if kit := kitOf(1 << 20); kit == spare || kit.Ring != flow.MinRing || spare.Mem != -1 {
		t.Errorf("a flow beside many has %+v; made ahead was %+v", kit, spare)
	}
	m.Prepare()
	if kit := kitOf(1 << 20); kit.Ring != flow.MinRing {
		t.Errorf("the next one has %+v", kit)
	}
}

// Counts that the rings can't have are told as such.
func TestFalseCounts(t *testing.T) {
	a, b, err := new(memory).NewFlow(irm.Owner{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	e := a.(*end)
	ring := uint64(e.kit.Ring)
	for _, tt := range []struct {
		written, read uint64
		impossible    bool
	}{
		{0, 0, false}, {1 << 50, 1 << 50, false}, {ring, 0, false}, {ring + 1, 0, true}, {0, 1, true}, {^uint64(0), 0, true}, {0, ^uint64(0), false},
	} {
		for side := range 2 {
			var d [2]flow.Positions
			d[side] = flow.Positions{Written: tt.written, Read: tt.read}
			if c := e.countOf(d); c.Impossible != tt.impossible {
				t.Errorf("side %d, written %d, read %d: %+v", side, tt.written, tt.read, c)
			}
		}
	}
	m := e.Meter()
	defer m.Close()
	if c, err := m.Count(); err != nil || c.Impossible {
		t.Errorf("a new flow: %+v, error %v", c, err)
	}
	// As a process may, which has the memory mapped.
	page, err := unix.Mmap(e.kit.Mem, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for i := range page {
		page[i] = byte(255 - i/8)
	}
	if c, err := m.Count(); err != nil || !c.Impossible {
		t.Errorf("a flow whose memory a process has overwritten: %+v, error %v", c, err)
	}
	_ = unix.Munmap(page)
}
