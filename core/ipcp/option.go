package ipcp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/view"
)

// Option is a choice that one has when one bootstraps a layer of a type: a device,
// an address, a time-out. The type's own folder declares it, once; the command
// line, its help and completion, the config file, JSON and the IRMd follow.
type Option struct {
	// Name is the keyword on the command line and the key in JSON: "dev".
	Name string
	// TOML is the key in the config file, where that is not Name. Name is
	// accepted there too.
	TOML string
	// Value is what help calls the value: "IF". A Flag has none.
	Value string
	// Help is one line without a full stop. It need not repeat Words, Min,
	// Max, Default and Need: help shows them.
	Help string
	Kind Kind

	Words    []string // of a Word: the values; "-" and "_" in them are one letter
	Prefix   bool     // of a Word: a value may be shortened; it means the first of Words that begins with it
	Min, Max uint64   // of a Number
	Base     int      // of a Number: 16, with or without 0x; 0 is decimal

	// Default is the value where none is given. Without one the option may
	// stay without a value, unless Need is set. A Flag is off by default.
	Default string
	Need    bool // a value must be given

	// Place orders the keywords of the command line: a shortened word means
	// the first that begins with it. The types of the C prototype have its
	// places below 1000, so that a shortened word means here what it means
	// there; those of this project begin at 1000.
	Place int
	// Check refuses values that Kind allows. It gets the canonical text.
	Check func(value string) error
	// Suggest returns values that this system has now, for completion: its
	// network devices.
	Suggest func() []string
}

// Kind is what the values of an Option are.
type Kind uint8

const (
	Text   Kind = iota // 1 to MaxText bytes of printable UTF-8
	Word               // one of Option.Words
	Number             // Min to Max
	Addr4              // an IPv4 address
	Addr6              // an IPv6 address, without a zone
	Flag               // on where its keyword is given; its texts are "true" and "false"
)

// MaxText is the length of the longest value of an Option, in bytes.
const MaxText = 1024

// Setting is an Option's name with a value.
type Setting struct{ Name, Value string }

// Settings are what Type.Parse returns: values in the order of Type.Options,
// in canonical form, with the defaults of what was not given. An option that
// has no value is left out.
type Settings []Setting

// Config returns the Config that d is for a layer of type t. The error is
// core.ErrUsage, and says what is allowed.
func (t Type) Config(d Draft) (Config, error) {
	if err := core.CheckName(d.Layer); err != nil {
		return Config{}, fmt.Errorf("layer: %w", err)
	}
	alg, err := t.ParseHash(d.Hash)
	if err != nil {
		return Config{}, err
	}
	settings, err := t.Parse(d.Settings)
	return Config{Layer: d.Layer, Hash: alg, Settings: settings}, err
}

// Checked returns cfg, which came in a message, with its settings as Parse
// returns them. The error is core.ErrUsage where a layer of type t can't have
// that Config.
func (t Type) Checked(cfg Config) (Config, error) {
	return t.Config(Draft{cfg.Layer, cfg.Hash.String(), cfg.Settings})
}

// View returns s as an administrator sees them.
func (t Type) View(s Settings) view.Options {
	var all view.Options
	for _, x := range s {
		o := t.option(x.Name)
		all = append(all, view.Option{Name: x.Name, Value: x.Value, Bare: o != nil && (o.Kind == Number || o.Kind == Flag)})
	}
	return all
}

// Algorithms returns the directory hashes that a layer of type t may use, the
// default first.
func (t Type) Algorithms() []hash.Algorithm {
	if t.Hashes != nil {
		return t.Hashes
	}
	return hash.SHA3()
}

// ParseHash returns the directory hash called name, where a layer of type t may
// use it; the type's default where name is "". The error is core.ErrUsage.
func (t Type) ParseHash(name string) (hash.Algorithm, error) {
	all := t.Algorithms()
	if name == "" {
		return all[0], nil
	}
	var names []string
	for _, a := range all {
		if a.String() == name {
			return a, nil
		}
		names = append(names, a.String())
	}
	return 0, fmt.Errorf("hash %q: %w: a layer of type %s has %s", name, core.ErrUsage, t.Name, strings.Join(names, ", "))
}

