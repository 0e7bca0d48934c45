package irm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"o7s/applets"
	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
)

// root is irm with the local type alone.
var root = newRoot([]ipcp.Type{local.Type})

// irm runs args against f and returns what is printed.
func irm(f *fakeIRMd, args ...string) (string, error) { return irmOf(root, f, args...) }

func irmOf(root *command, f *fakeIRMd, args ...string) (string, error) {
	var out bytes.Buffer
	err := run(context.Background(), newScreen(&out), root, args, f.dial)
	return out.String(), err
}

func mustFind(program string) string {
	path, err := findProgram(program)
	if err != nil {
		panic(err)
	}
	return path
}

// TestAsks has, for each command line, what the IRMd is asked.
func TestAsks(t *testing.T) {
	tests := []struct{ line, ask string }{
		// Tutorial 01.
		{"ipcp bootstrap type local name local-ipcp layer local-layer", `bootstrap "local-ipcp" "local" "local-layer"`},
		{"bind process 6810 name oping-server", `bind 6810 "oping-server"`},
		{"name register oping-server layer local-layer", `register "oping-server" ["local-layer"] []`},

		// Abbreviations.
		{"i b t local n x l y", `bootstrap "x" "local" "y"`},
		{"i b t loc n x l y", `bootstrap "x" "loc" "y"`},
		{"i c t local n x", `create ipcp "x" "local"`},
		{"i d n x", `destroy ipcp "x"`},
		{"ipcp destroy x", `destroy ipcp "x"`},
		{"i l", `ipcps`},
		{"b p /bin/true n x", `bind program "/bin/true" "" "x" auto=false []`},
		{"b p /bin/true n x a", `bind program "/bin/true" "" "x" auto=true []`},
		{"i b n x* l y", `bootstrap "x*" "" "y"`},
		{"bind program true name x auto -- --listen -- y", `bind program "` + mustFind("true") + `" "" "x" auto=true ["--listen" "--" "y"]`},
		{"b i i name x", `bind program "" "i" "x" auto=false []`},
		{"u prog /bin/true", `unbind program "/bin/true" "" ""`},
		{"unbind program /nowhere/x name y", `unbind program "/nowhere/x" "" "y"`},
		{"unbind ipcp i", `unbind program "" "i" ""`},
		{"b proc 1 n x", `bind 1 "x"`},
		{"b proc 1 na x", `bind 1 "x"`},
		{"u proc 1 n x", `unbind 1 "x"`},
		{"n c x", `create name "x" ""`},
		{"n d x", `destroy name "x"`},
		{"n r x l y", `register "x" ["y"] []`},
		{"n u x l y", `unregister "x" ["y"] []`},
		{"n l", `names`},

		// Values and the order of keywords.
		{"ipcp bootstrap hash SHA3_512 layer y name x", `bootstrap "x" "" "y" "SHA3_512"`},
		{"ipcp create name type type name", `create ipcp "type" "name"`},
		{"ipcp create name --help type -h", `create ipcp "--help" "-h"`},
		{"unbind process 42", `unbind 42 ""`},
		{"name create x lb spill", `create name "x" "spill"`},
		{"name create x lb spillover", `create name "x" "spillover"`},
		{"name create x lb round-robin", `create name "x" "round-robin"`},
		{"name create help", `create name "help" ""`},
		{"name create -n", `create name "-n" ""`},
		{"name create -- --help", `create name "--help" ""`},
		{"name create -- --", `create name "--" ""`},
		{"name register x layer a ipcp i layer b* ipcp j", `register "x" ["a" "b*"] ["i" "j"]`},
		{"name unregister x ipcp *", `unregister "x" [] ["*"]`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			f := &fakeIRMd{}
			if _, err := irm(f, strings.Fields(tt.line)...); err != nil {
				t.Fatal(err)
			}
			if want := []string{"dial", tt.ask, "close"}; !slices.Equal(f.asked, want) {
				t.Errorf("asked %q, want %q", f.asked, want)
			}
		})
	}
}

