package irmctl

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
)

var applet atomic.Pointer[string]

// SetApplet says that the program's first argument chose the applet name. The
// multitool's dispatch calls it, once, before the process uses a flow.
func SetApplet(name string) { applet.Store(&name) }

// ThisProgram returns what this process says of itself to the IRMd: the path
// by which it was invoked, the last symlink kept, so that the tools of a
// multitool are programs of their own.
func ThisProgram() AnnounceReq {
	var req AnnounceReq
	if a := applet.Load(); a != nil {
		req.Applet = *a
	}
	// LookPath finds argv[0] as the shell did; a forged or relative one that
	// it doesn't find is replaced by what the kernel knows.
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, _ = os.Executable()
	}
	req.Path = path
	return req
}
