package irmctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// systemDir is the runtime directory of root's IRMd.
const systemDir = "/run/o7s"

// RuntimeDir returns where an IRMd of this user keeps its socket:
// $O7S_RUNTIME_DIR, else /run/o7s for root, else $XDG_RUNTIME_DIR/o7s, else a
// directory named for the uid under the temporary directory. The path is
// absolute and clean: it means the same in every working directory.
func RuntimeDir() string { return dirsOf(os.Geteuid(), os.Getenv)[0] }

// OtherDirs returns where else an IRMd of this user may be: one that was
// started in another environment, as by cron or su. It is empty where
// $O7S_RUNTIME_DIR is set.
func OtherDirs() []string { return dirsOf(os.Geteuid(), os.Getenv)[1:] }

func dirsOf(uid int, env func(string) string) []string {
	if dir := env("O7S_RUNTIME_DIR"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return []string{abs}
		}
		return []string{filepath.Clean(dir)} // the working directory is gone
	}
	if uid == 0 {
		return []string{systemDir}
	}
	id := strconv.Itoa(uid)
	var dirs []string
	for _, d := range []struct{ parent, name string }{
		{env("XDG_RUNTIME_DIR"), "o7s"}, {env("TMPDIR"), "o7s-" + id}, {"/tmp", "o7s-" + id}, {"/run/user/" + id, "o7s"},
	} {
		// The XDG specification says that a relative path counts for nothing.
		if dir := filepath.Join(d.parent, d.name); filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// MakeDir makes the runtime directory dir, and what is missing above it: root's
// for all to enter, a user's for that user alone, whatever the umask. A
// directory that exists must be this user's, and no other may write to it.
// MakeDir follows no symbolic link at dir. An IRMd calls it.
func MakeDir(dir string) error {
	if err := makeDir(dir); err != nil {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	f, err := openDir(dir)
	if err != nil {
		return fmt.Errorf("the runtime directory %w", err)
	}
	defer f.Close()
	st, err := status(f)
	switch {
	case err != nil:
		return fmt.Errorf("the runtime directory: %w", err)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("the runtime directory %s belongs to uid %d: it is not yours", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("the runtime directory %s may be written to by others: chmod go-w it", dir)
	}
	return nil
}

// makeDir makes dir, unless something is there.
func makeDir(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	err := os.Mkdir(dir, mode)
	if parent := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
		err = os.Mkdir(dir, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// What the umask took away. Through the open directory: by its name it may
	// be another by now.
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chmod(mode)
}

// openDir opens the directory dir, which must be no symbolic link.
func openDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	if to, e := os.Readlink(dir); e == nil {
		return nil, fmt.Errorf("%s is a symbolic link: set O7S_RUNTIME_DIR to what it leads to, %s", dir, to)
	}
	return nil, fmt.Errorf("%s: %w", dir, err)
}

func status(f *os.File) (st unix.Stat_t, err error) {
	return st, unix.Fstat(int(f.Fd()), &st)
}

// checkSocket reports why the socket of the runtime directory dir is not to be
// connected to. It looks before anything is waited for: the socket of another
// user might never answer. Root and this user are trusted.
func checkSocket(dir string) error {
	var st unix.Stat_t
	for _, path := range []string{dir, filepath.Join(dir, Socket)} {
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "stat", Path: path, Err: err}
		}
		kind := st.Mode & unix.S_IFMT
		if path == dir && kind == unix.S_IFLNK {
			_, err := openDir(dir)
			return fmt.Errorf("%w: the runtime directory %w", core.ErrPermission, err)
		}
		if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return fmt.Errorf("%w: %s belongs to uid %d, which is neither root nor you", core.ErrPermission, path, st.Uid)
		}
		if path != dir && kind != unix.S_IFSOCK {
			return fmt.Errorf("%w: %s is no socket", core.ErrUsage, path)
		}
	}
	return nil
}

// noIRMd is core.ErrIRMd in other words.
type noIRMd string

func (e noIRMd) Error() string { return string(e) }
func (e noIRMd) Unwrap() error { return core.ErrIRMd }

// explainDial says what to do about err, of a try to connect to the socket of
// the runtime directory dir.
func explainDial(dir string, err error) error {
	socket := filepath.Join(dir, Socket)
	switch {
	case errors.Is(err, core.ErrPermission), errors.Is(err, core.ErrUsage):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s is not for you to enter: its IRMd serves its own user alone", core.ErrPermission, dir)
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: the runtime directory %s: not a directory; O7S_RUNTIME_DIR chooses another", core.ErrUsage, dir)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return noIRMd(fmt.Sprintf("no connection to the IRMd on %s: there is no file descriptor left (%v); \"ulimit -n\" shows the limit", socket, err))
	}
	return fmt.Errorf("%w on %s: start one with \"irmd\" (%v)", core.ErrIRMd, socket, err)
}