// TestUsage has command lines that are wrong, by what irm says of them. It
// asks no IRMd then.
func TestUsage(t *testing.T) {
	long := strings.Repeat("x", core.MaxName+1)
	tests := []struct{ line, err string }{
		{"", `a command is missing: it is ipcp, bind, unbind, name, status, flow, process, watch, top, graph, config, log or help: try "irm --help"`},
		{"ipcp", `ipcp: a command is missing: it is create, destroy, bootstrap, list, show or help: try "irm ipcp --help"`},
		{"''", `unknown command "": it is ipcp, bind, unbind, name, status, flow, process, watch, top, graph, config, log or help: try "irm --help"`},
		{"foo", `unknown command "foo": it is ipcp, bind, unbind, name, status, flow, process, watch, top, graph, config, log or help: try "irm --help"`},
		{"ipcpx", `unknown command "ipcpx": did you mean "irm ipcp"? "irm --help" lists the commands`},
		{"I", `unknown command "I": it is ipcp, bind, unbind, name, status, flow, process, watch, top, graph, config, log or help: try "irm --help"`},
		{"ipcp enroll name x", `ipcp: unknown command "enroll": the word is right, but no layer type of this executable has that command; its types are local: try "irm ipcp --help"`},
		{"bind flow x", `unknown command "flow": did you mean "irm flow"? "irm bind --help" lists the commands`},
		{"bootstrp", `unknown command "bootstrp": did you mean "irm ipcp bootstrap"? "irm --help" lists the commands`},
		{"ipcp bootstrp", `unknown command "bootstrp": did you mean "irm ipcp bootstrap"? "irm ipcp --help" lists the commands`},
		{"lsit", `unknown command "lsit": did you mean "irm ipcp list", "irm name list", "irm flow list" or "irm process list"? "irm --help" lists the commands`},
		{"layer list", `unknown command "layer": a layer is shown with its IPCPs, by "irm ipcp list", and made by "irm ipcp bootstrap": try "irm --help"`},
		{"name show name x", `name show: "x" is one word too many: the NAME stands without the word name: try "irm name show --help"`},
		{"ipcp show", `ipcp show: "name NAME" is missing: try "irm ipcp show --help"`},
		{"ipcp show x y", `ipcp show: unknown keyword "y": it is name: try "irm ipcp show --help"`},
		{"ipcp destroy x name y", `ipcp destroy: the keyword "name" is given twice: try "irm ipcp destroy --help"`},
		{"bind program x", `bind program: "name NAME" is missing: try "irm bind program --help"`},
		{"bind process 1 name x -- y", `bind process: unknown keyword "--": it is name: try "irm bind process --help"`},
		{"help foo", `no help on "foo": there is some on ipcp, bind, unbind, name, status, flow, process, watch, top, graph, config, log or help: try "irm --help"`},
		{"ipcp bootstrap type local name", `ipcp bootstrap: the keyword "name" needs a value: try "irm ipcp bootstrap --help"`},
		{"ipcp bootstrap", `ipcp bootstrap: "name NAME" and "layer LAYER" are missing: try "irm ipcp bootstrap --help"`},
		{"i c n x", `ipcp create: "type TYPE" is missing: try "irm ipcp create --help"`},
		{"ipcp create x", `ipcp create: unknown keyword "x": it is type or name: try "irm ipcp create --help"`},
		{"ipcp create '' x", `ipcp create: unknown keyword "": it is type or name: try "irm ipcp create --help"`},
		{"ipcp create type local name x name x", `ipcp create: the keyword "name" is given twice: try "irm ipcp create --help"`},
		{"ipcp create type '' name x", `ipcp create: type "": invalid value: a type has at least one character: try "irm ipcp create --help"`},
		{"ipcp create type local name ''", `ipcp create: name "": invalid value: a name has at least one byte: try "irm ipcp create --help"`},
		{"ipcp bootstrap name x layer ''", `ipcp bootstrap: layer "": invalid value: a name has at least one byte: try "irm ipcp bootstrap --help"`},
		{"ipcp bootstrap name x layer y hash sha3_256", `ipcp bootstrap: hash "sha3_256": invalid value: a hash is SHA3_224, SHA3_256, SHA3_384 or SHA3_512: try "irm ipcp bootstrap --help"`},
		{"bind process", `bind process: the PID is missing: try "irm bind process --help"`},
		{"bind process 1", `bind process: "name NAME" is missing: try "irm bind process --help"`},
		{"bind process 0 name x", `bind process: PID "0": invalid value: a process id is a positive number: try "irm bind process --help"`},
		{"bind process -1 name x", `bind process: PID "-1": invalid value: a process with a negative number is one that the PID namespace of irmd does not have: it can't be named by it, and can listen for a name itself: try "irm bind process --help"`},
		{"bind process +1 name x", `bind process: PID "+1": invalid value: a process id is a positive number: try "irm bind process --help"`},
		{"bind process 4294967297 name x", `bind process: PID "4294967297": invalid value: a process id is a positive number: try "irm bind process --help"`},
		{"unbind process me", `unbind process: PID "me": invalid value: a process id is a positive number: try "irm unbind process --help"`},
		{"name create", `name create: the NAME is missing: try "irm name create --help"`},
		{"name create --", `name create: the NAME is missing: try "irm name create --help"`},
		{"name create ''", `name create: NAME "": invalid value: a name has at least one byte: try "irm name create --help"`},
		{"name create " + long, `name create: NAME "` + long + `": invalid value: a name has at most 255 bytes, this one has 256: try "irm name create --help"`},
		{"name create x lb fair", `name create: lb "fair": invalid value: a policy is round-robin or spillover: try "irm name create --help"`},
		{"name destroy x y", `name destroy: "y" is one word too many: try "irm name destroy --help"`},
		{"name register x", `name register: "layer LAYER" or "ipcp IPCP" is missing: try "irm name register --help"`},
		{"name list x y", `name list: "y" is one word too many: try "irm name list --help"`},
		{"name list ''", `name list: FILTER "": invalid value: a name has at least one byte: try "irm name list --help"`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			args := strings.Fields(tt.line)
			for i, a := range args {
				args[i] = strings.Trim(a, "'")
			}
			f := &fakeIRMd{}
			out, err := irm(f, args...)
			if err == nil || err.Error() != tt.err {
				t.Errorf("error\n%v, want\n%v", err, tt.err)
			}
			if out != "" || f.asked != nil {
				t.Errorf("printed %q, asked %q", out, f.asked)
			}
		})
	}
}

