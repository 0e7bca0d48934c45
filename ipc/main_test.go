package ipc_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"o7s/applets"
	"o7s/applets/ipcpd"
	"o7s/applets/irmd"
	"o7s/applets/oping"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest/relay"
	"o7s/core/ipcp/local"
	"o7s/core/ipcp/udp"
	"o7s/ipc"
	"o7s/ipc/internal/testkit"
)

// types are the layer types that the suite runs over: one that joins the two
// ends of a flow, one that carries each packet itself.
var types = []ipcp.Type{local.Type, relay.Type}

// allTypes are those that an IRMd of this suite knows: those of types, and the layer
// over UDP, of which a member needs an address.
var allTypes = append(slices.Clone(types), udp.V4)

// TestMain makes this binary what its name says: irmd, an IPCP, or a process
// of a test (see roles); else it runs the tests, and looks what they leave.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if role := roles[name]; role != nil {
		os.Exit(runRole(role))
	}
	table := []applets.Applet{irmd.Applet(allTypes), oping.Applet()}
	for _, typ := range allTypes {
		table = append(table, ipcpd.Applet(typ))
	}
	for i, a := range table {
		if a.Name == name {
			// A program's own Stdout never holds it up. These tests hold a
			// process at a line of its log, so they give it one that does.
			table[i].Run = func(ctx context.Context, env *applets.Env) error {
				env.Stdout = os.Stdout
				return a.Run(ctx, env)
			}
			os.Exit(applets.Main(os.Args, table))
		}
	}

	// The examples, and what is tested of Dial and Listen themselves, have an
	// IRMd to which this process is a process like any other.
	before := held()
	p, err := startSystem()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("O7S_RUNTIME_DIR", p.dir)
	// Many of these tests wait. -parallel counts where it is given.
	flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	status := m.Run()
	ipc.ProcessNode().Close()
	if err := p.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	if left := leftSince(before); left != "" && status == 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the tests leave behind\n%s", left)
		status = 1
	}
	os.Exit(status)
}

// holding is what this process holds: descriptors that flows and links may
// have, mappings of flows, goroutines of this project.
type holding struct {
	files, maps int
	goroutines  []string
}

func held() holding {
	h := holding{maps: testkit.FlowMaps(), goroutines: testkit.Goroutines("o7s/", "main_test.go", "process_test.go")}
	for _, what := range testkit.Files() {
		if strings.HasPrefix(what, "socket:") || strings.HasPrefix(what, "/memfd:") || what == "anon_inode:[pidfd]" {
			h.files++
		}
	}
	return h
}

// leftSince waits until this process holds no more than before, and returns
// what it holds all the same.
func leftSince(before holding) string {
	var h holding
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		// A goroutine's last act is to say that it ends.
		h = held()
		if h.files <= before.files && h.maps <= before.maps && len(h.goroutines) <= len(before.goroutines) {
			return ""
		}
		debug.FreeOSMemory()
	}
	return fmt.Sprintf("%d sockets, memories and pidfds (%d before), %d mappings (%d before), %d goroutines (%d before):\n%s\n",
		h.files, before.files, h.maps, before.maps, len(h.goroutines), len(before.goroutines), strings.Join(h.goroutines, "\n\n"))
}
