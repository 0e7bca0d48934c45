package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"o7s/applets"
)

var (
	long   = flag.Bool("long", false, "also run the tutorial with its own, long, waits, and hold ends to the times that are promised")
	update = flag.Bool("update", false, "rewrite the golden files that scripts compare with, never the tutorial's")
)

// TestMain makes this test binary the multitool, with three layer types more: the
// relay, which carries each packet through its own process, and the lossy one,
// on which not all arrives, nor in order, and the made-up one, whose options and
// abilities nothing else knows.
func TestMain(m *testing.M) {
	t := table(testTypes)
	commands := map[string]func(){"o7s": func() { os.Exit(applets.Main(os.Args, t)) }}
	for _, a := range t {
		commands[a.Name] = commands["o7s"]
	}
	commands["as"], commands["at"], commands["holds"], commands["old"] = as, at, holds, old
	commands["webserver"], commands["webclient"] = webserver, webclient
	commands["nameserver"] = nameserver
	commands["reader"], commands["writer"], commands["crowd"] = reader, writer, crowd
	// Scripts wait more than they work. -parallel counts where it is given.
	flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	testscript.Main(m, commands)
}

// as UID COMMAND... becomes COMMAND, run as that user and no other group.
func as() {
	uid, err := strconv.Atoi(os.Args[1])
	path := ""
	if err == nil {
		path, err = exec.LookPath(os.Args[2])
	}
	if err == nil {
		err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(uid), syscall.Setuid(uid))
	}
	if err == nil {
		err = syscall.Exec(path, os.Args[2:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "as:", err)
	os.Exit(1)
}
