package irm

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var simFaults = flag.Bool("sim.faults", false, "plant all faults, not only the first")

// simPlanted is faults, each a small change of the source of one file below
// package core, which the simulation has to find.
var simPlanted = []struct{ name, file, old, new string }{
	{"credit is lost with a flow that never arrives", "irm/arrive.go",
		"\t\tl.Credit++\n", ""},
	{"an id is never free again", "registry/flow.go",
		"\tr.ids.Release(int(f.ID))\n", ""},
	{"an end of memory stays open", "irm/dealloc.go",
		"\t\t\tend.Close()\n", "\t\t\t_ = end\n"},
	{"an allocation is answered twice", "irm/flow.go",
		"\ta.done = nil\n", ""},
	{"a time-out comes too late", "irm/flow.go",
		"time.AfterFunc(timeout, ", "time.AfterFunc(3*timeout, "},
	{"a name stays bound to a process that has gone", "registry/process.go",
		"\t\tr.drop(n, p)\n", "\t\t_ = n\n"},
	{"a flow still waits when a process accepts again", "irm/process.go",
		"\tm.rematch(l) // which may be bound to another name since\n", ""},
	{"anybody binds anybody's process", "irm/irm.go",
		"\tif p.UID != c.UID {\n", "\tif p.UID == -1 {\n"},
	{"a process does not hear that its flow is down", "irm/arrive.go",
		"\tf.User.User.FlowDown(f.ID, core.ErrFlowDown)\n", ""},
	{"an id stays pinned", "irm/dealloc.go",
		"\t\tm.reg.Unpin(f)\n", ""},
	{"the server's end stays when the client has given up", "irm/arrive.go",
		"\t\tm.takeBack(server, core.ErrFlowDown)\n", "\t\tm.credit(server)\n"},
	{"calls about one name cross", "irm/naming.go",
		"\tdefault:\n", "\tdefault:\n\t\treturn leave, nil\n"},
	{"an instance is counted when it has ended", "irm/program.go",
		"\tp.Running--\n\tfailed", "\tfailed"},
	{"an instance is not bound under another path", "registry/program.go",
		"\t\tr.tie(p.Name, q).started = p\n", ""},
	{"anybody unbinds root's programs", "irm/program.go",
		"\t\t\tif p.UID == c.UID || m.mayAdmin(c) == nil {", "\t\t\tif p.UID <= c.UID {"},
	{"anybody registers names by listening", "irm/process.go",
		"if err := m.RegisterName(ctx, c, name, layers, nil); err != nil {", "if err := m.RegisterName(ctx, Caller{}, name, layers, nil); err != nil {"},
	{"IPCPs outlive the IRM", "irm/irm.go",
		"\t\twg.Go(c.Stop)\n", "\t\t_ = c\n"},
	{"instances outlive the IRM", "irm/irm.go",
		"\t\twg.Go(i.Stop)\n", "\t\t_ = i\n"},
}

var simFound = regexp.MustCompile(`seed \d+, step \d+: .*`)

// TestSimulationFindsFaults plants each fault in a copy of the source and
// demands that the seeds of the short form find it.
func TestSimulationFindsFaults(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil || testing.Short() {
		t.Skip("needs the go tool and some seconds")
	}
	dir := t.TempDir()
	for n, p := range simPlanted {
		t.Run(p.name, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("..", p.file))
			if err != nil {
				t.Fatal(err)
			}
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if c := strings.Count(string(src), p.old); c < 1 {
				t.Fatalf("%s has changed: it does not say %q", p.file, p.old)
			}
			if n > 0 && !*simFaults {
				return
			}
			bad, overlay, bin := filepath.Join(dir, "bad.go"), filepath.Join(dir, "overlay"), filepath.Join(dir, "irm.test")
			write(t, bad, []byte(strings.Replace(string(src), p.old, p.new, 1)))
			list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: bad}})
			if err != nil {
				t.Fatal(err)
			}
			write(t, overlay, list)
			if out, err := exec.Command(goTool, "test", "-vet=off", "-c", "-overlay", overlay, "-o", bin, ".").CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			out, err := exec.Command(bin, "-test.run", "TestSimulation$", "-test.v", "-test.timeout", "2m").CombinedOutput()
			found := simFound.FindString(string(out))
			if err == nil || found == "" {
				t.Fatalf("not found: %v\n%s", err, out)
			}
			t.Log(found)
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
