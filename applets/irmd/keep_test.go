package irmd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"o7s/core/logs"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// keeping is a home with its keeper.
type keeping struct {
	*home
	again chan *net.UnixListener // each listener made again
	ended chan error
	stop  context.CancelFunc
}

func keepHome(t *testing.T, dir string) *keeping {
	t.Helper()
	h, err := takeHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	k := &keeping{h, make(chan *net.UnixListener, 10), make(chan error, 1), stop}
	go func() {
		k.ended <- h.keep(ctx, logs.Discard(), func(ln *net.UnixListener) { k.again <- ln })
	}()
	return k
}

// end ends the keeper, and the home.
func (k *keeping) end() error {
	k.stop()
	err := <-k.ended
	k.close()
	k.release()
	return err
}

// Whoever may open a file may lock it: so no other user can open that of irmd.
func TestLockIsForItsUserAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, lockFile)
	for _, before := range []string{"none", "of an older irmd"} {
		h, err := takeHome(dir)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s before: the lock has the mode %v, %v", before, st.Mode(), err)
		}
		h.release()
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func reachable(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := rpc.Dial(ctx, dir, irmctl.Socket)
	if err == nil {
		c.Close()
	}
	return err
}

// What is removed is made again, and the irmd is reachable.
func TestWhatIsRemovedIsMadeAgain(t *testing.T) {
	tests := map[string]func(dir string) error{
		"the socket":    func(dir string) error { return os.Remove(filepath.Join(dir, irmctl.Socket)) },
		"the lock":      func(dir string) error { return os.Remove(filepath.Join(dir, lockFile)) },
		"the directory": os.RemoveAll,
		"its parent":    func(dir string) error { return os.RemoveAll(filepath.Dir(dir)) },
		"moved away":    func(dir string) error { return os.Rename(dir, dir+".old") },
		"another socket": func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, "x"), filepath.Join(dir, irmctl.Socket))
		},
	}
	for name, remove := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "a", "o7s")
			k := keepHome(t, dir)
			for range 2 {
				if err := remove(dir); err != nil {
					t.Fatal(err)
				}
				select {
				case <-k.again:
				case err := <-k.ended:
					t.Fatalf("it ended: %v", err)
				case <-time.After(30 * time.Second):
					t.Fatal("nothing is made again")
				}
				if err := reachable(dir); err != nil {
					t.Error(err)
				}
				if _, err := takeHome(dir); err == nil {
					t.Error("another irmd can take the directory")
				}
				os.RemoveAll(dir + ".old")
			}
			if err := k.end(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(filepath.Join(dir, irmctl.Socket)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket stays: %v", err)
			}
		})
	}
}

// An irmd whose directory another one has taken ends, and removes nothing of
// the other's.
func TestAnotherTakesTheDirectory(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"the directory": os.RemoveAll,
		"the lock":      func(dir string) error { return os.Remove(filepath.Join(dir, lockFile)) },
	} {
		for _, first := range []bool{true, false} { // whether A notices before its end
			dir := filepath.Join(t.TempDir(), "o7s")
			a := keepHome(t, dir)
			if !first {
				a.stop()
				a.ended <- <-a.ended
			}
			if err := remove(dir); err != nil {
				t.Fatal(err)
			}
			b := keepHome(t, dir)
			if first {
				err := <-a.ended
				if _, ok := errors.AsType[alreadyRunning](err); !ok {
					t.Errorf("%s: the first one ended with %v", name, err)
				}
				a.ended <- nil
			}
			if err := a.end(); err != nil {
				t.Error(err)
			}
			if err := reachable(dir); err != nil {
				t.Errorf("%s: the second one can't be reached: %v", name, err)
			}
			if err := b.end(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A directory that can't be made yet, as before the next login, is made when it
// can be.
func TestDirectoryThatComesLater(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "user")
	dir := filepath.Join(parent, "o7s")
	k := keepHome(t, dir)
	if err := os.Rename(parent, parent+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(parent, nil, 0o600); err != nil { // no directory can be made
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(parent+".old", "o7s")); err != nil { // what the keeper hears of
		t.Fatal(err)
	}
	select {
	case <-k.again:
		t.Fatal("it made what can't be made")
	case <-time.After(2 * settleTime):
	}
	if err := os.Remove(parent); err != nil {
		t.Fatal(err)
	}
	<-k.again
	if err := reachable(dir); err != nil {
		t.Error(err)
	}
	if err := k.end(); err != nil {
		t.Error(err)
	}
}

// An irmd that was started in another environment is found by the next one.
func TestRunningElsewhere(t *testing.T) {
	base := t.TempDir()
	dirs := []string{filepath.Join(base, "none"), filepath.Join(base, "a"), filepath.Join(base, "b")}
	h, err := takeHome(dirs[2])
	if err != nil {
		t.Fatal(err)
	}
	stale, err := takeHome(dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	stale.release()
	if err := runningIn(dirs); err != alreadyRunning(strconv.Itoa(os.Getpid())) {
		t.Errorf("it says %v", err)
	}
	h.release()
	if err := runningIn(dirs); err != nil {
		t.Errorf("after its end it says %v", err)
	}
}
