package ipcp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/hash"
)

// made is a layer type with an option of each kind.
var made = Type{
	Name: "made",
	Options: []Option{
		{Name: "dev", Value: "IF", Help: "the device", Kind: Text, Need: true},
		{Name: "routing", Value: "POLICY", Help: "the routing", Kind: Word, Words: []string{"link_state", "lfa", "lazy"}, Prefix: true, Default: "lfa"},
		{Name: "directory", Value: "POLICY", Help: "the directory", Kind: Word, Words: []string{"DHT"}, Default: "DHT"},
		{Name: "port", Value: "PORT", Help: "the port", Kind: Number, Min: 1, Max: 65535, Default: "3435"},
		{Name: "ethertype", Value: "HEX", Help: "the type of its frames", Kind: Number, Base: 16, Min: 0x600, Max: 0xFFFE, Default: "A000"},
		{Name: "ip", Value: "IP", Help: "the address", Kind: Addr4, Check: func(s string) error {
			if netip.MustParseAddr(s).IsUnspecified() {
				return errors.New("it is the address of one host")
			}
			return nil
		}},
		{Name: "ip6", TOML: "ip-six", Value: "IP", Help: "the address", Kind: Addr6},
		{Name: "quiet", Help: "say little", Kind: Flag},
	},
	Check: func(s Settings) error {
		if s.Number("port") == 99 && s.Flag("quiet") {
			return errors.New("port 99 is never quiet")
		}
		return nil
	},
}

// settings returns the settings that the words NAME VALUE NAME VALUE ... are.
func settings(words ...string) []Setting {
	var all []Setting
	for i := 0; i < len(words); i += 2 {
		all = append(all, Setting{words[i], words[i+1]})
	}
	return all
}

