package config

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/settings"
)

var types = []ipcp.Type{
	{Name: "local"},
	{Name: "relay"},
	{Name: "made", Hashes: []hash.Algorithm{hash.MD5}, Options: []ipcp.Option{
		{Name: "dev", Value: "IF", Kind: ipcp.Text, Need: true},
		{Name: "ttl", TOML: "max_ttl", Value: "TTL", Kind: ipcp.Number, Min: 1, Max: 1 << 63, Default: "60"},
		{Name: "ethertype", Value: "HEX", Kind: ipcp.Number, Base: 16, Min: 0x600, Max: 0xFFFE, Default: "A000"},
		{Name: "quiet", Kind: ipcp.Flag},
	}, Check: func(s ipcp.Settings) error {
		if s.Number("ttl") == 13 {
			return errors.New("13 is unlucky")
		}
		return nil
	}},
	{Name: "uni", Does: ipcp.Enrolls | ipcp.Connects, Options: []ipcp.Option{{Name: "addr", Value: "SIZE", Kind: ipcp.Number, Min: 4, Max: 4, Default: "4"}}},
}

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

[made.m]
quiet = true
ethertype = 0xb000
bootstrap = "made-layer"
dev = "eth0"
max_ttl = 7

[uni.e]
enrol = "uniA"
reg = ["x"]
autobind = true
bind = ["y", "z z"]
conn = ["mgmt:uniA", "dt:a:b"]
`

func at(line int) func() int { return func() int { return line } }

func TestParse(t *testing.T) {
	got, err := Parse("f", whole, types)
	want := []Item{
		{line: at(2), Name: &Name{Name: "oping-server", Policy: "spillover", Programs: []Program{{"/usr/bin/oping", true, []string{"--listen", "--idle", "5s"}}, {Path: "/usr/bin/other"}}}},
		{line: at(7), IPCP: &IPCP{Name: "local-ipcp", Type: types[0], Draft: ipcp.Draft{Layer: "local-layer", Hash: "SHA3_512"}, Enrol: "", Register: []string{"oping-server", "two"}}},
		{line: at(12), Name: &Name{Name: "a b", Policy: "round-robin", Programs: nil}},
		{line: at(14), IPCP: &IPCP{Name: "i", Type: types[1]}},
		{line: at(16), IPCP: &IPCP{Name: "m", Type: types[2], Draft: ipcp.Draft{Layer: "made-layer", Settings: []ipcp.Setting{{Name: "dev", Value: "eth0"}, {Name: "ttl", Value: "7"}, {Name: "ethertype", Value: "0xB000"}, {Name: "quiet", Value: "true"}}}, Enrol: "", Register: nil}},
		{line: at(23), IPCP: &IPCP{Name: "e", Type: types[3], Enrol: "uniA", Register: []string{"x"}, Autobind: true, Bind: []string{"y", "z z"}, Connect: []ipcp.Connection{{Dst: "uniA", Component: "mgmt", QoS: core.QoSRaw}, {Dst: "a:b", Component: "dt", QoS: core.QoSRaw}}}},
	}
	for i := range got {
		if i < len(want) && got[i].Line() != want[i].Line() {
			t.Errorf("item %d is in line %d, want %d", i, got[i].Line(), want[i].Line())
		}
	}
	for _, it := range slices.Concat(got, want) { // functions are never equal
		if it.IPCP != nil {
			it.IPCP.Type = ipcp.Type{Name: it.IPCP.Type.Name}
		}
	}
	for _, all := range [][]Item{got, want} {
		for i := range all {
			all[i].line = nil
		}
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, error %v", got, err)
		for i := range got {
			t.Logf("%+v %+v", got[i].Name, got[i].IPCP)
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
		{"[local.x]\nbootstrap = \"l\"\nhash = \"MD5\"", `f:3: hash "MD5": invalid value: a layer of type local has SHA3_256`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nhash = \"SHA3_256\"", `f:4: hash "SHA3_256": invalid value: a layer of type made has MD5`},
		{"[made.x]\nbootstrap = \"l\"", `f:2: invalid value: a layer of type made needs the option dev`},
		{"[uni.x]\nenrol = \"a\"\nbootstrap = \"l\"", `f:2: an IPCP is the first member of a layer, with bootstrap, or enrolled: not both`},
		{"[uni.x]\nenrol = \"a\"\naddr = 4", `f:3: addr needs a layer`},
		{"[uni.x]\nenrol = \"a\"\nhash = \"SHA3_256\"", `f:3: hash needs a layer`},
		{"[uni.x]\nenrol = \"\"", `f:2: invalid value: a name has`},
		{"[uni.x]\nenroll = \"a\"", `f:2: unknown key "enroll": the keys here are bootstrap, enrol, hash, reg, autobind, bind, conn, addr`},
		{"[uni.x]\nenrol = \"a\"\nbind = [\"\"]", `f:3: invalid value: a name has at least one byte`},
		{"[uni.x]\nenrol = \"a\"\nautobind = 1", `f:3: autobind is true or false`},
		{"[uni.x]\nenrol = \"a\"\nconn = [\"a\"]", `f:3: conn has "mgmt:NAME" and "dt:NAME" for each member to connect to: component "a"`},
		{"[uni.x]\nenrol = \"a\"\nconn = [\"dt:\"]", `f:3: conn has "mgmt:NAME" and "dt:NAME" for each member to connect to: invalid value: a name has`},
		{"[uni.x]\nenrol = \"a\"\nconn = \"dt:a\"", `f:3: conn is`},
		{"[uni.x]\nconn = [\"dt:a\"]", `f:2: conn needs a layer`},
		{"[made.x]\n\ndev = \"d\"", `f:3: dev needs a layer: bootstrap = "LAYER"`},
		{"[made.x]\nbootstrap = \"l\"\ndev = 3", `f:3: dev is a text: dev = "..."`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"\"", `f:3: dev "": invalid value`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nttl = -1", `f:4: max_ttl is 1 to 9223372036854775808`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nttl = 0", `f:4: ttl "0": invalid value: it is 1 to`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nttl = 3\nmax_ttl = 3", `max_ttl and ttl are the same option`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nttl = 13", `f:2: invalid value: 13 is unlucky`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nquiet = 1", `f:4: quiet is true or false`},
		{"[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nquiet = \"true\"", `f:4: quiet is true or false`},
		{"[made.x]\ndevice = \"d\"", `f:2: unknown key "device": the keys here are bootstrap, hash, reg, dev, max_ttl, ethertype, quiet`},
		{"[local.x]\nreg = [\"a\"]", `f:2: reg needs a layer: bootstrap = "LAYER"`},
		{"\n[unicast.x]\nbootstrap = \"l\"", `f:2: unknown table [unicast]: there are [name.NAME] and, for each layer type, [local.IPCP], [relay.IPCP], [made.IPCP], [uni.IPCP]`},
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
	f.Add("[made.x]\nbootstrap = \"l\"\ndev = \"d\"\nttl = 9223372036854775807\nethertype = \"a000\"\nquiet = true")
	f.Add("[uni.x]\nenrol = \"a\"\nreg = [\"n\"]")
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

// What TOML can't hold is refused: nothing is written in its place.
// What is wanted of flows to other systems is read, and written as it was.
func TestProtection(t *testing.T) {
	far := ipcp.Type{Name: "far", Far: true, Does: ipcp.Provides}
	const text = `[name.x]
