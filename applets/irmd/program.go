package irmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// maxLabel bounds a program's word in the logs.
const maxLabel = 64

// program returns which program a process runs: its path, and the word for it
// in the logs. What the process says counts only if it runs the file that it
// names; else the kernel's word does. It is for bindings and logs, no
// credential: of the applets of one executable a process can claim any.
func program(p rpc.Peer, r *irmctl.AnnounceReq) (path, label string) {
	exe := fmt.Sprintf("/proc/%d/exe", p.PID)
	var runs, says unix.Stat_t
	target, err := os.Readlink(exe)
	// A file that another was installed over has no name any more, but the
	// kernel knows which it had.
	target, replaced := strings.CutSuffix(target, " (deleted)")
	honest := unix.Stat(exe, &runs) == nil && unix.Stat(r.Path, &says) == nil &&
		(runs.Dev == says.Dev && runs.Ino == says.Ino || replaced && resolved(r.Path) == target) && p.Alive()
	path = canonical(r.Path)
	switch {
	case honest && r.Applet != "" && !strings.Contains(r.Applet, "/"):
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

// resolved returns path without any symlink, "" where it leads nowhere.
func resolved(path string) string {
	path, _ = filepath.EvalSymlinks(path)
	return path
}

// canonical returns path without symlinks in its directory; the last one, which
// makes an applet of the multitool a program, stays.
func canonical(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); path != "" && err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}