func TestParse(t *testing.T) {
	tests := []struct {
		given []Setting
		want  string // Settings as fmt prints them, or a part of the error
		again string // what Given makes of them
	}{
		{settings("dev", "eth0"), "[{dev eth0} {routing lfa} {directory DHT} {port 3435} {ethertype 0xA000} {quiet false}]", "[{dev eth0}]"},
		{settings("port", "0080", "dev", "é 1"), "[{dev é 1} {routing lfa} {directory DHT} {port 80} {ethertype 0xA000} {quiet false}]", "[{dev é 1} {port 80}]"},
		{settings("ethertype", "0xb000", "dev", "e", "quiet", "true"), "[{dev e} {routing lfa} {directory DHT} {port 3435} {ethertype 0xB000} {quiet true}]", "[{dev e} {ethertype 0xB000} {quiet true}]"},
		{settings("ethertype", "a000", "dev", "e", "quiet", "false"), "[{dev e} {routing lfa} {directory DHT} {port 3435} {ethertype 0xA000} {quiet false}]", "[{dev e}]"},
		{settings("ethertype", "0X600", "dev", "e"), "[{dev e} {routing lfa} {directory DHT} {port 3435} {ethertype 0x0600} {quiet false}]", "[{dev e} {ethertype 0x0600}]"},
		{settings("routing", "link-state", "dev", "e"), "[{dev e} {routing link_state} {directory DHT} {port 3435} {ethertype 0xA000} {quiet false}]", "[{dev e} {routing link_state}]"},
		{settings("routing", "l", "dev", "e"), "[{dev e} {routing link_state} {directory DHT} {port 3435} {ethertype 0xA000} {quiet false}]", "[{dev e} {routing link_state}]"},
		{settings("routing", "la", "dev", "e"), "[{dev e} {routing lazy} {directory DHT} {port 3435} {ethertype 0xA000} {quiet false}]", "[{dev e} {routing lazy}]"},
		{settings("ip", "10.0.0.1", "ip6", "FE80:0::1", "dev", "e"), "[{dev e} {routing lfa} {directory DHT} {port 3435} {ethertype 0xA000} {ip 10.0.0.1} {ip6 fe80::1} {quiet false}]", "[{dev e} {ip 10.0.0.1} {ip6 fe80::1}]"},

		{nil, "a layer of type made needs the option dev: a text of 1 to 1024 printable bytes", ""},
		{settings("dev", ""), `dev "": invalid value: it is a text`, ""},
		{settings("dev", "a\x1bb"), `dev "a\x1bb": invalid value`, ""},
		{settings("dev", "\xff"), `dev "\xff": invalid value`, ""},
		{settings("dev", strings.Repeat("x", MaxText+1)), "1 to 1024", ""},
		{settings("dev", "a", "dev", "a"), "option dev is given twice", ""},
		{settings("mtu", "9"), `a layer of type made has no option "mtu": it has dev, routing, directory, port, ethertype, ip, ip6, quiet`, ""},
		{settings("ip-six", "::1"), `no option "ip-six"`, ""},
		{settings("dev", "a", "routing", ""), `routing "": invalid value: it is link_state, lfa, lazy`, ""},
		{settings("dev", "a", "routing", "LFA"), `routing "LFA"`, ""},
		{settings("dev", "a", "directory", "D"), `directory "D": invalid value: it is DHT`, ""},
		{settings("dev", "a", "port", "0"), `port "0": invalid value: it is 1 to 65535`, ""},
		{settings("dev", "a", "port", "65536"), `port "65536"`, ""},
		{settings("dev", "a", "port", "-1"), `port "-1"`, ""},
		{settings("dev", "a", "port", "+1"), `port "+1"`, ""},
		{settings("dev", "a", "port", "99999999999999999999"), `port "99999999999999999999"`, ""},
		{settings("dev", "a", "ethertype", "5FF"), `ethertype "5FF": invalid value: it is 0x0600 to 0xFFFE`, ""},
		{settings("dev", "a", "ethertype", "0x0x800"), `ethertype "0x0x800"`, ""},
		{settings("dev", "a", "ip", "::1"), `ip "::1": invalid value: it is an IPv4 address`, ""},
		{settings("dev", "a", "ip", "host"), `ip "host"`, ""},
		{settings("dev", "a", "ip", "0.0.0.0"), `ip "0.0.0.0": invalid value: it is the address of one host`, ""},
		{settings("dev", "a", "ip6", "10.0.0.1"), `it is an IPv6 address`, ""},
		{settings("dev", "a", "ip6", "::ffff:10.0.0.1"), `it is an IPv6 address`, ""},
		{settings("dev", "a", "ip6", "fe80::1%eth0"), `it is an IPv6 address`, ""},
		{settings("dev", "a", "quiet", "yes"), `quiet "yes": invalid value: it is true or false`, ""},
		{settings("dev", "a", "port", "99", "quiet", "true"), "port 99 is never quiet", ""},
	}
	for _, tt := range tests {
		got, err := made.Parse(tt.given)
		if err != nil {
			if tt.again != "" || !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q: error %v, want %s", tt.given, err, tt.want)
			}
			continue
		}
		if s := fmt.Sprint(got); s != tt.want {
			t.Errorf("%q: %s, want %s", tt.given, s, tt.want)
		}
		given := made.Given(got)
		if s := fmt.Sprint(given); s != tt.again {
			t.Errorf("%q: given %s, want %s", tt.given, s, tt.again)
		}
		if again, err := made.Parse(given); err != nil || !slices.Equal(again, got) {
			t.Errorf("%q: what was given gives %v, error %v", tt.given, again, err)
		}
	}
	if _, err := (Type{Name: "bare"}).Parse(settings("dev", "a")); err == nil || !strings.Contains(err.Error(), "it has none") {
		t.Errorf("an option of a type without any: %v", err)
	}
}