lb = "round-robin"
encrypt = "required"
authenticate = "required"
server_enc_file = "/a"
server_crt_file = "/b"
server_key_file = "/c"
client_enc_file = "/d"
client_crt_file = "/e"
client_key_file = "/f"

[far.i]
bootstrap = "l"
encrypt = "required"
authenticate = "required"
`
	all := append([]ipcp.Type{far}, types...)
	items, err := Parse("f", text, all)
	if err != nil {
		t.Fatal(err)
	}
	want := settings.Protection{Encrypt: true, Auth: true, Server: settings.Files{Enc: "/a", Crt: "/b", Key: "/c"}, Client: settings.Files{Enc: "/d", Crt: "/e", Key: "/f"}}
	if got := items[0].Name.Protection; got != want {
		t.Errorf("%+v", got)
	}
	if got := items[1].IPCP.Protection; got != (settings.Protection{Encrypt: true, Auth: true}) {
		t.Errorf("%+v", got)
	}
	var b strings.Builder
	if err := Write(&b, items); err != nil || b.String() != text {
		t.Errorf("%v, written as\n%s", err, b.String())
	}
	for _, tt := range []struct{ text, err string }{
		{"[name.x]\nencrypt = true", `f:2: encrypt is a text`},
		{"[name.x]\nencrypt = \"\"", `f:2: invalid value for encrypt: ""`},
		{"[name.x]\nserver_key_file = \"\"", `f:2: invalid value for server_key_file`},
		{"[far.x]\nbootstrap = \"l\"\nserver_key_file = \"/a\"", `f:3: unknown key "server_key_file": the keys here are bootstrap, hash, reg, encrypt, authenticate`},
		{"[far.x]\nauthenticate = \"no\"", `f:2: invalid value for authenticate`},
	} {
		if _, err := Parse("f", tt.text, all); err == nil || !strings.HasPrefix(err.Error(), tt.err) {
			t.Errorf("%q: %v, want %s", tt.text, err, tt.err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	tests := []struct {
		item Item
		what string
	}{
		{Item{Name: &Name{Name: "\xff\xfe"}}, `name "\xff\xfe" can't be written`},
		{Item{Name: &Name{Name: "n", Programs: []Program{{Path: "/\xff"}}}}, `name "n" can't be written: "/\xff"`},
		{Item{Name: &Name{Name: "n", Programs: []Program{{Path: "/p", Args: []string{"\xff"}}}}}, `name "n" can't be written: "\xff"`},
		{Item{IPCP: &IPCP{Name: "i\xff"}}, `IPCP "i\xff" can't be written`},
		{Item{IPCP: &IPCP{Name: "i", Draft: ipcp.Draft{Layer: "l\xff"}}}, `IPCP "i" can't be written: "l\xff"`},
		{Item{IPCP: &IPCP{Name: "i", Draft: ipcp.Draft{Layer: "l"}, Register: []string{"\xff"}}}, `IPCP "i" can't be written: "\xff"`},
	}
	for _, tt := range tests {
		var b strings.Builder
		err := Write(&b, []Item{{Name: &Name{Name: "good"}}, tt.item})
		if err == nil || !strings.Contains(err.Error(), tt.what) || b.Len() > 0 {
			t.Errorf("%+v: wrote %q, error %v, want %s", tt.item, b.String(), err, tt.what)
		}
	}
}

// TestLinear: a file that is eight times as long takes eight times the memory,
// and so the time, not 64 times.
func TestLinear(t *testing.T) {
	cost := func(n int) float64 {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "[name.n%d]\nprog = [\"/bin/true\"]\nargs = [\"a\"]\n[made.i%d]\nbootstrap = \"l%d\"\ndev=\"d\"\nreg = [\"n%d\"]\n", i, i, i, i)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		items, err := Parse("f", b.String(), types)
		runtime.ReadMemStats(&after)
		if err != nil || len(items) != 2*n {
			t.Fatalf("%d items, error %v", len(items), err)
		}
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	if short, long := cost(500), cost(4000); long > 16*short {
		t.Errorf("8 times the text costs %.1f times the memory", long/short)
	}
}
