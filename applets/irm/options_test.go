package irm

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/view"
)

// made are two layer types that are nowhere else: irm takes all that it says
// of options from what a type declares. The places are those of the C
// prototype.
var made = []ipcp.Type{
	{Name: "ring", Hashes: []hash.Algorithm{hash.MD5}, Options: []ipcp.Option{
		{Name: "dev", Value: "IF", Help: "the device", Kind: ipcp.Text, Need: true, Place: 30, Suggest: func() []string { return []string{"eth0", "lo"} }},
		{Name: "dns", Value: "IP", Help: "the name server", Kind: ipcp.Addr4, Place: 20},
		{Name: "port", Value: "PORT", Help: "the port", Kind: ipcp.Number, Min: 1, Max: 65535, Default: "3435", Place: 80},
	}},
	{Name: "mesh", Does: ipcp.Enrolls | ipcp.Connects, Options: []ipcp.Option{
		{Name: "addr", TOML: "addr_size", Value: "SIZE", Help: "bytes of an address", Kind: ipcp.Number, Min: 1, Max: 8, Default: "4", Place: 50},
		{Name: "addr_auth", Value: "POLICY", Help: "how addresses are chosen", Kind: ipcp.Word, Words: []string{"flat"}, Default: "flat", Place: 100},
		{Name: "routing", Value: "POLICY", Help: "the routes", Kind: ipcp.Word, Words: []string{"link_state", "lfa", "ecmp"}, Prefix: true, Default: "link_state", Place: 170},
		{Name: "ethertype", Value: "HEX", Help: "the type of its frames", Kind: ipcp.Number, Base: 16, Min: 0x600, Max: 0xFFFE, Default: "A000", Place: 40},
		{Name: "quiet", Help: "log no neighbours", Kind: ipcp.Flag, Place: 1000},
	}},
}

var madeRoot = newRoot(made)

func TestMadeTypesAreRight(t *testing.T) {
	for _, typ := range made {
		if err := typ.Verify(); err != nil {
			t.Error(err)
		}
	}
}

// TestOptions has, for each command line, what the IRMd is asked, or what irm
// says.
func TestOptions(t *testing.T) {
	tests := []struct{ line, want string }{
		{"i b t ring n x l y dev eth0", `bootstrap "x" "ring" "y" dev="eth0"`},
		{"i b t ring n x l y d eth0", `bootstrap: dns "eth0": invalid value: it is an IPv4 address`},
		{"i b t ring n x l y de eth0 d 10.0.0.1 p 7", `bootstrap "x" "ring" "y" dns="10.0.0.1" dev="eth0" port="7"`},
		{"i b t mesh n x l y", `bootstrap "x" "mesh" "y"`},
		{"i b t mesh n x l y a 8", `bootstrap "x" "mesh" "y" addr="8"`},
		{"i b t mesh n x l y au", `bootstrap "x" "mesh" "y" autobind`},
		{"i e t mesh n x l y autobind", `enroll "x" "mesh" {"y" "y"} autobind`},
		{"i b t ring n x l y dev eth0 autobind", `unknown keyword "autobind": it is type, name, layer, hash, dns, dev or port`},
		{"i b t mesh n x l y addr_ flat", `bootstrap "x" "mesh" "y" addr_auth="flat"`},
		{"i b t mesh n x l y e b000", `bootstrap "x" "mesh" "y" ethertype="b000"`},
		{"i b t mesh n x l y r ecmp q", `bootstrap "x" "mesh" "y" routing="ecmp" quiet="true"`},
		{"i b q t me n x l y", `bootstrap "x" "me" "y" quiet="true"`},
		{"i b quiet layer y name x type mesh", `bootstrap "x" "mesh" "y" quiet="true"`},
		// Before the type a word means the first of all types'.
		{"i b n x l y d 10.0.0.1", `bootstrap "x" "" "y" dns="10.0.0.1"`},
		{"i b d eth0 t mesh n x l y", `a layer of type mesh has no option "dns": it has addr, addr_auth, routing, ethertype, quiet`},
		{"i b t mesh d eth0 n x l y", `unknown keyword "d": it is type, name, layer, hash, ethertype, addr, autobind, addr_auth, routing or quiet`},
		{"i b t other n x l y d 10.0.0.1", `bootstrap "x" "other" "y" dns="10.0.0.1"`},
		// What is wrong is said before an irmd is asked.
		{"i b t ring n x l y", `ipcp bootstrap: invalid value: a layer of type ring needs the option dev: a text of 1 to 1024 printable bytes: try "irm ipcp bootstrap --help"`},
		{"i b t ring n x l y dev eth0 port 0", `ipcp bootstrap: port "0": invalid value: it is 1 to 65535: try`},
		{"i b t ring n x l y dev eth0 hash SHA3_256", `ipcp bootstrap: hash "SHA3_256": invalid value: a layer of type ring has MD5: try`},
		{"i b t ring n x l y dev eth0 hash MD5", `bootstrap "x" "ring" "y" "MD5" dev="eth0"`},
		{"i b t ring n x l y dev", `ipcp bootstrap: the keyword "dev" needs a value: try`},
		{"i b t ring n x l y dev a dev a", `ipcp bootstrap: the keyword "dev" is given twice: try`},
		{"i b t mesh n x l y q q", `ipcp bootstrap: the keyword "quiet" is given twice: try`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			f := &fakeIRMd{}
			_, err := irmOf(madeRoot, f, strings.Fields(tt.line)...)
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) || f.asked != nil {
					t.Errorf("error\n%v, want\n%s; asked %q", err, tt.want, f.asked)
				}
			} else if want := []string{"dial", tt.want, "close"}; !slices.Equal(f.asked, want) {
				t.Errorf("asked %q, want %q", f.asked, want)
			}
		})
	}
}