// TestFailures has what irm says when the IRMd refuses.
func TestFailures(t *testing.T) {
	tests := []struct{ line, err string }{
		{"ipcp create type local name x", `create IPCP "x" of type "local": no`},
		{"ipcp bootstrap type local name x layer y", `bootstrap IPCP "x" in layer "y": no`},
		{"ipcp destroy name x", `destroy IPCP "x": no`},
		{"ipcp list", `list IPCPs: no`},
		{"bind process 42 name x", `bind process 42 to name "x": no`},
		{"unbind process 42 name x", `unbind process 42 from name "x": no`},
		{"bind program /bin/true name x", `bind program "/bin/true" to name "x": no`},
		{"unbind program /bin/true", `unbind program "/bin/true" from all names: no`},
		{"bind ipcp i name x", `bind IPCP "i" to name "x": no`},
		{"unbind ipcp i name x", `unbind IPCP "i" from name "x": no`},
		{"unbind process 42", `unbind process 42 from all names: no`},
		{"name create x", `create name "x": no`},
		{"name destroy x", `destroy name "x": no`},
		{"name register x layer nolayer", `register name "x" in layer "nolayer": no`},
		{"name register x layer a ipcp i layer b", `register name "x" in layer "a", "b" with IPCP "i": no`},
		{"name unregister x layer a ipcp i ipcp j", `unregister name "x" from layer "a" from IPCP "i", "j": no`},
		{"name list", `list names: no`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			no := errors.New("no")
			out, err := irm(&fakeIRMd{err: no}, strings.Fields(tt.line)...)
			if !errors.Is(err, no) || err.Error() != tt.err || out != "" {
				t.Errorf("printed %q, error\n%v, want\n%v", out, err, tt.err)
			}
		})
	}
}

func TestNoIRMd(t *testing.T) {
	var out bytes.Buffer
	err := run(context.Background(), newScreen(&out), root, []string{"ipcp", "list"}, func(context.Context) (irmd, error) {
		return nil, fmt.Errorf("%w on /run/o7s/irmd.sock: start one", core.ErrIRMd)
	})
	if !errors.Is(err, core.ErrIRMd) || err.Error() != "list IPCPs: no IRMd answers on /run/o7s/irmd.sock: start one" {
		t.Errorf("error %v", err)
	}
}

// TestDeadline: an IRMd that does not answer is given up, and irm says so.
func TestDeadline(t *testing.T) {
	tests := []struct{ line, in string }{
		{"name list", "10s"},
		{"bind process 1 name x", "10s"},
		{"ipcp create type local name x", "30s"},
		{"ipcp destroy name x", "30s"},
		{"ipcp bootstrap name x layer y", "30s"},
		{"name register x layer y", "30s"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := irm(&fakeIRMd{wait: true}, strings.Fields(tt.line)...)
				want := "no answer from the IRMd in " + tt.in + ", its log may tell why"
				if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("error %v, want one that ends in %q", err, want)
				}
			})
		})
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestPrintError(t *testing.T) {
	err := run(context.Background(), newScreen(brokenWriter{}), root, []string{"--version"}, nil)
	if err == nil || err.Error() != "print: disk full" {
		t.Errorf("error %v", err)
	}
}

// TestStatus runs the applet as the multitool does, without an IRMd.
func TestStatus(t *testing.T) {
	t.Setenv("O7S_RUNTIME_DIR", t.TempDir())
	tests := []struct {
		line   string
		status int
	}{
		{"--help", applets.StatusDone},
		{"name --version", applets.StatusDone},
		{"ipcp list", applets.StatusFailed},
		{"ipcp", applets.StatusUsage},
		{"name create", applets.StatusUsage},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			if got := applets.Main(append([]string{"irm"}, strings.Fields(tt.line)...), []applets.Applet{Applet([]ipcp.Type{local.Type})}); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
		})
	}
}
