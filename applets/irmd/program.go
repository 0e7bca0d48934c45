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

// label returns the word for a process's program in the logs. What the process
// says counts only if it runs the file that it names; else the kernel's word
// does. It is a label, no credential: of the applets of one executable a
// process can claim any.
func label(p rpc.Peer, r *irmctl.AnnounceReq) string {
	exe := fmt.Sprintf("/proc/%d/exe", p.PID)
	var runs, says unix.Stat_t
	honest := unix.Stat(exe, &runs) == nil && unix.Stat(r.Path, &says) == nil &&
		runs.Dev == says.Dev && runs.Ino == says.Ino && alive(p)
	name := filepath.Base(r.Path)
	switch {
	case honest && r.Applet != "":
		name = r.Applet
	case !honest:
		path, err := os.Readlink(exe)
		if err != nil {
			return "unknown"
		}
		name = strings.TrimSuffix(filepath.Base(path), " (deleted)")
	}
	return name[:min(len(name), maxLabel)]
}

// alive reports whether the process is still the one that connected, and not
// another that has its number since.
func alive(p rpc.Peer) bool {
	return p.PIDFD == 0 || unix.PidfdSendSignal(p.PIDFD, 0, nil, 0) == nil
}