// TestOptionsHelp compares the help on options with testdata, which -update
// writes.
func TestOptionsHelp(t *testing.T) {
	out, err := irmOf(madeRoot, &fakeIRMd{}, "ipcp", "bootstrap", "--help")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "help", "options.txt")
	if *update {
		if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || out != string(want) {
		t.Errorf("printed\n%s, want\n%s(%v)", out, want, err)
	}
	man := manual(madeRoot)
	for _, typ := range made {
		for _, o := range typ.Options {
			if !strings.Contains(man, "\n.TP\n") || !strings.Contains(man, describe(o)[:len(o.Help)]) {
				t.Errorf("the manual has nothing on %s", o.Name)
			}
		}
	}
}

func TestOptionsComplete(t *testing.T) {
	tests := []struct{ line, want string }{
		{"ipcp bootstrap type ", "ring mesh"},
		{"ipcp bootstrap type r", "ring"},
		{"ipcp bootstrap type ring ", "name layer hash dns dev port"},
		{"ipcp bootstrap type mesh layer l ", "name hash ethertype addr autobind addr_auth routing quiet"},
		{"ipcp bootstrap type mesh quiet name n layer l hash SHA3_256 r", "routing"},
		{"ipcp bootstrap type mesh quiet q", ""},
		{"ipcp bootstrap d", "dns dev"},
		{"ipcp bootstrap type ring dev ", "eth0 lo"},
		{"ipcp bootstrap type ring de l", "lo"},
		{"ipcp bootstrap type ring dns ", ""},
		{"ipcp bootstrap type mesh routing ", "link_state lfa ecmp"},
		{"ipcp bootstrap type mesh routing l", "link_state lfa"},
		{"ipcp bootstrap type ring hash ", "MD5"},
		{"ipcp bootstrap type mesh hash SHA3_2", "SHA3_256 SHA3_224"},
		{"ipcp bootstrap hash SHA3_5", "SHA3_512"},
		{"ipcp bootstrap type mesh layer ", "net1"}, // asked of the irmd
		{"ipcp c", "create connect"},
		{"ipcp enroll name n ", "type layer dst autobind"},
		{"ipcp connect component ", "dt mgmt"},
		{"ipcp connect qos v", "video voice"},
	}
	for _, tt := range tests {
		f := &fakeIRMd{view: picture{IPCPs: []view.IPCP{{Name: "i", Layer: "net1"}}}}
		var b bytes.Buffer
		complete(context.Background(), &b, madeRoot, strings.Split(tt.line, " "), f.dial)
		var got []string
		for line := range strings.Lines(b.String()) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
	}
}

var madeIPCPs = []view.IPCP{
	{Name: "m", Type: "mesh", Layer: "net1", Hash: "SHA3_256", Options: view.Options{
		{Name: "addr", Value: "8", Bare: true}, {Name: "addr_auth", Value: "flat"}, {Name: "routing", Value: "ecmp"},
		{Name: "ethertype", Value: "0xB000", Bare: true}, {Name: "quiet", Value: "true", Bare: true},
	}},
	{Name: "r", Type: "ring", Layer: "net2", Hash: "MD5", Options: view.Options{{Name: "dev", Value: "e\"0"}, {Name: "port", Value: "3435", Bare: true}}},
	{Name: "none", Type: "ring"},
	{Name: "late", Type: "mesh", Layer: "net1", Hash: "SHA3_256", Via: "enroll m", Options: view.Options{{Name: "addr", Value: "8", Bare: true}}},
}

