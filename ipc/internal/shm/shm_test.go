package shm

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"o7s/core"
)

const size = 64 << 10

// dup returns a copy of fd that the test closes unless it is closed by then.
func dup(t *testing.T, fd int) int {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closed(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == unix.EBADF
}

func TestCreatedMemoryIsSealedSharedAndZero(t *testing.T) {
	fd, err := Create(size)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if f, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); f&unix.FD_CLOEXEC == 0 {
		t.Error("not close-on-exec")
	}
	for _, n := range []int64{0, size - 1, size + 1} {
		if err := unix.Ftruncate(fd, n); err != unix.EPERM {
			t.Errorf("truncate to %d: %v", n, err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != unix.EPERM {
		t.Errorf("one more seal: %v", err)
	}
	a, err := Map(dup(t, fd), size)
	if err != nil {
		t.Fatal(err)
	}
	defer Unmap(a)
	b, err := Map(dup(t, fd), size)
	if err != nil {
		t.Fatal(err)
	}
	defer Unmap(b)
	if len(a) != size || a[0] != 0 || a[size-1] != 0 {
		t.Errorf("%d bytes, not all zero", len(a))
	}
	a[size-1] = 7
	if b[size-1] != 7 {
		t.Error("not shared")
	}
}

func TestMapRefusesWhatIsNotTheAgreedMemoryAndClosesIt(t *testing.T) {
	memfd := func(n int64, add int) int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		unix.Ftruncate(fd, n)
		unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, add)
		return fd
	}
	file := func(path string) int {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	plain.Truncate(size)
	bell, _ := NewBell()
	defer unix.Close(bell[1])
	for _, tt := range []struct {
		name string
		fd   int
	}{
		{"no seals", memfd(size, 0)},
		{"only the size sealed, seals can still come", memfd(size, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)},
		{"may shrink", memfd(size, unix.F_SEAL_GROW|unix.F_SEAL_SEAL)},
		{"may grow", memfd(size, unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)},
		{"too small", memfd(size-4096, seals)},
		{"too large", memfd(size+4096, seals)},
		{"a plain file", file(plain.Name())},
		{"a device", file("/dev/zero")},
		{"a socket", bell[0]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Map(tt.fd, size)
			if m != nil || !errors.Is(err, core.ErrUsage) {
				t.Errorf("error %v", err)
			}
			if !closed(tt.fd) {
				t.Error("left open")
			}
		})
	}
	t.Run("closed before", func(t *testing.T) {
		if _, err := Map(-1, size); !errors.Is(err, core.ErrUsage) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("sealed against writing", func(t *testing.T) {
		fd := memfd(size, seals|unix.F_SEAL_WRITE)
		if m, err := Map(fd, size); m != nil || err == nil {
			t.Errorf("mapped")
		}
	})
}

func TestCheckBellTakesOnlyAConnectedStream(t *testing.T) {
	good, err := NewBell()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(good[0])
	defer unix.Close(good[1])
	// Whatever the sender made of the flags.
	unix.SetNonblock(good[0], false)
	unix.FcntlInt(uintptr(good[0]), unix.F_SETFD, 0)
	if err := CheckBell(good[0]); err != nil {
		t.Fatal(err)
	}
	if f, _ := unix.FcntlInt(uintptr(good[0]), unix.F_GETFL, 0); f&unix.O_NONBLOCK == 0 {
		t.Error("blocking")
	}
	if f, _ := unix.FcntlInt(uintptr(good[0]), unix.F_GETFD, 0); f&unix.FD_CLOEXEC == 0 {
		t.Error("not close-on-exec")
	}

	pair := func(typ int) int {
		p, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(p[1])
		return p[0]
	}
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Bind(lis, &unix.SockaddrUnix{Name: ""})
	unix.Listen(lis, 1)
	mem, _ := Create(size)
	for name, fd := range map[string]int{
		"datagram":  pair(unix.SOCK_DGRAM),
		"seqpacket": pair(unix.SOCK_SEQPACKET),
		"TCP":       tcp,
		"listening": lis,
		"memory":    mem,
		"closed":    -1,
	} {
		if err := CheckBell(fd); !errors.Is(err, core.ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
		if fd >= 0 && closed(fd) {
			t.Errorf("%s: closed", name)
		}
		unix.Close(fd)
	}
}

func TestDeadSeesEveryWayToGoAndTakesNoBytes(t *testing.T) {
	for name, do := range map[string]func(p [2]int){
		"closed":                   func(p [2]int) { unix.Close(p[1]) },
		"closed with bytes for us": func(p [2]int) { Notify(p[1]); unix.Close(p[1]) },
		"closed with bytes unread": func(p [2]int) { Notify(p[0]); unix.Close(p[1]) },
		"half shut down":           func(p [2]int) { unix.Shutdown(p[1], unix.SHUT_WR) },
	} {
		p, err := NewBell()
		if err != nil {
			t.Fatal(err)
		}
		Notify(p[1])
		if Dead(p[0]) {
			t.Errorf("%s: dead before", name)
		}
		if !Drain(p[0]) || Drain(p[0]) {
			t.Errorf("%s: Drain does not take what was rung", name)
		}
		do(p)
		if !Dead(p[0]) {
			t.Errorf("%s: alive", name)
		}
		Drain(p[0])
		if !Dead(p[0]) {
			t.Errorf("%s: alive after Drain", name)
		}
		unix.Close(p[0])
		if name == "half shut down" {
			unix.Close(p[1])
		}
	}
}

func TestRingSaysWhenThePeerIsGone(t *testing.T) {
	p, err := NewBell()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	for range 2000 { // a full queue is no error
		if err := Notify(p[0]); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(p[1])
	if err := Notify(p[0]); err != ErrDead {
		t.Errorf("error %v", err)
	}
}

// However much a hostile peer sends, one Drain ends.
func TestDrainIsBounded(t *testing.T) {
	p, err := NewBell()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	sent := 0
	for {
		n, err := unix.Write(p[1], make([]byte, 4096))
		if err != nil {
			break
		}
		sent += n
	}
	Drain(p[0])
	left, _ := unix.IoctlGetInt(p[0], unix.SIOCINQ)
	if got := sent - left; got != drainBytes*drainCalls {
		t.Errorf("took %d bytes of %d, want %d", got, sent, drainBytes*drainCalls)
	}
}
