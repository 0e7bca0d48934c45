package rpc

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that runs out of descriptors loses those of one message, not its
// link.
func TestNoFreeDescriptors(t *testing.T) {
	if err := child(t, "no descriptors", nil, nil).Wait(); err != nil {
		t.Error(err)
	}
}

func childNoDescriptors() error {
	m := NewMux()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	Handle(m, open, func(c *Call[Empty], _ *Empty) { _ = c.Reply(nil, null, null) })
	s, c, err := ends(m)
	if err != nil {
		return err
	}
	defer s.Close()
	defer c.Close()
	var t testing.T
	ctx := background(&t)
	for _, free := range []int{2, 0, 1, 2} {
		// Take all descriptors but so many.
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return err
		}
		top, err := unix.Dup(null)
		if err != nil {
			return err
		}
		unix.Close(top)
		was := lim.Cur
		lim.Cur = uint64(top + free) // top is the lowest that is free
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return err
		}
		r, err := Do(ctx, c, open, &Empty{}, nil)
		if err != nil {
			return fmt.Errorf("%d free: %w", free, err)
		}
		fds := r.TakeFiles()
		closeAll(fds)
		if want := free / 2 * 2; len(fds) != want {
			return fmt.Errorf("%d free: %d descriptors came, want %d", free, len(fds), want)
		}
		lim.Cur = was
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return err
		}
	}
	return nil
}