// TestOptionsShown: the options that are in force are in the text, in JSON and,
// where they are not the default, in the config file.
func TestOptionsShown(t *testing.T) {
	f := &fakeIRMd{view: picture{IPCPs: madeIPCPs}, facts: []view.Fact{{Name: "neighbour", Value: "a"}, {Name: "neighbour", Value: "b"}}}
	show := func(args ...string) string {
		t.Helper()
		out, err := irmOf(madeRoot, f, args...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return out
	}
	text := show("ipcp", "show", "name", "m")
	for _, want := range []string{"\naddr          8\n", "\nrouting       ecmp\n", "\nethertype     0xB000\n", "\nquiet         true\n", "\nneighbour     a\nneighbour     b\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var row struct {
		Options map[string]any
		Facts   []view.Fact
	}
	if err := json.Unmarshal([]byte(show("ipcp", "show", "name", "m", "--json")), &row); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"addr": 8.0, "addr_auth": "flat", "routing": "ecmp", "ethertype": 45056.0, "quiet": true}
	for k, v := range want {
		if row.Options[k] != v {
			t.Errorf("JSON: %s is %v, want %v", k, row.Options[k], v)
		}
	}
	if len(row.Options) != len(want) || !slices.Equal(row.Facts, f.facts) {
		t.Errorf("JSON: %v", row)
	}
	var list []struct{ Options map[string]any }
	if err := json.Unmarshal([]byte(show("ipcp", "list", "--json")), &list); err != nil || len(list) != 4 || list[1].Options["dev"] != `e"0` || len(list[2].Options) != 0 {
		t.Errorf("%v, error %v", list, err)
	}
	const exported = `
[mesh.m]
bootstrap = "net1"
hash = "SHA3_256"
addr_size = 8
routing = "ecmp"
ethertype = "0xB000"
quiet = true

[ring.r]
bootstrap = "net2"
hash = "MD5"
dev = "e\"0"

[ring.none]

[mesh.late]
enrol = "m"
`
	if out := show("config", "export"); !strings.HasSuffix(out, exported) {
		t.Errorf("exported\n%s, want\n%s", out, exported)
	}
}

// TestMembers has the commands that are there where a type can do what they
// ask.
func TestMembers(t *testing.T) {
	tests := []struct{ line, want string }{
		{"i enroll name x layer l", `enroll "x" "" {"l" "l"}`},
		{"i e n x d m", `enroll "x" "" {"" "m"}`},
		{"i e n x l l d m t mesh", `enroll "x" "mesh" {"l" "m"}`},
		{"i con n x d m", `connect "x" "m" "" raw`},
		{"i con n x d m c dt q voice", `connect "x" "m" "dt" voice`},
		{"i di n x d m", `disconnect "x" "m" ""`},
		{"i di n x d m comp mgmt", `disconnect "x" "m" "mgmt"`},
		{"i e n x", `ipcp enroll: "layer LAYER" or "dst DST" is missing: try "irm ipcp enroll --help"`},
		{"i con n x", `ipcp connect: "dst DST" is missing`},
		{"i con n x d m c control", `ipcp connect: component "control": invalid value: a component is dt or mgmt`},
		{"i con n x d m q fast", `ipcp connect: qos "fast": invalid value: a QoS is raw,`},
		{"i di n x d m q raw", `ipcp disconnect: unknown keyword "q": it is name, dst or component`},
		{"i x", `ipcp: unknown command "x": it is create, destroy, bootstrap, enroll, connect, disconnect, list, show or help`},
	}
	for _, tt := range tests {
		f := &fakeIRMd{}
		_, err := irmOf(madeRoot, f, strings.Fields(tt.line)...)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) || f.asked != nil {
				t.Errorf("%s: error\n%v, want\n%s; asked %q", tt.line, err, tt.want, f.asked)
			}
		} else if want := []string{"dial", tt.want, "close"}; !slices.Equal(f.asked, want) {
			t.Errorf("%s: asked %q, want %q", tt.line, f.asked, want)
		}
	}
	for _, w := range []string{"enroll", "connect", "disconnect"} {
		if out, err := irm(&fakeIRMd{}, "ipcp", w, "--help"); err == nil || strings.Contains(manual(root), w) {
			t.Errorf("a local layer has %s: %s", w, out)
		}
		if out, err := irmOf(madeRoot, &fakeIRMd{}, "ipcp", w, "--help"); err != nil || !strings.Contains(manual(madeRoot), "irm ipcp "+w) {
			t.Errorf("%s: %v, %s", w, err, out)
		}
	}
}

// TestExportRefuses: what has no place in a config file is never written as
// something else.
func TestExportRefuses(t *testing.T) {
	f := &fakeIRMd{view: picture{Names: []view.Name{{Name: "good", Exists: true}, {Name: "\xff\xfe", Exists: true}}}}
	out, err := irm(f, "config", "export")
	if err == nil || !strings.Contains(err.Error(), `export the config: name "\xff\xfe" can't be written`) || out != "" {
		t.Errorf("printed %q, error %v", out, err)
	}
}

// TestGraphIDs: names that differ are different boxes, whatever is in them.
func TestGraphIDs(t *testing.T) {
	f := &fakeIRMd{}
	names := []string{"a\x1b", `a\x1b`, `a\\x1b`, "a\xff", `a\xff`, "a\"", "a\n", "a\x00"}
	for _, n := range names {
		f.view.Names = append(f.view.Names, view.Name{Name: n})
	}
	out, err := irm(f, "graph", "--dot")
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for line := range strings.Lines(out) {
		if id, _, ok := strings.Cut(line, " [label="); ok {
			ids[id] = true
		}
	}
	if len(ids) != len(names) {
		t.Errorf("%d boxes, want %d, in\n%s", len(ids), len(names), out)
	}
}