func TestSettings(t *testing.T) {
	s, err := made.Parse(settings("dev", "eth0", "ip", "10.0.0.1", "ip6", "fe80::1", "quiet", "true", "port", "7"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Text("dev") != "eth0" || s.Text("nothing") != "" ||
		s.Number("port") != 7 || s.Number("ethertype") != 0xA000 || s.Number("dev") != 0 || s.Number("nothing") != 0 ||
		!s.Flag("quiet") || s.Flag("dev") ||
		s.Addr("ip") != netip.MustParseAddr("10.0.0.1") || s.Addr("ip6") != netip.MustParseAddr("fe80::1") || s.Addr("dev").IsValid() {
		t.Errorf("%v is read wrongly", s)
	}
}

func TestConfig(t *testing.T) {
	udp := Type{Name: "udp", Hashes: []hash.Algorithm{hash.MD5}}
	tests := []struct {
		typ  Type
		d    Draft
		want string
	}{
		{udp, Draft{Layer: "l"}, "{l MD5 []}"},
		{udp, Draft{Layer: "l", Hash: "MD5"}, "{l MD5 []}"},
		{Type{Name: "bare"}, Draft{Layer: "l"}, "{l SHA3_256 []}"},
		{Type{Name: "bare"}, Draft{Layer: "l", Hash: "SHA3_224"}, "{l SHA3_224 []}"},
		{udp, Draft{Layer: "l", Hash: "SHA3_256"}, `hash "SHA3_256": invalid value: a layer of type udp has MD5`},
		{Type{Name: "bare"}, Draft{Layer: "l", Hash: "MD5"}, "a layer of type bare has SHA3_256, SHA3_224, SHA3_384, SHA3_512"},
		{udp, Draft{}, "layer: invalid value"},
		{made, Draft{Layer: "l"}, "needs the option dev"},
	}
	for _, tt := range tests {
		cfg, err := tt.typ.Config(tt.d)
		got := fmt.Sprint(cfg)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) || err != nil && !errors.Is(err, core.ErrUsage) {
			t.Errorf("%s %v: %s, want %s", tt.typ.Name, tt.d, got, tt.want)
		}
	}
}

func TestVerify(t *testing.T) {
	if err := made.Verify(); err != nil {
		t.Error(err)
	}
	good := Option{Name: "x", Value: "X", Help: "h"}
	tests := []struct {
		change func(*Option)
		err    string
	}{
		{func(o *Option) { o.Name = "" }, "no keyword"},
		{func(o *Option) { o.Name = "A" }, "no keyword"},
		{func(o *Option) { o.TOML = "a b" }, "no keyword"},
		{func(o *Option) { o.Name = "layer" }, `"layer" is taken`},
		{func(o *Option) { o.TOML = "reg" }, `"reg" is taken`},
		{func(o *Option) { o.TOML = "x" }, `"x" is taken`},
		{func(o *Option) { o.Help = "" }, "no help"},
		{func(o *Option) { o.Value = "" }, "all but a Flag"},
		{func(o *Option) { o.Kind = Flag }, "all but a Flag"},
		{func(o *Option) { o.Kind = Word }, "a Word alone"},
		{func(o *Option) { o.Words = []string{"a"} }, "a Word alone"},
		{func(o *Option) { o.Kind, o.Min = Number, 1 }, "its bounds"},
		{func(o *Option) { o.Kind, o.Base = Number, 8 }, "its bounds"},
		{func(o *Option) { o.Default, o.Need = "a", true }, "no use for it"},
		{func(o *Option) { o.Kind, o.Default = Addr4, "a" }, "the default"},
	}
	for _, tt := range tests {
		o := good
		tt.change(&o)
		if err := (Type{Options: []Option{o}}).Verify(); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: error %v, want %s", o, err, tt.err)
		}
	}
	if err := (Type{Options: []Option{good, good}}).Verify(); err == nil {
		t.Error("an option is declared twice")
	}
	if err := (Type{Options: []Option{good}}).Verify(); err != nil {
		t.Error(err)
	}
}

// FuzzOptions: no text makes Parse panic; what it takes it takes again in its
// canonical form, unchanged.
func FuzzOptions(f *testing.F) {
	for _, o := range made.Options {
		f.Add(o.Name, o.Default)
	}
	f.Add("ip6", "::ffff:1.2.3.4%x")
	f.Add("ethertype", "0xfffe")
	f.Add("routing", "link-s")
	f.Fuzz(func(t *testing.T, name, value string) {
		got, err := made.Parse([]Setting{{"dev", "d"}, {name, value}})
		if name == "dev" {
			got, err = made.Parse([]Setting{{name, value}})
		}
		if err != nil {
			if !errors.Is(err, core.ErrUsage) {
				t.Errorf("error %v is no ErrUsage", err)
			}
			return
		}
		for _, given := range []Settings{got, made.Given(got)} {
			if again, err := made.Parse(given); err != nil || !slices.Equal(again, got) {
				t.Errorf("%v: again %v, error %v", got, again, err)
			}
		}
	})
}
