package irmd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

const lockFile = "irmd.lock"

// alreadyRunning is the error of a second irmd: the pid of the first.
type alreadyRunning string

func (p alreadyRunning) Error() string {
	return fmt.Sprintf("IRMd already running (%s), exiting.", string(p))
}

// lock makes the runtime directory this irmd's, until unlock or its death. The
// kernel lets go of the lock, so nothing stale can block a start; the file
// itself is never removed, since two irmds could then each lock one.
func lock(dir string) (unlock func(), err error) {
	unlock, err = take(dir)
	if _, running := errors.AsType[alreadyRunning](err); err != nil && !running {
		return nil, fmt.Errorf("%w; O7S_RUNTIME_DIR chooses another", err)
	}
	return unlock, err
}

func take(dir string) (unlock func(), err error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the runtime directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			var pid [20]byte
			n, _ := f.ReadAt(pid[:], 0)
			return nil, alreadyRunning(strings.TrimSpace(string(pid[:n])))
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the runtime directory: %w", err)
	}
	return func() { f.Close() }, nil
}

// makeDir makes the runtime directory: root's for all to enter, a user's for
// that user alone. One that is there must not be another user's.
func makeDir(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	err := os.Mkdir(dir, mode)
	if err == nil {
		return os.Chmod(dir, mode) // whatever the umask
	}
	if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the runtime directory %s is not yours", dir)
	}
	return nil
}

// listen makes the socket, in place of a stale one: the lock is held.
func listen(dir string) (*net.UnixListener, error) {
	mode := os.FileMode(0o600)
	if os.Geteuid() == 0 {
		mode = 0o666
	}
	if err := os.Remove(filepath.Join(dir, irmctl.Socket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	ln, err := rpc.Listen(dir, irmctl.Socket, mode)
	if err == nil {
		_ = rpc.RefuseFiles(ln) // else each link heeds what may come
	}
	return ln, err
}
