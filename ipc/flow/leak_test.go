package flow

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/internal/testkit"
)

// held counts what this process holds: descriptors, mappings of flows,
// goroutines.
func held() [3]int {
	return [3]int{len(testkit.Files()), testkit.FlowMaps(), runtime.NumGoroutine()}
}

// leaked waits until no more is held than before, and reports what is where that
// never comes. It may be less: a goroutine of an earlier test may have been on
// its way out.
func leaked(t testing.TB, before [3]int) (after [3]int, more bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		after = held()
		more = after[0] > before[0] || after[1] > before[1] || after[2] > before[2]
		if !more || time.Now().After(end) {
			return after, more
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	a, _ := pair(t, MinRing) // the poller's own descriptors come with the first flow
	a.SetReadDeadline(time.Now().Add(time.Millisecond))
	a.Read(make([]byte, 1))
	before := held()
	for name, f := range map[string]func(a, b *End){
		"never used": func(a, b *End) {},
		"used":       func(a, b *End) { a.Write([]byte("x")); b.Read(make([]byte, 1)) },
		"slept": func(a, b *End) {
			for _, e := range []*End{a, b} {
				fill(t, e)
				e.SetDeadline(time.Now().Add(time.Millisecond))
				e.Write(make([]byte, 5000))
			}
		},
		"failed": func(a, b *End) { a.Fail(nil); b.Fail(core.ErrIRMd) },
		"lent": func(a, b *End) {
			a.Reserve(10)
			a.Close()
			a.Commit(10)
		},
		"poisoned": func(a, b *End) { a.corrupt(core.ErrCorrupt) },
	} {
		a, b, err := openPair(MinRing)
		if err != nil {
			t.Fatal(err)
		}
		f(a, b)
		a.Close()
		b.Close()
		if after, more := leaked(t, before); more {
			t.Errorf("%s: descriptors, mappings, goroutines before %v, after %v", name, before, after)
		}
	}
}

func TestOpenTakesBothDescriptorsAlsoOnError(t *testing.T) {
	before := held()
	for name, f := range map[string]func(k *Kit) (int, int, int, int){
		"side 2":       func(k *Kit) (int, int, int, int) { return 2, k.Mem, k.Bell[0], k.Ring },
		"odd size":     func(k *Kit) (int, int, int, int) { return 0, k.Mem, k.Bell[0], k.Ring + 1 },
		"another size": func(k *Kit) (int, int, int, int) { return 0, k.Mem, k.Bell[0], 2 * k.Ring },
		"no bell":      func(k *Kit) (int, int, int, int) { return 0, k.Mem, dev(t), k.Ring },
		"no memory":    func(k *Kit) (int, int, int, int) { return 0, dev(t), k.Bell[0], k.Ring },
		"nothing":      func(k *Kit) (int, int, int, int) { return 0, -1, -1, k.Ring },
	} {
		k, err := NewKit(MinRing)
		if err != nil {
			t.Fatal(err)
		}
		side, mem, bell, size := f(k)
		if e, err := Open(side, mem, bell, size); e != nil || !errors.Is(err, core.ErrUsage) {
			t.Errorf("%s: error %v", name, err)
		}
		if mem == k.Mem {
			k.Mem = -1
		}
		if bell == k.Bell[0] {
			k.Bell[0] = -1
		}
		k.Close()
		k.Close()
		if after, more := leaked(t, before); more {
			t.Errorf("%s: descriptors, mappings, goroutines before %v, after %v", name, before, after)
		}
	}
}

func dev(t testing.TB) int {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestKitRefusesWrongSizes(t *testing.T) {
	most := MaxRing // a variable, as twice the constant is no int of 32 bits
	for _, n := range []int{0, -4096, MinRing / 2, MinRing + 1, 3 << 20, 2 * most} {
		if k, err := NewKit(n); k != nil || !errors.Is(err, core.ErrUsage) {
			t.Errorf("NewKit(%d): %v", n, err)
		}
	}
}

func TestKitSaysWhenDescriptorsRunOut(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	before := held()
	// Room for the memory, but not for the bell.
	fd := dev(t)
	unix.Close(fd)
	for _, more := range []uint64{0, 1, 2} {
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(fd) + more, Max: old.Max})
		_, err := NewKit(MinRing)
		unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
		wantErr(t, "NewKit", err, core.ErrLimit)
	}
	if after, more := leaked(t, before); more {
		t.Errorf("descriptors, mappings, goroutines before %v, after %v", before, after)
	}
}

// metered returns both ends of a flow, and how many bytes of shared memory it
// takes at the moment.
func metered(t *testing.T) (a, b *End, taken func() int64) {
	t.Helper()
	k, err := NewKit(DefaultRing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	if a, err = k.Open(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err = k.Open(1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a, b, func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(k.Mem, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
}

// An idle flow takes one page of shared memory, a used one what its packets
// need, and not all of its 8 MiB.
func TestMemoryIsTakenAsItIsUsed(t *testing.T) {
	a, b, taken := metered(t)
	a.SetReadDeadline(time.Now().Add(time.Millisecond))
	a.Read(make([]byte, 1))
	if n := taken(); n != 4096 {
		t.Errorf("idle: %d bytes", n)
	}
	buf := make([]byte, 1500)
	for range 20000 { // 30 MB, one by one
		a.Write(buf)
		b.Read(buf)
		b.r.ring.Publish() // as a Read that waits does
	}
	if n := taken(); n > 600<<10 {
		t.Errorf("one packet under way at a time: %d bytes", n)
	}
}
