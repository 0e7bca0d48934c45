package config

import (
	"reflect"
	"strings"
	"testing"

	"o7s/core/hash"
)

var types = []string{"local", "relay"}

const whole = `
[name.oping-server]
lb = "spill"
prog = ["/usr/bin/oping", "/usr/bin/other"]
args = ["--listen --idle 5s"]

[local.local-ipcp]   # comment
bootstrap = "local-layer"
hash = "SHA3_512"
reg = ["oping-server", "two"]

[name."a b"]

[relay.i]
`

func TestParse(t *testing.T) {
	got, err := Parse("f", whole, types)
	want := []Item{
		{Line: 2, Name: &Name{"oping-server", "spillover", []Program{{"/usr/bin/oping", true, []string{"--listen", "--idle", "5s"}}, {Path: "/usr/bin/other"}}}},
		{Line: 7, IPCP: &IPCP{"local-ipcp", "local", "local-layer", hash.SHA3_512, []string{"oping-server", "two"}}},
		{Line: 12, Name: &Name{"a b", "round-robin", nil}},
		{Line: 14, IPCP: &IPCP{Name: "i", Type: "relay"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, error %v", got, err)
		for i := range got {
			t.Logf("%+v %+v %+v", got[i].Line, got[i].Name, got[i].IPCP)
		}
	}
}

func TestRefused(t *testing.T) {
	tests := []struct{ text, err string }{
		{"[name.x]\nlb = \"fair\"", `f:2: lb "fair": a policy is round-robin or spillover`},
		{"[name.x]\n\nlob = 3", `f:3: unknown key "lob": the keys here are lb, prog, args`},
		{"[name.x]\nlb = 3", `f:2: lb is a text: lb = "..."`},
		{"[name.x]\nprog = \"a\"", `f:2: prog is an array of texts: prog = ["..."]`},
		{"[name.x]\nprog = [\"a\"]\nargs = [\"\", \"\"]", `f:3: args are for 2 programs, prog has 1`},
		{"[name.x]\nprog = [\"a\"]\nargs = [3]", `f:3: args: the arguments of a program are a text`},
		{"[local.x]\nbootstrap = \"\"", `f:2: invalid value: a name has at least one byte`},
		{"[local.x]\nenrol = \"l\"", `f:2: unknown key "enrol": the keys here are bootstrap, hash, reg`},
		{"[local.x]\nbootstrap = \"l\"\nhash = \"MD5\"", `f:3: hash "MD5": it is one of [SHA3_256`},
		{"[local.x]\nreg = [\"a\"]", `f:2: reg needs a layer: bootstrap = "LAYER"`},
		{"\n[unicast.x]\nbootstrap = \"l\"", `f:2: unknown table [unicast]: there are [name.NAME] and, for each layer type, [local.IPCP], [relay.IPCP]`},
		{"name = 3", `f:1: name.NAME is a table: [name.NAME]`},
		{"[name]\nx = 3", `f:2: name.x is a table: [name.x]`},
		{"[name.x\nlb = 1", `f:2: `},
		{"[name.x]\n[name.x]", `f:2: `},
		{"= 3", `f:1: `},
	}
	for _, tt := range tests {
		_, err := Parse("f", tt.text, types)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: error %v, want %q", tt.text, err, tt.err)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than a line: %v", tt.text, err)
		}
	}
}

// FuzzParse: no text makes the parser panic, and what it understands it
// understands again when it is written down.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("[name.x]\nprog = [\"a\"]\nargs = [[\"-c\", \"a b\\\"\\u0001\"]]")
	f.Add("[local]\nx.bootstrap = \"l\"\n[name]\nx = {lb = \"spill\"}")
	f.Fuzz(func(t *testing.T, text string) {
		items, err := Parse("f", text, types)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %v", err)
			}
			return
		}
		var b strings.Builder
		if err := Write(&b, items); err != nil {
			t.Fatal(err)
		}
		again, err := Parse("f", b.String(), types)
		if err != nil {
			t.Fatalf("%q, written as %q: %v", text, b.String(), err)
		}
		var c strings.Builder
		if err := Write(&c, again); err != nil || len(again) != len(items) || c.String() != b.String() {
			t.Fatalf("%q is %q, written %q", text, b.String(), c.String())
		}
	})
}