// Parse returns the settings of a layer of type t for which given was chosen.
// Each name is an Option's Name. The error is core.ErrUsage; it names the
// option and says what is allowed.
func (t Type) Parse(given []Setting) (Settings, error) {
	values := make(map[string]string)
	for _, g := range given {
		o := t.option(g.Name)
		switch _, twice := values[g.Name]; {
		case o == nil && len(t.Options) == 0:
			return nil, fmt.Errorf("%w: a layer of type %s has no option %q: it has none", core.ErrUsage, t.Name, g.Name)
		case o == nil:
			return nil, fmt.Errorf("%w: a layer of type %s has no option %q: it has %s", core.ErrUsage, t.Name, g.Name, strings.Join(t.optionNames(), ", "))
		case twice:
			return nil, fmt.Errorf("%w: option %s is given twice", core.ErrUsage, g.Name)
		}
		value, err := o.Parse(g.Value)
		if err != nil {
			return nil, err
		}
		values[g.Name] = value
	}
	var all Settings
	for _, o := range t.Options {
		value, ok := values[o.Name]
		switch {
		case ok:
		case o.Kind == Flag:
			value = "false"
		case o.Default != "":
			var err error
			if value, err = o.Parse(o.Default); err != nil {
				return nil, err
			}
		case o.Need:
			return nil, fmt.Errorf("%w: a layer of type %s needs the option %s: %s", core.ErrUsage, t.Name, o.Name, o.Allowed())
		default:
			continue
		}
		all = append(all, Setting{o.Name, value})
	}
	if t.Check != nil {
		if err := t.Check(all); err != nil {
			return nil, fmt.Errorf("%w: %w", core.ErrUsage, err)
		}
	}
	return all, nil
}

// Given returns those of s that are not the default: what one must give Parse
// to get s again.
func (t Type) Given(s Settings) Settings {
	var given Settings
	for _, x := range s {
		o := t.option(x.Name)
		if o == nil {
			continue
		}
		usual := o.Default
		if o.Kind == Flag {
			usual = "false"
		} else if usual != "" {
			usual, _ = o.Parse(usual)
		}
		if x.Value != usual {
			given = append(given, x)
		}
	}
	return given
}

// Parse returns the canonical text of value. The error is core.ErrUsage; it
// begins with the option's name and the value, and says what is allowed.
func (o *Option) Parse(value string) (string, error) {
	text, ok := o.canonical(value)
	if !ok {
		return "", fmt.Errorf("%s %q: %w: it is %s", o.Name, value, core.ErrUsage, o.Allowed())
	}
	if o.Check != nil {
		if err := o.Check(text); err != nil {
			return "", fmt.Errorf("%s %q: %w: %w", o.Name, value, core.ErrUsage, err)
		}
	}
	return text, nil
}

func (o *Option) canonical(value string) (string, bool) {
	switch o.Kind {
	case Word:
		return o.word(value)
	case Number:
		digits, base := value, 10
		if o.Base == 16 {
			digits, base = strings.TrimPrefix(strings.TrimPrefix(value, "0x"), "0X"), 16
		}
		n, err := strconv.ParseUint(digits, base, 64)
		return o.FormatNumber(n), err == nil && n >= o.Min && n <= o.Max
	case Addr4, Addr6:
		a, err := netip.ParseAddr(value)
		return a.String(), err == nil && a.Zone() == "" && !a.Is4In6() && a.Is4() == (o.Kind == Addr4)
	case Flag:
		return value, value == "true" || value == "false"
	}
	printable := !strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })
	return value, value != "" && len(value) <= MaxText && utf8.ValidString(value) && printable
}

