package irmd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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

// home is this irmd's runtime directory: its lock and its socket. Both files
// are known by their inodes, which no other file gets while they are open. So
// an irmd removes nothing that is another's, and notices that its own has gone.
type home struct {
	dir  string
	lock *os.File
	ln   *net.UnixListener
	own  map[string]inode // by path: the lock and, while ln is open, the socket
}

// inode is a file, whatever its name.
type inode struct{ dev, ino uint64 }

// inodeAt returns the inode that has the name path; none where there is no such
// file.
func inodeAt(path string) (i inode) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil {
		i = inode{st.Dev, st.Ino}
	}
	return i
}

// takeHome makes the runtime directory dir this irmd's, until its release or
// its death. The error is alreadyRunning where it is another irmd's.
func takeHome(dir string) (*home, error) {
	h := &home{dir: dir, own: make(map[string]inode)}
	err := h.takeLock()
	if _, running := errors.AsType[alreadyRunning](err); err != nil && !running {
		err = fmt.Errorf("%w; O7S_RUNTIME_DIR chooses another", err)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// runningIn returns the error alreadyRunning where an irmd has one of dirs.
func runningIn(dirs []string) error {
	for _, dir := range dirs {
		f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && int(st.Uid) == os.Geteuid() {
			if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK) {
				err = holder(f)
			}
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// holder returns the error that names the process which has locked f.
func holder(f *os.File) error {
	var pid [20]byte
	n, _ := f.ReadAt(pid[:], 0)
	return alreadyRunning(strings.TrimSpace(string(pid[:n])))
}

// takeLock makes the directory and locks it. At the death of a process the
// kernel unlocks, so nothing stale can block a start. No irmd removes the file:
// of two irmds each could then lock one. If somebody else removes it while it
// is being locked, takeLock locks the next one.
func (h *home) takeLock() error {
	path := filepath.Join(h.dir, lockFile)
	for {
		if err := irmctl.MakeDir(h.dir); err != nil {
			return err
		}
		// For this user alone: a user who may open a file to read may lock it.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			err = f.Chmod(0o600) // an irmd of before may have made it
		}
		if err != nil {
			return fmt.Errorf("lock the runtime directory: %w", err)
		}
		if err := lockedBy(f); err != nil {
			f.Close()
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			f.Close()
			return fmt.Errorf("lock the runtime directory: %w", err)
		}
		if now := (inode{st.Dev, st.Ino}); now == inodeAt(path) {
			if h.lock != nil {
				h.lock.Close()
			}
			h.lock, h.own[path] = f, now
			return nil
		}
		f.Close()
	}
}

// lockedBy locks f and writes this process's pid to it.
func lockedBy(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return holder(f)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return fmt.Errorf("lock the runtime directory: %w", err)
	}
	return nil
}

// listen makes the socket, in place of one that is stale: the lock is held. A
// listener of before is the caller's to close.
func (h *home) listen() error {
	mode := os.FileMode(0o600)
	if os.Geteuid() == 0 {
		mode = 0o666
	}
	path := filepath.Join(h.dir, irmctl.Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listen in %s: %w", h.dir, err)
	}
	ln, err := rpc.Listen(h.dir, irmctl.Socket, mode)
	if err != nil {
		return fmt.Errorf("listen in %s: %w", h.dir, err)
	}
	_ = rpc.RefuseFiles(ln) // else each link refuses what may come
	h.ln, h.own[path] = ln, inodeAt(path)
	return nil
}

// whole reports whether the lock and the socket have their names still.
func (h *home) whole() bool {
	for path, i := range h.own {
		if inodeAt(path) != i {
			return false
		}
	}
	return true
}

// locked reports whether the lock has its name still.
func (h *home) locked() bool {
	path := filepath.Join(h.dir, lockFile)
	return inodeAt(path) == h.own[path]
}

// close closes the listener and removes its socket, unless that is another's.
func (h *home) close() {
	path := filepath.Join(h.dir, irmctl.Socket)
	if own, ok := h.own[path]; ok && inodeAt(path) == own {
		os.Remove(path)
	}
	delete(h.own, path)
	if h.ln != nil {
		h.ln.Close()
	}
}

// release ends the lock.
func (h *home) release() { h.lock.Close() }
