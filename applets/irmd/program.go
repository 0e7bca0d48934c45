package irmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

const (
	maxLabel  = 64           // bytes of a program's word in the logs
	maxPath   = unix.PathMax // bytes of its path
	maxApplet = 255          // bytes of the word that chooses an applet
)

// program returns which program the process at the other end of a link runs: its
// path, and the word for it in the logs. What the process says counts only if it
// runs the file that it names; else the kernel's word does. It is for bindings and
// logs, no credential: of the applets of one executable a process can claim any.
func program(hs *helpers, p rpc.Peer, r *irmctl.AnnounceReq) (path, label string) {
	exe := fmt.Sprintf("/proc/%d/exe", p.PID)
	target, err := os.Readlink(exe)
	// A file that another was installed over has no name any more, but the
	// kernel knows which it had.
	target, replaced := strings.CutSuffix(target, " (deleted)")
	dev, ino, noRuns := identity(unix.AT_FDCWD, exe)
	says, noSays := hs.place(accountOf(p), r.Path)
	honest := noRuns == nil && noSays == nil && says.ino != 0 && len(says.canonical) <= maxPath &&
		(dev == says.dev && ino == says.ino || replaced && says.resolved == target) && p.Alive()
	path = says.canonical
	switch {
	case honest && r.Applet != "" && len(r.Applet) <= maxApplet && !strings.Contains(r.Applet, "/"):
		// "o7s oping" is the program that a symlink oping beside it is.
		path = filepath.Join(filepath.Dir(path), r.Applet)
	case !honest:
		if err != nil {
			return "", "unknown"
		}
		path = target
	}
	label = filepath.Base(path)
	return path, label[:min(len(label), maxLabel)]
}

// accountOf returns the user that the other end of a link is.
func accountOf(p rpc.Peer) account {
	return account{p.UID, append([]int{p.GID}, p.Groups...)}
}

// place returns where path leads. It asks a helper, which may take fileTime, only
// if the kernel has to do more than to look into its caches.
func (hs *helpers) place(who account, path string) (place, error) {
	if !filepath.IsAbs(path) {
		return place{}, fmt.Errorf("%w: %q is no absolute path of a program", core.ErrUsage, path)
	}
	p, err := place{}, errNotCached
	if e := as(who, func() { p, err = cachedPlace(path) }); e != nil {
		err = errNotCached
	}
	if errors.Is(err, errNotCached) {
		p, err = hs.find(who, path)
	}
	return p, err
}

// as calls f with the rights to files that the user who has. Where this process is root, they
// are those of one thread, which f must not leave.
func as(who account, f func()) error {
	if os.Geteuid() != 0 || who.uid == 0 {
		f()
		return nil
	}
	own, err := os.Getgroups()
	if err != nil || len(who.groups) == 0 {
		return core.ErrPermission
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := setRights(who.uid, who.groups[0], who.groups[1:])
		if err == nil {
			f()
		}
		if setRights(0, os.Getegid(), own) == nil {
			runtime.UnlockOSThread() // else the thread ends here
		}
		done <- err
	}()
	return <-done
}

// setRights sets the rights of this thread to files.
func setRights(uid, gid int, groups []int) error {
	list := make([]uint32, len(groups)+1) // one more: it has an address
	for n, g := range groups {
		list[n] = uint32(g)
	}
	// Of this thread: the function of package syscall sets those of all threads.
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0)
	if errno != 0 {
		return errno
	}
	for _, set := range []struct {
		id int
		to func(int) (int, error)
	}{{gid, unix.SetfsgidRetGid}, {uid, unix.SetfsuidRetUid}} {
		_, _ = set.to(set.id) // which says only what was before
		if now, err := set.to(-1); err != nil || now != set.id {
			return core.ErrPermission
		}
	}
	return nil
}

var errNotCached = errors.New("not in the caches of the kernel")

// cachedPlace is find, but waits for no file system: the error is errNotCached where
// that would be needed.
func cachedPlace(path string) (p place, err error) {
	dir, err := openCached(filepath.Dir(path))
	if err != nil {
		return p, err
	}
	defer unix.Close(dir)
	if p.canonical, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir)); err != nil {
		return p, err
	}
	p.canonical = filepath.Join(p.canonical, filepath.Base(path))
	file, err := openCached(path)
	if errors.Is(err, unix.ENOENT) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	defer unix.Close(file)
	if p.resolved, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file)); err != nil {
		return p, err
	}
	p.dev, p.ino, err = identity(file, "")
	return p, err
}

// resolveCached is RESOLVE_CACHED of openat2(2), of Linux 5.12.
const resolveCached = 0x20

// openCached returns a descriptor that names the file at path, without opening it.
func openCached(path string) (fd int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached}
	for range 4 { // a change elsewhere in the tree makes it fail now and then
		fd, err = unix.Openat2(unix.AT_FDCWD, path, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
		return 0, errNotCached // the last three: an old kernel, or a filter of system calls
	case errors.Is(err, unix.EACCES):
		return 0, errNotCached // a file system of the user's may be for none but that user's processes
	}
	return fd, err
}

// absent reports whether the caches of the kernel say that there is no file at path,
// nor a symlink on the way. It is asked several times for each flow to another system:
// it waits for nothing, and the scheduler is not told of it, which would wake its
// monitor thread.
func absent(path string) bool {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolveCached | unix.RESOLVE_NO_SYMLINKS}
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return false
	}
	here := unix.AT_FDCWD
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT2, uintptr(here), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
	if errno == 0 {
		unix.Close(int(fd))
	}
	return errno == unix.ENOENT
}

// identity returns which file fd, or path, is, as the kernel knows it: it asks no
// file system for news.
func identity(fd int, path string) (dev, ino uint64, err error) {
	var st unix.Statx_t
	flags := unix.AT_STATX_DONT_SYNC
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(fd, path, flags, unix.STATX_INO, &st); err != nil {
		return 0, 0, err
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, nil
}

// canonical returns path without symlinks in its directory; the last one, which
// makes an applet of the multitool a program, stays. It is for paths of irmd's own
// user, as in a config.
func canonical(path string) string {
	if p := find(path); p.canonical != "" {
		return p.canonical
	}
	return path
}