func (o *Option) word(value string) (string, bool) {
	hyphens := func(s string) string { return strings.ReplaceAll(s, "_", "-") }
	short := ""
	for _, w := range o.Words {
		if hyphens(w) == hyphens(value) {
			return w, true
		}
		if short == "" && value != "" && strings.HasPrefix(hyphens(w), hyphens(value)) {
			short = w
		}
	}
	return short, short != "" && o.Prefix
}

// FormatNumber returns the canonical text of n, a value of a Number.
func (o *Option) FormatNumber(n uint64) string {
	if o.Base == 16 {
		return fmt.Sprintf("0x%04X", n)
	}
	return strconv.FormatUint(n, 10)
}

// Allowed says which values o has: "1 to 65535".
func (o *Option) Allowed() string {
	switch o.Kind {
	case Word:
		return strings.Join(o.Words, ", ")
	case Number:
		return o.FormatNumber(o.Min) + " to " + o.FormatNumber(o.Max)
	case Addr4:
		return "an IPv4 address"
	case Addr6:
		return "an IPv6 address"
	case Flag:
		return "true or false"
	}
	return fmt.Sprintf("a text of 1 to %d printable bytes", MaxText)
}

// reserved are the words of the command line and of the config file that are
// the same for all types.
var reserved = []string{"type", "layer", "name", "hash", "dst", "component", "qos", "help", "bootstrap", "enrol", "reg", "conn", "autobind"}

// Verify returns an error where t itself is wrong: what it declares can't be
// typed, or a default is none of its values. Only its author can mend that.
func (t Type) Verify() error {
	taken := make(map[string]bool)
	for _, w := range reserved {
		taken[w] = true
	}
	for _, o := range t.Options {
		if o.Need && t.Does.Can(Enrolls) {
			return fmt.Errorf("layer type %s, option %q: it is needed, and who enrolls can't give it: the layer does", t.Name, o.Name)
		}
		fail := func(format string, args ...any) error {
			return fmt.Errorf("layer type %s, option %q: "+format, append([]any{t.Name, o.Name}, args...)...)
		}
		for _, w := range []string{o.Name, o.TOML} {
			switch {
			case w == "" && o.Name != "":
			case w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "":
				return fail("%q is no keyword", w)
			case taken[w]:
				return fail("%q is taken", w)
			}
			taken[w] = true
		}
		switch {
		case o.Help == "":
			return fail("it has no help")
		case (o.Value == "") != (o.Kind == Flag):
			return fail("all but a Flag have a Value")
		case (len(o.Words) > 0) != (o.Kind == Word):
			return fail("a Word alone has Words")
		case o.Kind == Number && (o.Max < o.Min || o.Base != 0 && o.Base != 16):
			return fail("its bounds are %d to %d, its base is %d", o.Min, o.Max, o.Base)
		case o.Default != "" && (o.Kind == Flag || o.Need):
			return fail("it has a default, and no use for it")
		}
		if o.Default != "" {
			if _, err := o.Parse(o.Default); err != nil {
				return fail("the default: %v", err)
			}
		}
	}
	return nil
}

func (t Type) option(name string) *Option {
	if i := slices.IndexFunc(t.Options, func(o Option) bool { return o.Name == name }); i >= 0 {
		return &t.Options[i]
	}
	return nil
}

func (t Type) optionNames() []string {
	names := make([]string, len(t.Options))
	for i, o := range t.Options {
		names[i] = o.Name
	}
	return names
}

// Text returns the canonical text of the option called name; "" where it has
// no value.
func (s Settings) Text(name string) string {
	for _, x := range s {
		if x.Name == name {
			return x.Value
		}
	}
	return ""
}

// Number returns the value of a Number; 0 where it has none.
func (s Settings) Number(name string) uint64 {
	n, _ := strconv.ParseUint(s.Text(name), 0, 64)
	return n
}

// Flag returns the value of a Flag.
func (s Settings) Flag(name string) bool { return s.Text(name) == "true" }

// Addr returns the value of an Addr4 or Addr6; the zero Addr where it has none.
func (s Settings) Addr(name string) netip.Addr {
	a, _ := netip.ParseAddr(s.Text(name))
	return a
}
