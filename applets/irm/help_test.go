package irm

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"o7s/applets"
)

var update = flag.Bool("update", false, "write testdata")

func TestHelpAndVersionNeedNoIRMd(t *testing.T) {
	tests := []struct{ line, first string }{
		{"help", "irm - "},
		{"h", "irm - "},
		{"--help", "irm - "},
		{"-h", "irm - "},
		{"ipcp help", "irm ipcp - "},
		{"i h", "irm ipcp - "},
		{"ipcp --help", "irm ipcp - "},
		{"help ipcp", "irm ipcp - "},
		{"help i b", "irm ipcp bootstrap - "},
		{"ipcp help bootstrap", "irm ipcp bootstrap - "},
		{"ipcp bootstrap help", "irm ipcp bootstrap - "},
		{"ipcp bootstrap --help", "irm ipcp bootstrap - "},
		{"ipcp bootstrap type local --help", "irm ipcp bootstrap - "},
		{"name register --help", "irm name register - "},
		{"name register x -h", "irm name register - "},
		{"name list --help", "irm name list - "},
		{"help name list x", "irm name list - "},
		{"ipcp list help", "irm ipcp list - "},
		{"--version", "irm version " + applets.Version},
		{"-v", "irm version " + applets.Version},
		{"version", "irm version " + applets.Version},
		{"–-help", "irm - "},
		{"name register –help", "irm name register - "},
		{"ipcp --version", "irm version " + applets.Version},
		{"name create --version", "irm version " + applets.Version},
		{"ipcp create --version", "irm version " + applets.Version},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			f := &fakeIRMd{}
			out, err := irm(f, strings.Fields(tt.line)...)
			if err != nil || !strings.HasPrefix(out, tt.first) || f.asked != nil {
				t.Errorf("printed %q, error %v, asked %q", out, err, f.asked)
			}
		})
	}
}

// TestExamplesParse: what help tells people to type is right.
func TestExamplesParse(t *testing.T) {
	for _, root := range []*command{root, madeRoot} {
		testExamplesParse(t, root)
	}
}

func testExamplesParse(t *testing.T, root *command) {
	check := func(c *command, path string) {
		for line := range strings.Lines(c.example) {
			line, _, _ = strings.Cut(line, " > ") // the rest is the shell's
			line, _, _ = strings.Cut(line, " | ")
			args := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(line, "irm "), "'", ""))
			if r, err := root.parse(args); err != nil || r.ask != askRun {
				t.Errorf("%s: example %q: %v", path, line, err)
			}
		}
		if c.example == "" || c.summary == "" {
			t.Errorf("%q: no example or no summary", path)
		}
	}
	check(root, "")
	for _, c := range root.sub {
		check(c, c.name)
	}
	eachCommand(root, "", func(c *command, path string) {
		check(c, path)
		if c.limit == 0 && c != watch && c != top || c.tried == nil || c.run == nil {
			t.Errorf("%q: incomplete", path)
		}
		if out, err := irmOf(root, &fakeIRMd{}, append(strings.Fields(path), "--help")...); err != nil || strings.Contains(out, "\n\n\n") {
			t.Errorf("%q: two empty lines, or %v, in\n%s", path, err, out)
		}
	})
}

// TestHelpText compares what help prints with testdata, which -update
// writes.
func TestHelpText(t *testing.T) {
	for _, line := range []string{"", "ipcp", "ipcp bootstrap", "name register", "name list"} {
		out, err := irm(&fakeIRMd{}, append(strings.Fields(line), "--help")...)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "help", strings.Join(append([]string{"irm"}, strings.Fields(line)...), "-")+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || out != string(want) {
			t.Errorf("%s: printed\n%s, want\n%s(%v)", file, out, want, err)
		}
		for l := range strings.Lines(out) {
			if n := width(strings.TrimSuffix(l, "\n")); n > 100 {
				t.Errorf("%s: a line of %d columns: %s", file, n, l)
			}
		}
	}
}
